"""How many pages a TIFF holds, with or without a directory of their own: Pillow sees one a directory."""

import json
import math
import re
from pathlib import Path
from typing import Any, BinaryIO, Literal

from PIL import Image

from amf.errors import JobError

MAX_PAGES = 1024
"""More pages than this is a damaged or hostile file: the platform's stacks hold at most 16."""

COMPRESSION, UNCOMPRESSED = 259, 1
BITS_PER_SAMPLE, DESCRIPTION, SAMPLES_PER_PIXEL, TILE_OFFSETS = 258, 270, 277, 324
IMAGE_DEPTH, TILE_DEPTH = 32997, 32998  # of a volume in one directory
METAMORPH_PLANES = 33629  # holds one entry a plane
SUB_DIRECTORIES, EXIF, GPS = 330, 34665, 34853
"""TIFF tags, and the values of them that are meant."""

VALUE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Of one value of a TIFF type; 1 of the others."""


def tags_of(image: Image.Image) -> Any:
    """The TIFF tags of the current page; none of another format."""
    return getattr(image, "tag_v2", {})


def walk_directories(file: BinaryIO, path: Path) -> tuple[int, float]:
    """Follow the chain of page directories to its end.

    Pillow ends a chain that leads back to an earlier directory there, and would lose the pages after it.

    Returns
    -------
    How many pages there are, 0 where it is no TIFF at all; and the bytes of the file that are neither in a
    directory nor a tag's value, the pixels as a rule (minus infinity where they may be something else).
    """

    def number(size: int) -> int:
        if len(data := file.read(size)) < size:
            raise JobError(f"{path} names a page that lies behind its end: it is truncated or damaged")
        return int.from_bytes(data, order)

    if (start := file.read(2)) not in (b"II", b"MM"):
        return 0, 0
    order: Literal["little", "big"] = "little" if start == b"II" else "big"
    big = number(2) == 43  # BigTIFF: numbers of twice the width
    word, count_size, entry_size = (8, 8, 20) if big else (4, 2, 12)
    file.seek(8 if big else 4)
    offsets: set[int] = set()
    other: float = path.stat().st_size - (16 if big else 8)
    while offset := number(word):
        if offset in offsets:
            raise JobError(f"{path} page {len(offsets)} is followed by an earlier page, expected an end")
        offsets.add(offset)
        if len(offsets) > MAX_PAGES:
            raise JobError(f"{path} holds more than {MAX_PAGES} pages, expected at most that many")
        file.seek(offset)
        entries = number(count_size)
        other -= count_size + entries * entry_size + word
        content = file.read(entries * entry_size)
        for at in range(0, len(content), entry_size):
            tag, kind = (int.from_bytes(content[at + k : at + k + 2], order) for k in (0, 2))
            size = int.from_bytes(content[at + 4 : at + 4 + word], order) * VALUE_BYTES.get(kind, 1)
            other -= size if size > word else 0
            if tag in (SUB_DIRECTORIES, EXIF, GPS):  # which lead to further directories
                other = -math.inf
    return len(offsets), other


def uncompressed_bytes(image: Image.Image) -> float:
    """How many bytes a page's pixels take; infinity where they are compressed or in tiles."""
    tags = tags_of(image)
    if tags.get(COMPRESSION, UNCOMPRESSED) != UNCOMPRESSED or TILE_OFFSETS in tags:
        return math.inf
    return (
        image.width * image.height * tags.get(SAMPLES_PER_PIXEL, 1) * max(tags.get(BITS_PER_SAMPLE, (8,))) / 8
    )


def planes_described(tags: Any) -> int:
    """How many planes a TIFF directory says to hold or to begin, itself or in its description; at least 1.

    Volumes (ImageDepth), stacks of ImageJ, tifffile ("shape"), OME and MetaMorph: their writers may put all
    planes behind one directory, of which a reader of pages sees the first only.
    """
    depths = [tags.get(IMAGE_DEPTH, 1), tags.get(TILE_DEPTH, 1)]
    metamorph = tags.get(METAMORPH_PLANES, ())
    planes = [*depths, len(metamorph) if isinstance(metamorph, tuple) else 1]
    text = tags.get(DESCRIPTION, "")
    text = text.decode("latin-1") if isinstance(text, bytes) else str(text)
    if text.startswith("ImageJ="):
        fields = {key: int(value) for key, value in re.findall(r"^(\w+)=(\d{1,9})\b", text, re.MULTILINE)}
        planes += [
            fields.get("images", 1),
            math.prod(fields.get(k, 1) for k in ("channels", "slices", "frames")),
        ]
    elif "<OME" in text:
        pixels = re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", text)
        sizes = [[int(n) for n in re.findall(r'\bSize[ZT]\s*=\s*"(\d{1,9})"', start)] for start in pixels]
        planes.append(sum(map(math.prod, sizes)))
    elif text.lstrip().startswith("{"):
        planes.append(_planes_of_shape(text, tags))
    return max(int(number) for number in planes if isinstance(number, int))


def _planes_of_shape(text: str, tags: Any) -> int:
    """From what tifffile writes, {"shape": [5, 128, 128, 3]}."""
    try:
        shape = json.loads(text)["shape"]
        return math.prod(shape) // (tags.get(256) * tags.get(257) * tags.get(SAMPLES_PER_PIXEL, 1))
    except (ValueError, KeyError, TypeError, RecursionError, ZeroDivisionError):
        return 1
