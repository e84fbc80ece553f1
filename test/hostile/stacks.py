"""Stacks that are refused, each with its sentence, and unusual ones that are read, each with its pixels.

Those whose kind begins with MHA are MetaImages; the others are TIFFs.
"""

import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from test.support.made import ASCII, LONG, RATIONAL, SHORT, UNHEARD_OF, Page, Tag, mha, rgb_page, tiff

Pages = NDArray[np.uint8]

PAGES: Pages = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
FIRST = PAGES[0]
RAW = PAGES.tobytes()
PAGE_BYTES = FIRST.nbytes
OWN_DIRECTORY = 8 + PAGE_BYTES + 6  # where made.tiff puts its first page's directory: header, pixels, BITS


def name_of(kind: str) -> str:
    return "a.mha" if kind.startswith("MHA") else "a.tif"


def encoded(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    """An image as Pillow writes it."""
    file = io.BytesIO()
    (image or Image.fromarray(FIRST)).save(file, format=format, **options)
    return file.getvalue()


def page(*strips: bytes, **tags: Any) -> bytes:
    """A TIFF of one page; tags by name."""
    return tiff([Page(strips, {Tag[name]: value for name, value in tags.items()})])


def deflated(strip: bytes, **tags: Any) -> bytes:
    return page(zlib.compress(strip), COMPRESSION=(SHORT, [8]), **tags)


def tiles(size: int) -> list[bytes]:
    steps = range(0, 128, size)
    return [FIRST[y : y + size, x : x + size].tobytes() for y in steps for x in steps]


def compressed_mha(pixels: bytes) -> bytes:
    return mha(pixels, 3, CompressedData=True)


PLAIN = tiff([rgb_page(p) for p in PAGES])
GREY = {"PHOTOMETRIC": (SHORT, [1]), "SAMPLES": (SHORT, [1])}
TILED = {"TILE_WIDTH": (LONG, [64]), "TILE_HEIGHT": (LONG, [64])}
SAME_PIXELS = Page([], {Tag.OFFSETS: (LONG, [8]), Tag.COUNTS: (LONG, [PAGE_BYTES])})  # as the first page

BAD_STACKS: dict[str, tuple[bytes, str]] = {
    "zero bytes": (b"", "is empty"),
    "text": (b"this is not an image" * 50, "is not a TIFF"),
    "a PNG": (encoded("PNG"), "is not a TIFF"),
    "a MetaImage named TIFF": (mha(RAW, 3), "is not a TIFF"),
    "MHA: a TIFF": (PLAIN, "is not an MHA stack"),
    "a header alone": (PLAIN[:8], "behind its end"),
    "no page": (b"II*\0" + bytes(4), "is not a TIFF"),
    "cut in a page": (PLAIN[:60_000], "behind its end"),
    "a chain that bites its tail": (
        tiff([rgb_page(p) for p in PAGES], after_last=OWN_DIRECTORY),
        "page 3 is followed by an earlier page",
    ),
    "1,025 pages": (tiff([rgb_page(FIRST)] + [SAME_PIXELS] * 1024), "holds more than 1024 pages"),
    "another size": (page(RAW, HEIGHT=(SHORT, [64])), "page 1 is 128 x 64 px, expected 128 x 128"),
    "another size on page 2": (
        tiff([rgb_page(FIRST), Page([RAW], {Tag.WIDTH: (SHORT, [96])})]),
        "page 2 is 96 x 128 px",
    ),
    "no width": (page(RAW, WIDTH=None), "a.tif"),
    "a bomb: 10,000 x 10,000 px in 300 kB": (
        deflated(bytes(10**8), WIDTH=(LONG, [10**4]), HEIGHT=(LONG, [10**4])),
        "page 1 is 10000 x 10000 px",
    ),
    "1 bit": (page(bytes(2048), BITS=(SHORT, [1]), **GREY), "holds mode 1 with 1 bits a sample"),
    "8-bit grey": (page(bytes(16384), BITS=(SHORT, [8]), **GREY), "holds mode L"),
    "16-bit RGB": (page(RAW, BITS=(SHORT, [16] * 3)), "16 bits a sample"),
    "signed RGB": (page(RAW, SAMPLE_FORMAT=(SHORT, [2, 2, 2])), "a.tif"),
    "no offsets": (page(RAW, OFFSETS=None), "a.tif"),
    "pixels behind the end": (page(RAW, OFFSETS=(LONG, [10**8])), "truncated"),
    "Deflate that stops early": (deflated(RAW[:20_000]), "page 1 is damaged"),
    "Deflate that is none": (page(RAW, COMPRESSION=(SHORT, [8])), "page 1 is damaged"),
    "an unknown compression": (page(RAW, COMPRESSION=(SHORT, [999])), "a.tif"),
    "a third of the planes": (
        page(FIRST[..., 0].tobytes(), PLANAR=(SHORT, [2])),
        "1 strips or tiles, expected 3",
    ),
    "a missing tile": (page(*tiles(64)[:3], **TILED), "holds 3 strips or tiles, expected 4"),
    "strips of no rows": (page(RAW, ROWS=(SHORT, [0])), "a.tif"),
    "tiles of nothing": (page(*tiles(64), **{**TILED, "TILE_WIDTH": (LONG, [0])}), "a.tif"),
    "MHA: text": (b"this is not an image\n" * 50, "is not an MHA stack: its header holds 'this is"),
    "MHA: only fields": (b"".join(b"K%d = v\n" % n for n in range(1000)), "no ElementDataFile"),
    "MHA: another file": (mha(RAW, 3, ElementDataFile="/etc/passwd"), "in another file"),
    "MHA: a list of files": (mha(RAW, 3, ElementDataFile="LIST"), "in another file"),
    "MHA: a field given twice": (b"NDims = 3\n" + mha(RAW, 3), "holds 'NDims = 3"),
    "MHA: 2 billion pages": (mha(RAW, 2**31 - 1), "holds 2147483647 pages, expected 1 to 1024"),
    "MHA: no pages": (mha(b"", 0), "holds 0 pages"),
    "MHA: minus three pages": (mha(RAW, -3), "has size 128 x 128 x -3"),
    "MHA: no size": (mha(RAW, DimSize=None), "has pages of px"),
    "MHA: another size": (mha(RAW, DimSize="128 64 6"), "has pages of 128 x 64 px"),
    "MHA: four dimensions": (mha(RAW, DimSize="128 128 3 1", NDims=4), "128 x 128 x 3 x 1"),
    "MHA: grey": (mha(RAW, 9, ElementNumberOfChannels=None), "holds 1 x 'MET_UCHAR'"),
    "MHA: 16-bit": (mha(RAW * 2, 3, ElementType="MET_USHORT"), "holds 3 x 'MET_USHORT'"),
    "MHA: pixels as text": (mha(b"7 " * len(RAW), 3, BinaryData=False), "pixels as text"),
    "MHA: pixels elsewhere": (mha(RAW, 3, HeaderSize=10**12), "or elsewhere"),
    "MHA: too few pixels": (mha(RAW[:-1], 3), "holds 147455 bytes of pixels, expected 147456"),
    "MHA: too many pixels": (mha(RAW, 2), "holds 147456 bytes of pixels, expected 98304"),
    "MHA: Deflate that stops early": (compressed_mha(zlib.compress(RAW)[:-1]), "truncated or damaged"),
    "MHA: Deflate that is none": (compressed_mha(RAW), "cannot be decompressed"),
    "MHA: a bomb of 100 MB": (compressed_mha(zlib.compress(bytes(10**8))), "does not decompress to"),
    "MHA: too many pixels, compressed": (compressed_mha(zlib.compress(RAW + RAW)), "does not decompress"),
    "MHA: compressed, of unknown size": (
        mha(zlib.compress(RAW), 3, CompressedData="true", CompressedDataSize=None),
        "has CompressedDataSize missing",
    ),
    "MHA: a spacing of NaN": (mha(RAW, 3, ElementSpacing="nan 0 -1"), "cannot be read by SimpleITK"),
}


def converted(mode: str) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(FIRST).convert(mode).convert("RGB"))


def jpeg_pixels(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


PALETTE = np.random.default_rng(1).integers(0, 256, (16, 3), dtype=np.uint8)
FOUR_BITS = np.random.default_rng(2).integers(0, 16, (128, 128), dtype=np.uint8)
PLANES = [FIRST[..., channel].tobytes() for channel in range(3)]
JPEG = encoded("JPEG", quality=90, subsampling=0)
RGBA = np.concatenate([PAGES, PAGES[..., :1]], axis=-1).tobytes()

UNUSUAL_STACKS: dict[str, tuple[bytes, NDArray[np.uint8]]] = {
    "PackBits": (encoded("TIFF", compression="packbits"), FIRST),
    "LZW": (encoded("TIFF", compression="tiff_lzw"), FIRST),
    "JPEG": (page(JPEG, COMPRESSION=(SHORT, [7]), PHOTOMETRIC=(SHORT, [6])), jpeg_pixels(JPEG)),
    "palette": (encoded("TIFF", Image.fromarray(FIRST).convert("P")), converted("P")),
    "palette of 4 bits": (
        page(
            ((FOUR_BITS[:, ::2] << 4) | FOUR_BITS[:, 1::2]).tobytes(),
            BITS=(SHORT, [4]),
            SAMPLES=(SHORT, [1]),
            PHOTOMETRIC=(SHORT, [3]),
            COLOUR_MAP=(SHORT, [int(value) * 257 for value in PALETTE.T.ravel()]),
        ),
        PALETTE[FOUR_BITS],
    ),
    "CMYK": (encoded("TIFF", Image.fromarray(FIRST).convert("CMYK")), converted("CMYK")),
    "alpha": (encoded("TIFF", Image.fromarray(FIRST).convert("RGBA")), FIRST),
    "tiles": (page(*tiles(64), **TILED), FIRST),
    "compressed tiles larger than the page": (
        deflated(
            np.pad(FIRST, ((0, 128), (0, 128), (0, 0))).tobytes(),
            TILE_WIDTH=(SHORT, [256]),
            TILE_HEIGHT=(SHORT, [256]),
        ),
        FIRST,
    ),
    "planes": (page(*PLANES, PLANAR=(SHORT, [2])), FIRST),
    "compressed planes": (
        page(*map(zlib.compress, PLANES), PLANAR=(SHORT, [2]), COMPRESSION=(SHORT, [8])),
        FIRST,
    ),
    "many strips": (page(*(row.tobytes() for row in FIRST), ROWS=(SHORT, [1])), FIRST),
    "big-endian": (tiff([rgb_page(p) for p in PAGES], order=">"), PAGES),
    "BigTIFF": (tiff([rgb_page(p) for p in PAGES], big=True), PAGES),
    "a tag that libtiff remarks on": (deflated(RAW[:PAGE_BYTES], PRIVATE=(UNHEARD_OF, [1])), FIRST),
    "no resolution": (page(RAW[:PAGE_BYTES], X_RESOLUTION=None, RESOLUTION_UNIT=None), FIRST),
    "an infinite resolution": (page(RAW[:PAGE_BYTES], X_RESOLUTION=(RATIONAL, [1, 0])), FIRST),
    "a resolution in words": (page(RAW[:PAGE_BYTES], X_RESOLUTION=(ASCII, b"fine\0")), FIRST),
    "MHA: a single page without depth": (mha(RAW[:PAGE_BYTES], NDims=2, DimSize="128 128"), PAGES[:1]),
    "MHA: compressed": (compressed_mha(zlib.compress(RAW)), PAGES),
    "MHA: 3,000 fields": (mha(RAW, 3, **{f"Field {n}": "x" for n in range(3000)}), PAGES),
    "MHA: blank lines": (b"\n \n" + mha(RAW, 3).replace(b"NDims", b"\n\nNDims"), PAGES),
    "MHA: colons": (mha(b"", 3).replace(b" =", b":") + RAW, PAGES),
    "MHA: BinaryData = 1": (mha(RAW, 3, BinaryData="1"), PAGES),
    "MHA: no BinaryData": (mha(RAW, 3, BinaryData=None), PAGES),
    "MHA: local": (mha(RAW, 3, ElementDataFile="local"), PAGES),
    "MHA: alpha": (mha(RGBA, 3, ElementNumberOfChannels=4), PAGES),
    "MHA: Windows line ends": (mha(b"", 3).replace(b"\n", b"\r\n") + RAW, PAGES),
}
