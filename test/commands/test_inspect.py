import dataclasses

from safetensors.torch import load_file

from amf.cli import main as amf
from amf.commands.inspect import describe
from amf.model import bundle
from test.support.bundles import weights_of
from test.support.fixtures import Capture, Make


def test_inspect_says_what_the_bundle_holds(make_bundle: Make, capsys: Capture) -> None:
    model = make_bundle(name="two", members=2, views=8, temperature=1.5, bias=-0.75, threshold=0.25)
    statistics = ("running_mean", "running_var", "num_batches_tracked")  # buffers, not parameters
    tensors = load_file(weights_of(model)).items()
    parameters = sum(tensor.numel() for name, tensor in tensors if not name.endswith(statistics))

    assert amf(["inspect", str(model)]) == 0

    out = capsys.readouterr().out
    assert out.count("weights    member") == 2
    assert f"compact (widths=[8, 16], blocks=[1, 1]), {parameters:,} parameters" in out
    assert "temperature 1.5, bias -0.75, threshold 0.25" in out
    assert "centre 80 px to 64 px, bilinear" in out
    assert "8 of the 8 symmetries" in out
    assert "nothing: random weights" in out


def test_inspect_refuses_a_damaged_bundle(make_bundle: Make, capsys: Capture) -> None:
    model = make_bundle()
    weights = weights_of(model)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    assert amf(["inspect", str(model)]) == 3

    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{weights} has SHA-256" in captured.err


def test_nested_provenance_is_printed_a_line_a_value(make_bundle: Make) -> None:
    folder = make_bundle()
    spec = dataclasses.replace(bundle.read_spec(folder), provenance={"metrics": {"test": {"BA": 0.8251234}}})
    bundle.write_spec(folder, spec)
    lines = list(describe(folder, bundle.load(folder)))
    assert lines[-3:] == ["  metrics", "    test", "      BA: 0.825123"]
