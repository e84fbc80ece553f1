"""Read a MetaImage (.mha) by SimpleITK, behind a gate that lets through only what it reads safely.

ITK follows a header to whatever file it names, never returns from a header with NDims = -1, and gives black
pixels, without an error, where compressed ones are damaged. So the header is checked first, spelt as ITK
would read it, and compressed pixels are checked to be whole.
"""

import re
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amf.errors import JobError
from amf.model.preprocess import PATCH_PX

MAX_HEADER_BYTES = 1 << 20
"""ITK writes every metadata field of an upload into the header; the pixels begin behind it."""

DECISIVE = (b"ElementDataFile", b"NDims", b"DimSize")
"""Fields that ITK must not meet twice, wherever it may believe that a header line begins."""


def read_mha(path: Path, max_pages: int) -> NDArray[np.uint8]:
    """Read (N, 128, 128, 3) uint8 pages of a MetaImage of 8-bit RGB; RGBA loses its alpha, as in a TIFF.

    Raises
    ------
    JobError : the file is no such image of 1 to `max_pages` pages, or names another file.
    OSError : it cannot be read.
    """
    with path.open("rb") as file:
        shape = _check(file.read(), path, max_pages)

        import SimpleITK  # a third of a second, for a TIFF too if it stood above

        SimpleITK.ProcessObject.GlobalWarningDisplayOff()
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO("MetaImageIO")
        reader.SetFileName(f"/dev/fd/{file.fileno()}")  # ITK ends the process on a name that is not UTF-8
        try:
            pixels = SimpleITK.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            reason = re.split(r"ERROR: ", str(error))[-1]
            raise JobError(f"{path} cannot be read by SimpleITK: {reason}") from error
    if pixels.dtype != np.uint8 or pixels.size != np.prod(shape):
        raise JobError(f"{path} was read as {pixels.dtype} {pixels.shape}, expected uint8 {shape}")
    return np.ascontiguousarray(pixels.reshape(shape)[..., :3])


def _check(data: bytes, path: Path, max_pages: int) -> tuple[int, int, int, int]:
    """Check a whole file; returns the shape of its pixels, (N, 128, 128, 3 or 4)."""
    fields, pixels = _split(data, path)
    if fields["ElementDataFile"] not in ("LOCAL", "Local", "local"):  # it could name any file of the machine
        raise JobError(f"{path} keeps its pixels in another file, expected ElementDataFile = LOCAL")
    channels, kind = fields.get("ElementNumberOfChannels", "1"), fields.get("ElementType", "")
    if channels not in ("3", "4") or kind != "MET_UCHAR":
        raise JobError(f"{path} holds {channels} x {kind!r} a pixel, expected 3 x 'MET_UCHAR' (8-bit RGB)")
    size = fields.get("DimSize", "").split()
    if size[:2] != [str(PATCH_PX), str(PATCH_PX)]:
        raise JobError(f"{path} has pages of {' x '.join(size[:2])} px, expected {PATCH_PX} x {PATCH_PX}")
    if len(size) > 3 or fields.get("NDims") != str(len(size)) or not re.fullmatch("[0-9]{1,10}", size[-1]):
        raise JobError(f"{path} has size {' x '.join(size)}, expected {PATCH_PX} x {PATCH_PX} x N")
    count = int(size[2]) if len(size) == 3 else 1
    if not 1 <= count <= max_pages:
        raise JobError(f"{path} holds {count} pages, expected 1 to {max_pages}")
    for name in DECISIVE:
        if data.count(name) > 1:
            raise JobError(f"{path} holds {name.decode()} twice, expected it once")

    compressed, offset = _is_true(fields, "CompressedData", "False"), fields.get("HeaderSize", "0")
    at_the_end = offset == "-1" and not compressed  # the pixels are the file's last bytes
    if not _is_true(fields, "BinaryData", "True") or not (offset == "0" or at_the_end):
        raise JobError(f"{path} holds its pixels as text or elsewhere, expected them right after the header")
    expected = count * PATCH_PX * PATCH_PX * int(channels)
    if compressed:
        _check_deflate(pixels, fields.get("CompressedDataSize"), expected, path)
    elif len(pixels) < expected or (len(pixels) > expected and not at_the_end):
        raise JobError(f"{path} holds {len(pixels)} bytes of pixels, expected {expected}")
    return count, PATCH_PX, PATCH_PX, int(channels)


def _split(data: bytes, path: Path) -> tuple[dict[str, str], memoryview]:
    """The header's fields, and what lies behind its last line, which is the one of ElementDataFile."""
    fields: dict[str, str] = {}
    start = 0
    while (end := data.find(b"\n", start, MAX_HEADER_BYTES)) >= 0:
        line = data[start:end].decode("latin-1").strip()
        start = end + 1
        if not line:
            continue
        key, *value = (part.strip() for part in re.split("[=:]", line, maxsplit=1))
        if not key or not value or key in fields:
            raise JobError(f"{path} is not an MHA stack: its header holds {line[:40]!r}")
        fields[key] = value[0]
        if key == "ElementDataFile":
            return fields, memoryview(data)[start:]
    raise JobError(f"{path} is not an MHA stack: its header has no ElementDataFile")


def _is_true(fields: dict[str, str], name: str, default: str) -> bool:
    """Whether ITK takes a field for true: it looks at the first letter alone."""
    return fields.get(name, default)[:1] in ("T", "t", "1")


def _check_deflate(pixels: memoryview, size: str | None, expected: int, path: Path) -> None:
    """Refuse compressed pixels of which ITK would make black ones: cut, damaged or of unknown size."""
    if size != str(len(pixels)):
        raise JobError(
            f"{path} has CompressedDataSize {size or 'missing'}, expected the {len(pixels)} bytes that follow"
        )
    stream = zlib.decompressobj()
    try:
        length = len(stream.decompress(pixels, expected + 1))
    except zlib.error as error:
        raise JobError(f"{path} holds pixels that cannot be decompressed: {error}") from error
    if not stream.eof or stream.unused_data or length != expected:
        raise JobError(f"{path} does not decompress to {expected} bytes of pixels: truncated or damaged")
