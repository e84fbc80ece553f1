"""Changed jobs, each scored or refused in one sentence: some hundred here, thousands in the soak."""

import json
import shutil
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.random import Generator

from amf.errors import JobError
from amf.inference import job
from amf.inference.sockets import INPUT_SOCKET as SOCKET
from test.hostile.stacks import UNUSUAL_STACKS, name_of
from test.support.fixtures import Capture, Make
from test.support.jobs import save_tiff, write_job
from test.support.made import SHORT, Page, Tag, mha, tiff

NUMBERS = (0, 1, 2, 3, 8, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63, 2**64 - 1)


def seeds(folder: Path) -> list[tuple[str, bytes]]:
    """Names and contents of stacks to start from: small, so that a change meets their structure."""
    flat = np.zeros((3, 128, 128, 3), np.uint8)
    flat[1:] = 200
    save_tiff(folder / "seed.tif", flat)
    deflated = [Page([zlib.compress(page.tobytes())], {Tag.COMPRESSION: (SHORT, [8])}) for page in flat]
    mine = [
        ("platform.tif", (folder / "seed.tif").read_bytes()),
        ("big-endian.tif", tiff(deflated, order=">")),
        ("big.tif", tiff(deflated, big=True)),
        ("deflated.mha", mha(zlib.compress(flat.tobytes()), 3, CompressedData=True)),
        ("flat.mha", mha(flat[0].tobytes(), 1)),
    ]
    return mine * 10 + [(name_of(kind), data) for kind, (data, _) in UNUSUAL_STACKS.items()]


def changed(original: bytes, generator: Generator) -> bytes:
    """Other bits, numbers or pieces in a few places, mostly near either end, where headers are."""
    data = bytearray(original)
    for _ in range(int(generator.geometric(0.6))):
        near = int(min(generator.integers(1, 400), len(data)))
        at = int(generator.choice([near - 1, len(data) - near, generator.integers(len(data))]))
        match int(generator.integers(8)):
            case 0 | 1 | 2:
                data[at] ^= 1 << int(generator.integers(8))
            case 3 | 4 | 5:
                size = int(generator.choice([1, 2, 4, 8]))
                number = int(NUMBERS[generator.integers(len(NUMBERS))]) % (1 << 8 * size)
                data[at : at + size] = number.to_bytes(size, "big" if generator.integers(2) else "little")
            case 6:
                del data[at : at + int(generator.integers(1, 64))]
            case _:
                data[at:at] = data[at : at + int(generator.integers(1, 256))]
    return bytes(data)


@pytest.mark.parametrize("cases", [200, pytest.param(20_000, marks=pytest.mark.soak)])
def test_changed_jobs_are_scored_or_refused(
    tmp_path: Path, make_bundle: Make, capfd: Capture, cases: int
) -> None:
    stacks, output, folder, model = seeds(tmp_path), tmp_path / "output", tmp_path / "input", make_bundle()
    output.mkdir()
    ends = Counter[str]()
    for case in range(cases):  # a case is made from its number, so it can be run again
        generator = np.random.default_rng([2025, case])
        name, data = stacks[generator.integers(len(stacks))]
        (write_job(folder, name) / name).write_bytes(changed(data, generator))
        try:
            predictions = job.run(folder, output, model, "cpu")
        except JobError as error:
            assert "\n" not in str(error), case  # noqa: PT017
            assert not list(output.iterdir()), case
            ends["refused"] += 1
        else:
            (answer,) = output.iterdir()
            written = [(entry["class"], entry["confidence"]) for entry in json.loads(answer.read_text())]
            assert written == [(p.label, p.confidence) for p in predictions], case
            ends["scored"] += 1
        assert capfd.readouterr().err == "", case
        shutil.rmtree(folder)
        shutil.rmtree(output)
        output.mkdir()
    print(dict(ends))
    assert min(ends["scored"], ends["refused"]) >= cases / 10  # changes that end alike would show nothing


LEAVES = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([SOCKET, f"images/{SOCKET}", "..", "images"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
DESCRIBED = st.fixed_dictionaries({}, optional={"slug": VALUES, "relative_path": VALUES}) | VALUES
SOCKETS = st.fixed_dictionaries({}, optional={"socket": DESCRIBED, "interface": DESCRIBED, "image": VALUES})
DESCRIPTIONS = st.lists(SOCKETS | VALUES, max_size=3) | VALUES


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(description=DESCRIPTIONS)
def test_a_description_of_any_shape_is_understood_or_refused(tmp_path: Path, description: object) -> None:
    folder = tmp_path / "input"
    if not folder.exists():
        (write_job(folder, "a.tif") / "a.tif").write_bytes(b"x")
    (folder / "inputs.json").write_text(json.dumps(description))
    try:
        found = job.find_stack(folder)
    except JobError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert found == folder / "images" / SOCKET / "a.tif"
