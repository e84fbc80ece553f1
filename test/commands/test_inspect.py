import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from amf.cli import main as amf
from test.support.bundles import weights_of


def test_inspect_says_what_the_bundle_holds(
    make_bundle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_bundle(name="two", members=2, views=8, temperature=1.5, bias=-0.75, threshold=0.25)
    with safe_open(weights_of(model), "pt") as file:
        statistics = ("running_mean", "running_var", "num_batches_tracked")  # buffers, not parameters
        shapes = [file.get_slice(key).get_shape() for key in file.keys() if not key.endswith(statistics)]  # noqa: SIM118
    parameters = 0
    for shape in shapes:
        count = 1
        for side in shape:
            count *= side
        parameters += count

    assert amf(["inspect", str(model)]) == 0

    out = capsys.readouterr().out
    assert out.count("weights    member") == 2
    assert f"compact (widths=[8, 16], blocks=[1, 1]), {parameters:,} parameters" in out
    assert "temperature 1.5, bias -0.75, threshold 0.25" in out
    assert "centre 80 px to 64 px, bilinear" in out
    assert "8 of the 8 symmetries" in out
    assert "nothing: random weights" in out


def test_inspect_refuses_a_damaged_bundle(
    make_bundle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_bundle()
    weights = weights_of(model)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    assert amf(["inspect", str(model)]) == 3

    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{weights} has SHA-256" in captured.err


def test_nested_provenance_is_printed_a_line_a_value(
    make_bundle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from amf.commands.inspect import describe
    from amf.model import bundle

    folder = make_bundle()
    spec = bundle.read_spec(folder)
    bundle.write_spec(folder, dataclasses.replace(spec, provenance={"metrics": {"test": {"BA": 0.8251234}}}))
    lines = list(describe(folder, bundle.load(folder)))
    assert lines[-3:] == ["  metrics", "    test", "      BA: 0.825123"]
