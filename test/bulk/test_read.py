"""Files of any kind as pages: the fast way to read a plain PNG gives what Pillow gives, and no more."""

import io
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from amf.bulk.read import read_pages
from amf.data.patch_file import MAX_PLAIN_PNG_BYTES, read_patch
from amf.errors import JobError
from test.support.jobs import save_tiff

Pages = NDArray[np.uint8]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the files that were given to the fast decoder."""
    sizes: list[int] = []
    original = imagecodecs.spng_decode
    monkeypatch.setattr(
        imagecodecs, "spng_decode", lambda data: sizes.append(len(data)) or original(data), raising=False
    )
    return sizes


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def png_with_filter(pixels: np.ndarray, kind: int) -> bytes:
    """A PNG whose rows all have one filter, worked out from the standard's definitions."""
    raw = pixels.astype(np.int16)  # (128, 128, 3)
    left, up, corner = (np.zeros_like(raw) for _ in range(3))
    left[:, 1:], up[1:], corner[1:, 1:] = raw[:, :-1], raw[:-1], raw[:-1, :-1]
    estimate = left + up - corner
    distance = np.stack([abs(estimate - near) for near in (left, up, corner)])
    paeth = np.choose(distance.argmin(0), [left, up, corner])
    predicted = [np.zeros_like(raw), left, up, (left + up) // 2, paeth][kind]
    rows = ((raw - predicted) % 256).astype(np.uint8).reshape(128, -1)
    filtered = np.insert(rows, 0, kind, axis=1).tobytes()
    header = b"\0\0\0\x80\0\0\0\x80\x08\x02\0\0\0"
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(filtered)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("kind", range(5))
def test_a_plain_png_is_read_fast_whatever_its_filter(
    tmp_path: Path, pages: Pages, decoded: list[int], kind: int
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_with_filter(pages[0], kind))
    read = read_patch(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pages[0])
    assert decoded == [path.stat().st_size]


def text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "0.25 um/px", zip=True)
    info.add(b"gAMA", (30000).to_bytes(4, "big"))
    return info


@pytest.mark.parametrize(
    ("mode", "options", "fast"),
    [
        ("RGB", {"compress_level": 0}, True),
        ("RGB", {"optimize": True, "dpi": (102351, 102351)}, True),
        ("RGB", {"pnginfo": text()}, True),
        ("RGB", {"transparency": (200, 100, 150)}, True),
        ("RGB", {"icc_profile": b"not a profile"}, True),
        ("RGBA", {}, False),
        ("P", {}, False),
    ],
)
def test_every_png_is_read_as_pillow_reads_it(
    tmp_path: Path,
    pages: Pages,
    decoded: list[int],
    capfd: pytest.CaptureFixture[str],
    mode: str,
    options: dict[str, object],
    fast: bool,
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(pages[0]).convert(mode).save(path, **options)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_patch(path), expected)
    assert bool(decoded) == fast
    assert capfd.readouterr().err == ""


def test_a_plain_png_that_is_large_is_left_to_pillow(
    tmp_path: Path, pages: Pages, decoded: list[int]
) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"prIv", bytes(MAX_PLAIN_PNG_BYTES))
    Image.fromarray(pages[0]).save(tmp_path / "a.png", pnginfo=info)
    np.testing.assert_array_equal(read_patch(tmp_path / "a.png"), pages[0])
    assert decoded == [MAX_PLAIN_PNG_BYTES]  # cut off, and refused


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".gif"])
def test_other_formats_are_pillows(tmp_path: Path, pages: Pages, decoded: list[int], suffix: str) -> None:
    path = (tmp_path / "a").with_suffix(suffix)
    Image.fromarray(pages[0]).save(path)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_patch(path), np.asarray(image.convert("RGB")))
    assert decoded == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda png: png[:2000], "cannot be read: .*truncated"),
        (lambda png: png[:5000] + bytes([png[5000] ^ 1]) + png[5001:], "cannot be read"),
        (lambda png: png[:100].ljust(5000, b"\0"), "cannot be read"),
        (lambda png: b"", "is not an image that can be read"),
        (lambda png: b"no picture", "is not an image that can be read"),
    ],
)
def test_a_damaged_patch_is_refused_by_name(
    tmp_path: Path, pages: Pages, change: object, message: str
) -> None:
    out = io.BytesIO()
    Image.fromarray(pages[0]).save(out, format="PNG")
    (tmp_path / "a.png").write_bytes(change(out.getvalue()))  # type: ignore[operator]
    with pytest.raises(JobError, match=f"a.png {message}"):
        read_patch(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("RGB", (128, 100)), "is 128 x 100 px, expected 128 x 128"),
        (Image.new("L", (128, 128)), "holds mode L"),
        (Image.fromarray(np.zeros((128, 128), np.uint16)), "holds mode I;16"),
    ],
)
def test_another_size_or_depth_is_refused(tmp_path: Path, picture: Image.Image, message: str) -> None:
    picture.save(tmp_path / "a.png")
    with pytest.raises(JobError, match=message):
        read_patch(tmp_path / "a.png")


def test_a_stack_is_known_by_its_suffix(tmp_path: Path, pages: Pages) -> None:
    save_tiff(tmp_path / "a.TIFF", pages)
    Image.fromarray(pages[0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_pages(tmp_path / "a.TIFF"), pages)
    np.testing.assert_array_equal(read_pages(tmp_path / "a.png"), pages[:1])
