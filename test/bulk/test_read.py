"""Files of any kind as pages: the fast way to read a plain PNG gives what Pillow gives, and no more."""

import io
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from amf.bulk.read import read_pages
from amf.data.patch_file import MAX_PLAIN_PNG_BYTES, read_patch
from amf.errors import JobError
from test.support.fixtures import Capture, Pages, Patch
from test.support.jobs import save_tiff


def with_chunk(kind: bytes, content: bytes) -> dict[str, PngImagePlugin.PngInfo]:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "0.25 um/px", zip=True)
    info.add(kind, content)
    return {"pnginfo": info}


@pytest.mark.parametrize(
    ("name", "mode", "options", "fast"),
    [
        ("a.png", "RGB", {"compress_level": 0}, True),
        ("a.png", "RGB", {"optimize": True, "dpi": (102351, 102351)}, True),
        ("a.png", "RGB", with_chunk(b"gAMA", (30000).to_bytes(4, "big")), True),
        ("a.png", "RGB", {"transparency": (200, 100, 150)}, True),
        ("a.png", "RGB", {"icc_profile": b"not a profile"}, True),
        ("a.png", "RGB", with_chunk(b"prIv", bytes(MAX_PLAIN_PNG_BYTES)), False),
        ("a.png", "RGBA", {}, False),
        ("a.png", "P", {}, False),
        ("a.jpg", "RGB", {}, False),
        ("a.bmp", "RGB", {}, False),
        ("a.gif", "RGB", {}, False),
    ],
)
def test_every_patch_is_read_as_pillow_reads_it(
    tmp_path: Path,
    pages: Pages,
    monkeypatch: Patch,
    capfd: Capture,
    name: str,
    mode: str,
    options: dict[str, object],
    fast: bool,
) -> None:
    path, decoded, original = tmp_path / name, [], imagecodecs.spng_decode
    monkeypatch.setattr(
        imagecodecs, "spng_decode", lambda data: decoded.append(original(data)) or decoded[-1]
    )
    Image.fromarray(pages[0]).convert(mode).save(path, **options)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_patch(path), expected)
    assert bool(decoded) == fast
    assert capfd.readouterr().err == ""


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
    tmp_path: Path, pages: Pages, change: Callable[[bytes], bytes], message: str
) -> None:
    out = io.BytesIO()
    Image.fromarray(pages[0]).save(out, format="PNG")
    (tmp_path / "a.png").write_bytes(change(out.getvalue()))
    with pytest.raises(JobError, match=f"a.png {message}"):
        read_patch(tmp_path / "a.png")


def test_another_size_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (128, 100)).save(tmp_path / "a.png")
    with pytest.raises(JobError, match="is 128 x 100 px, expected 128 x 128"):
        read_patch(tmp_path / "a.png")


def test_a_stack_is_known_by_its_suffix(tmp_path: Path, pages: Pages) -> None:
    save_tiff(tmp_path / "a.TIFF", pages)
    Image.fromarray(pages[0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_pages(tmp_path / "a.TIFF"), pages)
    np.testing.assert_array_equal(read_pages(tmp_path / "a.png"), pages[:1])
