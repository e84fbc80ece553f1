"""Every bad job is one sentence and no output; every unusual one that holds 8-bit colour is scored."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from amf.errors import JobError
from amf.inference import job, stack
from amf.inference.sockets import INPUT_SOCKET as SOCKET
from amf.inference.sockets import OUTPUT_NAME
from amf.inference.stderr import silence

from .conftest import ROOT, save_tiff, write_job
from .made import ASCII, DOUBLE, FLOAT, LONG, RATIONAL, SHORT, UNHEARD_OF, Page, Tag, mha, rgb_page, tiff

Make = Callable[..., Path]
Pages = NDArray[np.uint8]

PAGES: Pages = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
FIRST = PAGES[0]
RAW = PAGES.tobytes()
PAGE_BYTES = FIRST.nbytes
OWN_DIRECTORY = 8 + PAGE_BYTES + 6  # where made.tiff puts its first page's directory: header, pixels, BITS


def stack_folder(folder: Path) -> Path:
    return folder / "images" / SOCKET


def the_stack(folder: Path) -> Path:
    (path,) = stack_folder(folder).iterdir()
    return path


def replace_by(make: Callable[[Path], object], of: Callable[[Path], Path]) -> Callable[[Path], object]:
    """Put something else in the place of a file of the job."""

    def damage(folder: Path) -> None:
        path = of(folder)
        path.unlink()
        make(path)

    return damage


def sockets_file(folder: Path) -> Path:
    return folder / "inputs.json"


def sockets(edit: Callable[[Any], Any]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        content = json.loads(sockets_file(folder).read_text())
        sockets_file(folder).write_text(json.dumps(edit(content)))

    return damage


def interface(**changes: object) -> Callable[[Path], object]:
    def edit(content: Any) -> Any:
        content[0]["interface"].update(changes)
        return content

    return sockets(edit)


def text(content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: sockets_file(folder).write_bytes(data)


def link_stack_outside(folder: Path) -> None:
    outside = the_stack(folder).rename(folder.parent / "outside.tif")
    (stack_folder(folder) / "a.tif").symlink_to(outside)


def link_folder_outside(folder: Path) -> None:
    outside = stack_folder(folder).rename(folder.parent / "outside")
    stack_folder(folder).symlink_to(outside)


def sparse(path: Path) -> None:
    """A file of a terabyte that takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(1 << 40)


BAD_JOBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no inputs.json": (lambda f: sockets_file(f).unlink(), "inputs.json cannot be read: No such file"),
    "inputs.json is a folder": (replace_by(Path.mkdir, sockets_file), "inputs.json cannot be read"),
    "inputs.json is a pipe": (replace_by(os.mkfifo, sockets_file), "it is not a regular file"),
    "inputs.json is a circle of links": (
        replace_by(lambda path: path.symlink_to(path), sockets_file),
        "inputs.json cannot be read",
    ),
    "inputs.json of a terabyte": (replace_by(sparse, sockets_file), "holds more than 1048576 bytes"),
    "inputs.json is empty": (text(""), "inputs.json is not valid JSON"),
    "not JSON": (text("[{"), "inputs.json is not valid JSON"),
    "not text": (text(b"\xff\x00"), "inputs.json is not valid JSON"),
    "endless nesting": (text("[" * 10**6), "inputs.json is not valid JSON"),
    "a number of a million digits": (text("9" * 10**6), "inputs.json is not valid JSON"),
    "not a list": (sockets(lambda c: 7), "is not a list of sockets"),
    "null": (sockets(lambda c: None), "is not a list of sockets"),
    "text alone": (sockets(lambda c: "socket"), "is not a list of sockets"),
    "an object": (sockets(lambda c: {"a": 1}), "is not a list of sockets"),
    "no interface": (sockets(lambda c: [{}]), "is not a list of sockets"),
    "interface is null": (sockets(lambda c: [{"interface": None}]), "is not a list of sockets"),
    "socket is text": (sockets(lambda c: [{"socket": SOCKET}]), "is not a list of sockets"),
    "socket without a path": (sockets(lambda c: [{"socket": {"slug": SOCKET}}]), "is not a list of sockets"),
    "socket and interface are null": (
        sockets(lambda c: [{"socket": None, "interface": None}]),
        "is not a list of sockets",
    ),
    "socket beside an interface that is text": (
        sockets(lambda c: [{"socket": c[0]["interface"], "interface": SOCKET}]),
        "is not a list of sockets",
    ),
    "socket and interface differ in slug": (
        sockets(lambda c: [{**c[0], "socket": {**c[0]["interface"], "slug": "another"}}]),
        f"has slug 'another' under socket and '{SOCKET}' under interface, expected the same",
    ),
    "socket and interface differ in path": (
        sockets(lambda c: [{**c[0], "socket": {**c[0]["interface"], "relative_path": "x"}}]),
        "has relative_path 'x' under socket and 'images/",
    ),
    "socket has a path, interface none": (
        sockets(lambda c: [{"socket": c[0]["interface"], "interface": {"slug": SOCKET}}]),
        "under socket and None under interface",
    ),
    "no sockets": (sockets(lambda c: []), "has sockets []"),
    "another socket": (interface(slug="histopathology-roi"), "has sockets ['histopathology-roi']"),
    "a slug that is no text": (interface(slug=[SOCKET]), "has sockets [["),
    "a slug without end": (interface(slug="x" * 10**5), "has sockets ['xxx"),
    "two sockets": (sockets(lambda c: c * 2), "expected ['stacked-histopathology-roi-cropouts']"),
    "a path that is no text": (interface(relative_path=3), "relative_path 3"),
    "a path with NUL": (interface(relative_path="a\0b"), "expected a path"),
    "a path of half a character": (interface(relative_path="\ud800"), "expected a path"),
    "a path without end": (interface(relative_path="a/" * 10**5), "expected a path"),
    "a name of 300 characters": (interface(relative_path="a" * 300), "cannot be read: File name too long"),
    "a path out of the job": (interface(relative_path="../x"), "leads out of the job"),
    "an absolute path": (interface(relative_path="/etc"), "leads out of the job"),
    "a path elsewhere": (interface(relative_path="images/x"), "x cannot be read: No such file"),
    "a path to a file": (interface(relative_path="inputs.json"), "cannot be read: Not a directory"),
    "a path to the job itself": (interface(relative_path=""), "holds 'images', 'inputs.json'"),
    "a folder that is a circle of links": (
        lambda f: (shutil.rmtree(stack_folder(f)), stack_folder(f).symlink_to(stack_folder(f))),
        "expected a path",
    ),
    "a folder that is a link outside": (link_folder_outside, "leads out of the job"),
    "no image": (lambda f: the_stack(f).unlink(), "holds nothing, expected exactly one stack"),
    "only a text file": (lambda f: the_stack(f).rename(stack_folder(f) / "a.txt"), "holds 'a.txt'"),
    "two images": (lambda f: save_tiff(stack_folder(f) / "b.tiff", PAGES), "expected exactly one stack"),
    "a stack that is a folder": (replace_by(Path.mkdir, the_stack), "is not a regular file"),
    "a stack that is a pipe": (replace_by(os.mkfifo, the_stack), "is not a regular file"),
    "a stack that is a device": (
        replace_by(lambda path: path.symlink_to("/dev/zero"), the_stack),
        "leads out of the job",
    ),
    "a stack that is a link outside": (link_stack_outside, "leads out of the job"),
    "a stack that is a link to nothing": (
        replace_by(lambda path: path.symlink_to("nothing"), the_stack),
        "is not a regular file",
    ),
    "a stack that is a circle of links": (
        replace_by(lambda path: path.symlink_to(path), the_stack),
        "a path",
    ),
    "a stack of a terabyte": (replace_by(sparse, the_stack), "holds 1099511627776 bytes"),
    "a bad stack whose name holds newlines": (
        lambda f: (the_stack(f).unlink(), (stack_folder(f) / "a\nb\r\n.tif").write_bytes(b"x")),
        "a b .tif is not a TIFF",
    ),
}


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


PLAIN = tiff([rgb_page(p) for p in PAGES])
GREY = {"PHOTOMETRIC": (SHORT, [1]), "SAMPLES": (SHORT, [1])}
TILED = {"TILE_WIDTH": (LONG, [64]), "TILE_HEIGHT": (LONG, [64])}
SAME_PIXELS = Page([], {Tag.OFFSETS: (LONG, [8]), Tag.COUNTS: (LONG, [PAGE_BYTES])})  # as the first page
HUGE = [2**31 - 1]

BAD_STACKS: dict[str, tuple[str, bytes, str]] = {
    "zero bytes": ("a.tif", b"", "is empty"),
    "text": ("a.tif", b"this is not an image" * 50, "is not a TIFF"),
    "a PNG": ("a.tif", encoded("PNG"), "is not a TIFF"),
    "a GIF": ("a.tiff", encoded("GIF"), "is not a TIFF"),
    "a pickle": ("a.tif", pickle.dumps(PAGES), "is not a TIFF"),
    "a MetaImage named TIFF": ("a.tif", mha(RAW, 3), "is not a TIFF"),
    "a TIFF named MetaImage": ("a.mha", PLAIN, "is not an MHA stack"),
    "a header alone": ("a.tif", PLAIN[:8], "behind its end"),
    "no page": ("a.tif", b"II*\0" + bytes(4), "is not a TIFF"),
    "cut in a page": ("a.tif", PLAIN[:60_000], "behind its end"),
    "cut in the last directory": ("a.tif", PLAIN[:-30], "behind its end"),
    "cut before the last link": ("a.tif", PLAIN[:-2], "behind its end"),
    "a directory without entries": ("a.tif", b"II*\0\x08\0\0\0" + bytes(6), "is not a TIFF"),
    "a directory that follows itself": (
        "a.tif",
        tiff([rgb_page(FIRST)], after_last=OWN_DIRECTORY),
        "page 1 is followed by an earlier page",
    ),
    "a chain that bites its tail": (
        "a.tif",
        tiff([rgb_page(p) for p in PAGES], after_last=OWN_DIRECTORY),
        "page 3 is followed by an earlier page",
    ),
    "a next page behind the end": ("a.tif", tiff([rgb_page(FIRST)], after_last=10**9), "behind its end"),
    "a next page in the header": ("a.tif", tiff([rgb_page(FIRST)], after_last=1), "a.tif"),
    "10,000 pages": (
        "a.tif",
        tiff([rgb_page(FIRST)] + [SAME_PIXELS] * 9999),
        "holds more than 1024 pages",
    ),
    "another size": ("a.tif", page(RAW, HEIGHT=(SHORT, [64])), "page 1 is 128 x 64 px, expected 128 x 128"),
    "another size on page 2": (
        "a.tif",
        tiff([rgb_page(FIRST), Page([RAW], {Tag.WIDTH: (SHORT, [96])})]),
        "page 2 is 96 x 128 px",
    ),
    "no width": ("a.tif", page(RAW, WIDTH=None), "a.tif"),
    "a width that is text": ("a.tif", page(RAW, WIDTH=(ASCII, b"128\0")), "a.tif"),
    "a width of nothing": ("a.tif", page(RAW, WIDTH=(SHORT, [0])), "a.tif"),
    "a width of NaN": ("a.tif", page(RAW, WIDTH=(FLOAT, [float("nan")])), "a.tif"),
    "4,611,686,014,132,420,609 declared pixels": (
        "a.tif",
        page(RAW, WIDTH=(LONG, HUGE), HEIGHT=(LONG, HUGE)),
        "a.tif",
    ),
    "a bomb: 10,000 x 10,000 px in 300 kB": (
        "a.tif",
        deflated(bytes(10**8), WIDTH=(LONG, [10**4]), HEIGHT=(LONG, [10**4])),
        "page 1 is 10000 x 10000 px",
    ),
    "1 bit": (
        "a.tif",
        page(bytes(2048), BITS=(SHORT, [1]), **GREY),
        "holds mode 1 with 1 bits a sample, expected 8-bit colour",
    ),
    "8-bit grey": ("a.tif", page(bytes(16384), BITS=(SHORT, [8]), **GREY), "holds mode L"),
    "8-bit grey with alpha": (
        "a.tif",
        page(
            bytes(32768),
            BITS=(SHORT, [8, 8]),
            PHOTOMETRIC=(SHORT, [1]),
            SAMPLES=(SHORT, [2]),
            EXTRA_SAMPLES=(SHORT, [2]),
        ),
        "holds mode LA",
    ),
    "grey on page 2": (
        "a.tif",
        tiff(
            [
                rgb_page(FIRST),
                Page(
                    [RAW], {Tag.BITS: (SHORT, [8]), Tag.PHOTOMETRIC: (SHORT, [1]), Tag.SAMPLES: (SHORT, [1])}
                ),
            ]
        ),
        "page 2 holds mode L",
    ),
    "16-bit grey": ("a.tif", page(RAW, BITS=(SHORT, [16]), **GREY), "16 bits a sample"),
    "16-bit RGB": ("a.tif", page(RAW, BITS=(SHORT, [16] * 3)), "16 bits a sample"),
    "floats": (
        "a.tif",
        page(RAW, BITS=(SHORT, [32]), SAMPLE_FORMAT=(SHORT, [3]), **GREY),
        "holds mode F",
    ),
    "signed RGB": ("a.tif", page(RAW, SAMPLE_FORMAT=(SHORT, [2, 2, 2])), "a.tif"),
    "RGB of uneven bits": ("a.tif", page(RAW, BITS=(SHORT, [8, 8, 16])), "a.tif"),
    "65,535 samples": ("a.tif", page(RAW, SAMPLES=(SHORT, [65535])), "a.tif"),
    "no offsets": ("a.tif", page(RAW, OFFSETS=None), "a.tif"),
    "pixels behind the end": ("a.tif", page(RAW, OFFSETS=(LONG, [10**8])), "truncated"),
    "compressed pixels behind the end": ("a.tif", deflated(RAW, OFFSETS=(LONG, [10**8])), "is damaged"),
    "4 GB of compressed pixels declared": ("a.tif", deflated(RAW, COUNTS=(LONG, [2**32 - 1])), "is damaged"),
    "Deflate that stops early": ("a.tif", deflated(RAW[:20_000]), "page 1 is damaged"),
    "Deflate that is none": ("a.tif", page(RAW, COMPRESSION=(SHORT, [8])), "page 1 is damaged"),
    "LZW that is none": ("a.tif", page(b"\0" * 99, COMPRESSION=(SHORT, [5])), "page 1 is damaged"),
    "JPEG that is none": (
        "a.tif",
        page(RAW, COMPRESSION=(SHORT, [7]), PHOTOMETRIC=(SHORT, [6])),
        "page 1 is damaged",
    ),
    "an unknown compression": ("a.tif", page(RAW, COMPRESSION=(SHORT, [999])), "a.tif"),
    "a third of the planes": (
        "a.tif",
        page(FIRST[..., 0].tobytes(), PLANAR=(SHORT, [2])),
        "1 strips or tiles, expected 3",
    ),
    "tiles that take 1.6 GB": (
        "a.tif",
        deflated(b"", TILE_WIDTH=(LONG, [16384]), TILE_HEIGHT=(LONG, [32768])),
        "has tiles of 16384 x 32768 px, expected at most 1024",
    ),
    "tiles of nothing": ("a.tif", page(*tiles(64), **{**TILED, "TILE_WIDTH": (LONG, [0])}), "a.tif"),
    "a missing tile": ("a.tif", page(*tiles(64)[:3], **TILED), "holds 3 strips or tiles, expected 4"),
    "big-endian BigTIFF": ("a.tif", tiff([rgb_page(FIRST)], order=">", big=True), "is not a TIFF"),
    "MHA: text": ("a.mha", b"this is not an image\n" * 50, "is not an MHA stack: its header holds 'this is"),
    "MHA: a header without end": ("a.mha", b"Comment = x" * 10_000, "is not an MHA stack"),
    "MHA: 1,000 fields": ("a.mha", b"".join(b"K%d = v\n" % n for n in range(1000)), "no ElementDataFile"),
    "MHA: another file": ("a.mha", mha(RAW, 3, ElementDataFile="/etc/passwd"), "in another file"),
    "MHA: a list of files": ("a.mha", mha(RAW, 3, ElementDataFile="LIST"), "in another file"),
    "MHA: a pattern of files": ("a.mha", mha(RAW, 3, ElementDataFile="%d.raw 1 3 1"), "in another file"),
    "MHA: another file behind a colon": (
        "a.mha",
        mha(RAW, 3).replace(b"ElementDataFile", b"ElementDataFile : /etc/passwd\nElementDataFile"),
        "in another file",
    ),
    "MHA: a field given twice": ("a.mha", b"NDims = 3\n" + mha(RAW, 3), "holds 'NDims = 3"),
    "MHA: 2 billion pages": ("a.mha", mha(RAW, 2**31 - 1), "holds 2147483647 pages, expected 1 to 1024"),
    "MHA: no pages": ("a.mha", mha(b"", 0), "holds 0 pages"),
    "MHA: minus three pages": ("a.mha", mha(RAW, -3), "has size 128 x 128 x -3"),
    "MHA: no size": ("a.mha", mha(RAW, DimSize=None), "has pages of px"),
    "MHA: another size": ("a.mha", mha(RAW, DimSize="128 64 6"), "has pages of 128 x 64 px"),
    "MHA: four dimensions": ("a.mha", mha(RAW, DimSize="128 128 3 1", NDims=4), "128 x 128 x 3 x 1"),
    "MHA: minus one dimension": ("a.mha", mha(RAW, 3, NDims=-1), "a.mha has size"),
    "MHA: minus one dimension behind a carriage return": (
        "a.mha",
        mha(RAW, 3, Comment="a\rNDims = -1"),
        "holds NDims twice",
    ),
    "MHA: minus one dimension in a long field": (
        "a.mha",
        mha(RAW, 3, Comment="x" * 5000 + " NDims = -1"),
        "holds NDims twice",
    ),
    "MHA: another file behind a field that ITK cuts": (
        "a.mha",
        mha(b"\nElementDataFile = /etc/passwd\n" + RAW[31:], 3, ElementType="MET_UCHAR", Comment="x" * 5000),
        "holds ElementDataFile twice",
    ),
    "MHA: a size that is given as DimSize and in DimSizes": (
        "a.mha",
        mha(RAW, 3, DimSizes="1 1 1"),
        "holds DimSize twice",
    ),
    "MHA: a field that ITK cuts": ("a.mha", mha(RAW, 3, Comment="x" * 5000), "cannot be read by SimpleITK"),
    "MHA: a line without a separator": (
        "a.mha",
        mha(RAW, 3).replace(b"NDims", b"no field\nNDims"),
        "its header holds 'no field'",
    ),
    "MHA: a spacing of NaN": ("a.mha", mha(RAW, 3, ElementSpacing="nan 0 -1"), "read by SimpleITK"),
    "MHA: no compressed size": (
        "a.mha",
        mha(zlib.compress(RAW), 3, CompressedData=True, CompressedDataSize=None),
        "has CompressedDataSize missing, expected the 147507 bytes that follow",
    ),
    "MHA: a compressed size without end": (
        "a.mha",
        mha(zlib.compress(RAW), 3, CompressedData=True, CompressedDataSize=10**18),
        "has CompressedDataSize 1000000000000000000",
    ),
    "MHA: a compressed size of half": (
        "a.mha",
        mha(zlib.compress(RAW), 3, CompressedData=True, CompressedDataSize=73_000),
        "has CompressedDataSize 73000",
    ),
    "MHA: a compressed damage": (
        "a.mha",
        mha(zlib.compress(RAW)[:70_000] + b"damage" + zlib.compress(RAW)[70_006:], 3, CompressedData=True),
        "a.mha",
    ),
    "MHA: compressed pixels, counted from the end": (
        "a.mha",
        mha(zlib.compress(RAW), 3, CompressedData=True, HeaderSize=-1),
        "or elsewhere",
    ),
    "MHA: grey": ("a.mha", mha(RAW, 9, ElementNumberOfChannels=None), "holds 1 x 'MET_UCHAR'"),
    "MHA: four channels declared, three there": (
        "a.mha",
        mha(RAW, 3, ElementNumberOfChannels=4),
        "holds 147456 bytes of pixels, expected 196608",
    ),
    "MHA: five channels": ("a.mha", mha(RAW, 3, ElementNumberOfChannels=5), "holds 5 x 'MET_UCHAR'"),
    "MHA: 16-bit": ("a.mha", mha(RAW * 2, 3, ElementType="MET_USHORT"), "holds 3 x 'MET_USHORT'"),
    "MHA: floats": ("a.mha", mha(RAW * 4, 3, ElementType="MET_FLOAT"), "holds 3 x 'MET_FLOAT'"),
    "MHA: pixels as text": ("a.mha", mha(b"7 " * len(RAW), 3, BinaryData=False), "pixels as text"),
    "MHA: pixels elsewhere": ("a.mha", mha(RAW, 3, HeaderSize=10**12), "or elsewhere"),
    "MHA: too few pixels": ("a.mha", mha(RAW[:-1], 3), "holds 147455 bytes of pixels, expected 147456"),
    "MHA: too many pixels": ("a.mha", mha(RAW, 2), "holds 147456 bytes of pixels, expected 98304"),
    "MHA: Deflate that stops early": (
        "a.mha",
        mha(zlib.compress(RAW)[:-1], 3, CompressedData=True),
        "truncated or damaged",
    ),
    "MHA: Deflate that is none": ("a.mha", mha(RAW, 3, CompressedData=True), "cannot be decompressed"),
    "MHA: a bomb of 100 MB": (
        "a.mha",
        mha(zlib.compress(bytes(10**8)), 3, CompressedData=True),
        "does not decompress to 147456 bytes",
    ),
    "MHA: too many pixels, compressed": (
        "a.mha",
        mha(zlib.compress(RAW), 2, CompressedData=True),
        "does not decompress to 98304 bytes",
    ),
    "MHA: too few pixels, compressed": (
        "a.mha",
        mha(zlib.compress(RAW[:-1]), 3, CompressedData=True),
        "does not decompress to 147456 bytes",
    ),
}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / OUTPUT_NAME).write_text("the answer to an earlier job")
    return folder


def refusal(folder: Path, output: Path, model: Path) -> str:
    """Run a bad job: it must end soon, in one sentence, without output and without much memory."""
    peak = peak_memory()
    started = time.process_time()
    with pytest.raises(JobError) as caught:
        job.run(folder, output, model, "cpu")
    assert time.process_time() - started < 10
    assert peak_memory() - peak < 300e6
    assert caught.value.exit_code == 2
    assert not list(output.iterdir())
    message = str(caught.value)
    assert "\n" not in message
    assert 10 < len(message) <= 1000
    return message


def peak_memory() -> float:
    """Bytes of the largest resident set so far; the mark is set back, so that the next is one's own."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return 1024 * float(status[status.index("VmHWM:") :].split()[1])


def test_the_tables_hold_what_was_promised() -> None:
    assert len(BAD_JOBS) + len(BAD_STACKS) >= 120
    assert len(UNUSUAL_STACKS) >= 25


@pytest.mark.parametrize("kind", BAD_JOBS)
def test_a_bad_job_is_one_sentence_and_no_output(
    make_job: Make, make_bundle: Make, output: Path, kind: str
) -> None:
    folder = make_job(PAGES)
    damage, message = BAD_JOBS[kind]
    damage(folder)
    assert message in refusal(folder, output, make_bundle())


@pytest.mark.parametrize("kind", BAD_STACKS)
def test_a_bad_stack_is_one_sentence_and_no_output(
    tmp_path: Path, make_bundle: Make, output: Path, kind: str
) -> None:
    name, content, message = BAD_STACKS[kind]
    (write_job(tmp_path / "input", name) / name).write_bytes(content)
    found = refusal(tmp_path / "input", output, make_bundle())
    assert message in found
    assert name in found


PERMISSIONS = """
import sys
from pathlib import Path
from amf.inference import job
from amf.errors import AmfError
root = Path(sys.argv[1])
for path in (root / "input/inputs.json", root / "input/images", *root.glob("input/images/*/*")):
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        job.run(root / "input", root / "output", root / "bundle", "cpu")
    except AmfError as error:
        print(error.exit_code, error)
    path.chmod(mode)
(root / "output").chmod(0o555)
try:
    job.run(root / "input", root / "output", root / "bundle", "cpu")
except AmfError as error:
    print(error.exit_code, error)
"""


def test_what_may_not_be_read_or_written_is_one_sentence(
    make_job: Make, make_bundle: Make, output: Path, tmp_path: Path
) -> None:
    make_job(PAGES)
    make_bundle()
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may read everything, and there is no setpriv to take that right away")
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, sys.executable, "-c", PERMISSIONS, tmp_path], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr == ""
    unreadable_sockets, unreadable_folder, unreadable_stack, read_only = done.stdout.splitlines()
    assert unreadable_sockets.endswith("inputs.json cannot be read: Permission denied")
    assert unreadable_folder.endswith(f"{SOCKET} cannot be read: Permission denied")
    assert unreadable_stack.endswith(".tif cannot be read: Permission denied")
    assert read_only.endswith("output is not a folder that can be written to")
    assert all(line.startswith("2 ") for line in done.stdout.splitlines())


def converted(mode: str) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(FIRST).convert(mode).convert("RGB"))


def jpeg_pixels(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


PALETTE = np.random.default_rng(1).integers(0, 256, (16, 3), dtype=np.uint8)
FOUR_BITS = np.random.default_rng(2).integers(0, 16, (128, 128), dtype=np.uint8)
PLANES = [FIRST[..., channel].tobytes() for channel in range(3)]
JPEG = encoded("JPEG", quality=90, subsampling=0)


def with_tags(**tags: Any) -> bytes:
    return page(FIRST.tobytes(), **tags)


RGBA = np.concatenate([PAGES, PAGES[..., :1]], axis=-1).tobytes()
UNUSUAL_STACKS: dict[str, tuple[str, bytes, NDArray[np.uint8]]] = {
    "uncompressed": ("a.tif", PLAIN, PAGES),
    "PackBits": ("a.tif", encoded("TIFF", compression="packbits"), FIRST),
    "LZW": ("a.tif", encoded("TIFF", compression="tiff_lzw"), FIRST),
    "Deflate, old code": ("a.tif", encoded("TIFF", compression="tiff_deflate"), FIRST),
    "JPEG": (
        "a.tif",
        page(JPEG, COMPRESSION=(SHORT, [7]), PHOTOMETRIC=(SHORT, [6])),
        jpeg_pixels(JPEG),
    ),
    "palette": ("a.tif", encoded("TIFF", Image.fromarray(FIRST).convert("P")), converted("P")),
    "palette of 4 bits": (
        "a.tif",
        page(
            ((FOUR_BITS[:, ::2] << 4) | FOUR_BITS[:, 1::2]).tobytes(),
            BITS=(SHORT, [4]),
            SAMPLES=(SHORT, [1]),
            PHOTOMETRIC=(SHORT, [3]),
            COLOUR_MAP=(SHORT, [int(value) * 257 for value in PALETTE.T.ravel()]),
        ),
        PALETTE[FOUR_BITS],
    ),
    "CMYK": ("a.tif", encoded("TIFF", Image.fromarray(FIRST).convert("CMYK")), converted("CMYK")),
    "alpha": ("a.tif", encoded("TIFF", Image.fromarray(FIRST).convert("RGBA")), FIRST),
    "tiles": ("a.tif", page(*tiles(64), **TILED), FIRST),
    "compressed tiles larger than the page": (
        "a.tif",
        deflated(
            np.pad(FIRST, ((0, 128), (0, 128), (0, 0))).tobytes(),
            TILE_WIDTH=(SHORT, [256]),
            TILE_HEIGHT=(SHORT, [256]),
        ),
        FIRST,
    ),
    "planes": ("a.tif", page(*PLANES, PLANAR=(SHORT, [2])), FIRST),
    "compressed planes": (
        "a.tif",
        page(*map(zlib.compress, PLANES), PLANAR=(SHORT, [2]), COMPRESSION=(SHORT, [8])),
        FIRST,
    ),
    "many strips": (
        "a.tif",
        page(*(row.tobytes() for row in FIRST), ROWS=(SHORT, [1])),
        FIRST,
    ),
    "big-endian": ("a.tif", tiff([rgb_page(p) for p in PAGES], order=">"), PAGES),
    "BigTIFF": ("a.tif", tiff([rgb_page(p) for p in PAGES], big=True), PAGES),
    "1,024 pages": (
        "a.tif",
        tiff([rgb_page(FIRST)] + [SAME_PIXELS] * 1023),
        np.broadcast_to(FIRST, (1024, 128, 128, 3)),
    ),
    "more compressed data than the page takes": ("a.tif", deflated(RAW + bytes(10**8)), FIRST),
    "a tag that libtiff remarks on": (
        "a.tif",
        deflated(FIRST.tobytes(), PRIVATE=(UNHEARD_OF, [1])),
        FIRST,
    ),
    "no resolution": ("a.tif", with_tags(X_RESOLUTION=None, RESOLUTION_UNIT=None), FIRST),
    "a resolution of nothing by nothing": ("a.tif", with_tags(X_RESOLUTION=(RATIONAL, [0, 0])), FIRST),
    "an infinite resolution": ("a.tif", with_tags(X_RESOLUTION=(RATIONAL, [1, 0])), FIRST),
    "a resolution of NaN": (
        "a.tif",
        with_tags(X_RESOLUTION=(DOUBLE, [float("nan")]), RESOLUTION_UNIT=(SHORT, [2])),
        FIRST,
    ),
    "a resolution in words": ("a.tif", with_tags(X_RESOLUTION=(ASCII, b"fine\0")), FIRST),
    "a resolution in units unheard of": ("a.tif", with_tags(RESOLUTION_UNIT=(SHORT, [77])), FIRST),
    "MHA: a single page without depth": (
        "a.mha",
        mha(FIRST.tobytes(), NDims=2, DimSize="128 128"),
        PAGES[:1],
    ),
    "MHA: compressed": ("a.mha", mha(zlib.compress(RAW), 3, CompressedData=True), PAGES),
    "MHA: fields of its own": ("a.mha", mha(RAW, 3, Comment="a = b", Patient="x"), PAGES),
    "MHA: 3,000 fields": ("a.mha", mha(RAW, 3, **{f"Field {n}": "x" for n in range(3000)}), PAGES),
    "MHA: a field of 20,000 bytes": ("a.mha", mha(RAW, 3, Patient="x" * 20_000), PAGES),
    "MHA: blank lines": ("a.mha", b"\n \n" + mha(RAW, 3).replace(b"NDims", b"\n\nNDims"), PAGES),
    "MHA: colons": ("a.mha", mha(b"", 3).replace(b" =", b":") + RAW, PAGES),
    "MHA: BinaryData = true": ("a.mha", mha(RAW, 3, BinaryData="true"), PAGES),
    "MHA: BinaryData = 1": ("a.mha", mha(RAW, 3, BinaryData="1"), PAGES),
    "MHA: no BinaryData": ("a.mha", mha(RAW, 3, BinaryData=None), PAGES),
    "MHA: CompressedData = true": ("a.mha", mha(zlib.compress(RAW), 3, CompressedData="true"), PAGES),
    "MHA: HeaderSize = -1": ("a.mha", mha(RAW, 3, HeaderSize=-1), PAGES),
    "MHA: HeaderSize = -1 and a gap": ("a.mha", mha(b"a gap\n" + RAW, 3, HeaderSize=-1), PAGES),
    "MHA: local": ("a.mha", mha(RAW, 3, ElementDataFile="local"), PAGES),
    "MHA: a spacing of less than nothing": ("a.mha", mha(RAW, 3, ElementSpacing="1 1 -1"), PAGES),
    "MHA: alpha": ("a.mha", mha(RGBA, 3, ElementNumberOfChannels=4), PAGES),
    "MHA: alpha, compressed": (
        "a.mha",
        mha(zlib.compress(RGBA), 3, CompressedData=True, ElementNumberOfChannels=4),
        PAGES,
    ),
    "MHA: a name that is no UTF-8": (os.fsdecode(b"\xff\n.mha"), mha(RAW, 3), PAGES),
    "MHA: Windows line ends": ("a.MHA", mha(b"", 3).replace(b"\n", b"\r\n") + RAW, PAGES),
}


@pytest.mark.parametrize("kind", UNUSUAL_STACKS)
def test_an_unusual_stack_is_read_pixel_for_pixel_and_in_silence(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name, content, expected = UNUSUAL_STACKS[kind]
    (tmp_path / name).write_bytes(content)
    with silence():
        read = stack.read_stack(tmp_path / name)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, expected.reshape(-1, 128, 128, 3))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["big-endian", "MHA: compressed"])
def test_an_unusual_stack_is_scored(
    tmp_path: Path, make_bundle: Make, output: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name, content, expected = UNUSUAL_STACKS[kind]
    (write_job(tmp_path / "input", name) / name).write_bytes(content)
    job.run(tmp_path / "input", output, make_bundle(), "cpu")
    assert len(json.loads((output / OUTPUT_NAME).read_text())) == len(expected)
    assert capfd.readouterr().err == ""


UNUSUAL_SOCKETS: dict[str, Callable[[str], bytes]] = {
    "UTF-8 with a byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "keys given twice, the last one counts": lambda text: text.replace(
        '"slug"', '"slug": "another", "slug"'
    ).encode(),
    "NaN in a field that is not read": lambda text: text.replace('"image"', '"pk": NaN, "image"').encode(),
    "white space without end": lambda text: (" " * 900_000 + text).encode(),
    "socket in place of interface": lambda text: text.replace('"interface"', '"socket"').encode(),
    "socket, and interface null": lambda text: text.replace(
        '"interface"', '"interface": null, "socket"'
    ).encode(),
    "socket and interface": lambda text: json.dumps(
        [{**entry, "socket": {**entry["interface"], "is_image_kind": True}} for entry in json.loads(text)]
    ).encode(),
}


@pytest.mark.parametrize("kind", UNUSUAL_SOCKETS)
def test_an_unusual_description_of_a_job_is_understood(make_job: Make, kind: str) -> None:
    folder = make_job(PAGES)
    file = sockets_file(folder)
    file.write_bytes(UNUSUAL_SOCKETS[kind](file.read_text()))
    assert job.find_stack(folder) == the_stack(folder)


def test_a_hidden_file_beside_the_stack_is_no_second_stack(make_job: Make) -> None:
    folder = make_job(PAGES)
    (stack_folder(folder) / ".DS_Store").touch()
    assert job.find_stack(folder).name == "0f1e2d.tif"


def test_a_link_that_stays_inside_the_job_is_followed(make_job: Make) -> None:
    folder = make_job(PAGES)
    the_stack(folder).rename(folder / "elsewhere.tif")
    (stack_folder(folder) / "a.tif").symlink_to(folder / "elsewhere.tif")
    np.testing.assert_array_equal(stack.read_stack(job.find_stack(folder)), PAGES)


def test_a_stack_of_any_name_is_scored(tmp_path: Path, make_bundle: Make, output: Path) -> None:
    name = os.fsdecode(b"-\xff\n\x1b[31m.tif")  # no UTF-8, a line break, a terminal's escape
    (write_job(tmp_path / "input", "a.tif") / name).write_bytes(PLAIN)
    command = [sys.executable, ROOT / "inference.py", "--input", tmp_path / "input", "--output", output]
    done = subprocess.run([*command, "--model", make_bundle()], capture_output=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(json.loads((output / OUTPUT_NAME).read_text())) == len(PAGES)
