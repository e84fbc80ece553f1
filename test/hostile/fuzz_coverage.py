"""Coverage-guided mutations of stacks, where atheris is installed; it is no requirement of the project.

    python -m test.hostile.fuzz_coverage [-max_total_time=600] [-artifact_prefix=FOLDER/]

Anything but pages or a JobError ends it, and the input that did it is written out.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["amf.inference.stack", "PIL.TiffImagePlugin", "PIL.TiffTags", "PIL.ImageFile"]
):
    from amf.inference import stack

from amf.errors import JobError
from test.hostile.fuzz_job import seeds

FOLDER = Path(tempfile.mkdtemp())


def read(data: bytes) -> None:
    """Read the same bytes as either kind of stack, by their first byte."""
    path = FOLDER / ("a.tif" if data[:1] in (b"I", b"M") else "a.mha")
    path.write_bytes(data)
    with contextlib.suppress(JobError):
        pages = stack.read_stack(path)
        assert pages.shape[1:] == (128, 128, 3)


if __name__ == "__main__":
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, (_, data) in enumerate(seeds()):
        (corpus / str(number)).write_bytes(data)
    atheris.Setup(
        [sys.argv[0], "-max_len=100000", "-rss_limit_mb=2048", "-timeout=10", *sys.argv[1:], str(corpus)],
        read,
    )
    atheris.Fuzz()
