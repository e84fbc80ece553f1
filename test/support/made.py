"""TIFF and MetaImage files written byte by byte, for what no library would write."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

ASCII, SHORT, LONG, RATIONAL, LONG8, UNHEARD_OF = 2, 3, 4, 5, 16, 127
FORMATS = {ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", LONG8: "Q", UNHEARD_OF: "I"}


class Tag(IntEnum):
    """The TIFF tags that matter here."""

    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    OFFSETS = 273
    SAMPLES = 277
    ROWS = 278
    COUNTS = 279
    X_RESOLUTION = 282
    PLANAR = 284
    RESOLUTION_UNIT = 296
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_COUNTS = 325
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    PRIVATE = 65000


Tags = Mapping[int, tuple[int, Sequence[float]] | None]


@dataclass
class Page:
    """One image directory: its strips (or tiles) of pixel data, and tags that override the usual ones."""

    strips: Sequence[bytes]
    tags: Tags = field(default_factory=dict)


def rgb_page(pixels: NDArray[np.uint8], tags: Tags | None = None) -> Page:
    """An uncompressed page of (H, W, 3) in one strip."""
    return Page([pixels.tobytes()], tags or {})


def tiff(pages: Sequence[Page], order: str = "<", big: bool = False, after_last: int = 0) -> bytes:
    """Write the pages; `after_last` is what the last directory names as the next one: 0 ends the chain.

    The usual tags say 128 x 128 RGB; a tag given as None is left out, as are offsets given by hand.
    """
    word = "Q" if big else "I"
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42))
    out += struct.pack(order + "HH", 8, 0) if big else b""
    link = len(out)  # where the offset of the next directory belongs
    out += struct.pack(order + word, 0)
    for page in pages:
        offsets = []
        for strip in page.strips:
            offsets.append(len(out))
            out += strip + bytes(len(strip) % 2)
        tiled = Tag.TILE_WIDTH in page.tags
        pointer = LONG8 if big else LONG
        tags = {
            Tag.WIDTH: (SHORT, [128]),
            Tag.HEIGHT: (SHORT, [128]),
            Tag.BITS: (SHORT, [8, 8, 8]),
            Tag.COMPRESSION: (SHORT, [1]),
            Tag.PHOTOMETRIC: (SHORT, [2]),
            Tag.TILE_OFFSETS if tiled else Tag.OFFSETS: (pointer, offsets),
            Tag.SAMPLES: (SHORT, [3]),
            Tag.ROWS: None if tiled else (SHORT, [128]),
            Tag.TILE_COUNTS if tiled else Tag.COUNTS: (pointer, [len(strip) for strip in page.strips]),
            **page.tags,
        }
        entries = b""
        for tag, given in sorted(tags.items()):
            if given is None:
                continue
            kind, values = given
            value = struct.pack(f"{order}{len(values)}{FORMATS[kind]}", *values)
            if len(value) > struct.calcsize(word):
                at, out = len(out), out + value
                value = struct.pack(order + word, at)
            count = len(values) // 2 if kind == RATIONAL else len(values)
            entries += struct.pack(f"{order}HH{word}", tag, kind, count) + value.ljust(8 if big else 4, b"\0")
        out += bytes(len(out) % 2)
        struct.pack_into(order + word, out, link, len(out))
        number = sum(given is not None for given in tags.values())
        out += struct.pack(order + ("Q" if big else "H"), number) + entries
        link = len(out)
        out += struct.pack(order + word, after_last)
    return bytes(out)


def mha(pixels: bytes, count: int = 1, **fields: object) -> bytes:
    """A MetaImage of `count` pages; a field given as None is left out, one given as text is written so.

    As ITK does, compressed pixels are given with their size.
    """
    header = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": False,
        "DimSize": f"128 128 {count}",
        "ElementNumberOfChannels": 3,
        "ElementType": "MET_UCHAR",
        **({"CompressedDataSize": len(pixels)} if fields.get("CompressedData") else {}),
        **fields,
    }
    data_file = header.pop("ElementDataFile", "LOCAL")
    lines = [f"{key} = {value}" for key, value in header.items() if value is not None]
    return "\n".join([*lines, f"ElementDataFile = {data_file}", ""]).encode() + pixels
