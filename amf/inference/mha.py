"""Read a MetaImage (.mha): text lines up to ElementDataFile, then the pixels, as ITK and panimg write them.

SimpleITK gives black pixels, without an error, for compressed ones that are damaged; this raises.
"""

import math
import re
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amf.errors import JobError
from amf.model.preprocess import PATCH_PX

ANY_HEADER = zlib.MAX_WBITS | 32
"""Has zlib recognise its own header and gzip's, as ITK does."""


def read_mha(path: Path, max_pages: int) -> NDArray[np.uint8]:
    """Read (N, 128, 128, 3) uint8 pages of a MetaImage of 8-bit RGB; RGBA loses its alpha, as in a TIFF.

    Raises
    ------
    JobError : the file is no such image of 1 to `max_pages` pages, or is damaged.
    OSError : it cannot be read.
    """
    fields, pixels = _split(path.read_bytes(), path)
    shape = _shape(fields, path, max_pages)
    expected = math.prod(shape)
    if _is_true(fields, "CompressedData", "False"):
        pixels = _decompressed(pixels, expected, path)
    if len(pixels) != expected:
        raise JobError(f"{path} holds {len(pixels)} bytes of pixels, expected {expected}")
    return np.frombuffer(pixels, np.uint8).reshape(shape)[..., :3].copy()


def _split(data: bytes, path: Path) -> tuple[dict[str, str], bytes]:
    """The header's fields, and what lies behind its last line, which is the one of ElementDataFile."""
    fields: dict[str, str] = {}
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        line = data[start:end].decode("latin-1").strip()
        start = end + 1
        if not line:
            continue
        key, *value = (part.strip() for part in re.split("[=:]", line, maxsplit=1))
        if not key or not value or key in fields:
            raise JobError(f"{path} is not an MHA stack: its header holds {line[:40]!r}")
        fields[key] = value[0]
        if key == "ElementDataFile":
            return fields, data[start:]
    raise JobError(f"{path} is not an MHA stack: its header has no ElementDataFile")


def _shape(fields: dict[str, str], path: Path, max_pages: int) -> tuple[int, int, int, int]:
    """The shape of the pixels that a header describes, (N, 128, 128, 3 or 4)."""
    if fields["ElementDataFile"].upper() != "LOCAL":
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
    if not _is_true(fields, "BinaryData", "True") or fields.get("HeaderSize", "0") != "0":
        raise JobError(f"{path} holds its pixels as text or elsewhere, expected them right after the header")
    return count, PATCH_PX, PATCH_PX, int(channels)


def _is_true(fields: dict[str, str], name: str, default: str) -> bool:
    """Whether a field is true, by its first letter, as ITK reads it."""
    return fields.get(name, default)[:1] in ("T", "t", "1")


def _decompressed(pixels: bytes, expected: int, path: Path) -> bytes:
    stream = zlib.decompressobj(ANY_HEADER)
    try:
        whole = stream.decompress(pixels, expected + 1)
    except zlib.error as error:
        raise JobError(f"{path} holds pixels that cannot be decompressed: {error}") from error
    if not stream.eof or stream.unused_data:
        raise JobError(f"{path} does not decompress to {expected} bytes of pixels: truncated or damaged")
    return whole
