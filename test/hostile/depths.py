"""Patch files of every depth, and files that hold more than one picture."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from test.support.made import SHORT, Page, Tag, rgb_page, tiff


def png(colour: int, depth: int, samples: NDArray[np.uint8 | np.uint16], palette: bytes = b"") -> bytes:
    """A PNG of 128 x 128 px by the standard, `samples` (128, 128, channels) as they are stored."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = samples.astype(">u2" if depth == 16 else np.uint8).reshape(128, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", 128, 128, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"PLTE", palette) if palette else b""]
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")])


def saved(pages: NDArray[np.uint8], kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(out, format=kind, **(options | ({"append_images": rest, "save_all": True} if rest else {})))
    return out.getvalue()


def written(pages: NDArray[np.generic], **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pages, **{"photometric": "rgb", **options})
    return out.getvalue()


DEEP = np.random.default_rng(0).integers(0, 65536, (128, 128, 4), dtype=np.uint16)

NOISE = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)

BMP_OF_5_BITS = (
    b"BM" + struct.pack("<IHHI", 54 + 128 * 256, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 128, 128, 1, 16, 0, 128 * 256, 0, 0, 0, 0) + DEEP[:, :, 0].tobytes()
)  # fmt: skip

NOT_8_BIT = {
    "PNG, 16-bit RGB": png(2, 16, DEEP[..., :3]),
    "PNG, 16-bit RGB with alpha": png(6, 16, DEEP),
    "PNG, 16-bit grey": png(0, 16, DEEP[..., :1]),
    "PNG, 16-bit grey with alpha": png(4, 16, DEEP[..., :2]),
    "PNG, 8-bit grey": png(0, 8, NOISE[0, :, :, :1]),
    "TIFF, 16-bit RGB": written(DEEP[..., :3]),
    "TIFF, 16-bit RGB with alpha": written(DEEP, extrasamples=["unassalpha"]),
    "TIFF, 16-bit CMYK": written(DEEP, photometric="separated"),
    "TIFF, 16-bit RGB, deflated": written(DEEP[..., :3], compression="deflate"),
    "TIFF, 16-bit RGB, in planes": written(np.moveaxis(DEEP[..., :3], 2, 0), planarconfig="separate"),
    "TIFF, signed": written(DEEP[..., :3].astype(np.int8)),
    "TIFF, 32-bit float": written(DEEP[..., :3].astype(np.float32)),
    "TIFF, 8-bit grey": written(NOISE[0, :, :, 0], photometric="minisblack"),
    "BMP, 5 bits": BMP_OF_5_BITS,
    "JPEG, 12-bit": imagecodecs.jpeg_encode(DEEP[..., :3] >> 4, bitspersample=12),
    "JPEG 2000, 16-bit": imagecodecs.jpeg2k_encode(DEEP[..., :3], level=0),
    "AVIF, 10-bit": imagecodecs.avif_encode(DEEP[..., :3] >> 6, bitspersample=10, level=90),
    "PPM, 16-bit": b"P6 128 128 65535\n" + DEEP[..., :3].astype(">u2").tobytes(),
}

HALF = {Tag.WIDTH: (SHORT, [64]), Tag.HEIGHT: (SHORT, [64])}

EIGHT_BIT = {
    "PNG": saved(NOISE[:1], "PNG"),
    "PNG, interlaced palette of 4 bits": png(3, 4, NOISE[0, :, :64, 0], bytes(range(48))),
    "BMP": saved(NOISE[:1], "BMP"),
    "TIFF": saved(NOISE[:1], "TIFF"),
    "TIFF with a smaller version": tiff([rgb_page(NOISE[0]), Page([NOISE[0, :64, :64].tobytes()], HALF)]),
    "WebP": saved(NOISE[:1], "WEBP", lossless=True),
}  # fmt: skip

STK = tiff([Page([NOISE.tobytes()], {33629: (5, [0] * 6), Tag.COUNTS: (4, [49152])})])

OME = '<OME><Image><Pixels SizeX="128" SizeY="128" SizeZ="3" SizeC="3" SizeT="1"/></Image></OME>'

MORE_THAN_IS_READ = {
    "ImageJ, truncated": written(NOISE, imagej=True, truncate=True),
    "tifffile, truncated": written(NOISE, truncate=True),
    "nothing says so, truncated": written(NOISE, truncate=True, metadata=None),
    "volumetric": written(NOISE, volumetric=True, tile=(16, 16, 16)),
    "volumetric, deflated": written(NOISE, volumetric=True, tile=(16, 16, 16), compression="deflate"),
    "ImageJ's description": written(
        NOISE[:1], description="ImageJ=1.54f\nimages=3\nslices=3\n", metadata=None
    ),
    "ImageJ's hyperstack": written(
        NOISE[:1], description="ImageJ=1.54f\nslices=3\nframes=2\n", metadata=None
    ),
    "OME": written(NOISE[:1], description=OME, metadata=None),
    "MetaMorph": STK,
    "ImageDepth": tiff([Page([NOISE.tobytes()], {32997: (4, [3])})]),
    "one strip of three pages": tiff([Page([NOISE.tobytes()])]),
    "two pages and an orphan": tiff([rgb_page(NOISE[0]), Page([NOISE[1:].tobytes()])]),
}
