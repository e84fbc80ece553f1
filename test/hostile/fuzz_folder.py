"""Folders of good and broken files through `amf predict`: each entry must be in the table or in the errors.

    python -m test.hostile.fuzz_folder [--cases 1000] [--first 0] [--folder build/fuzz-folder]

A case is made from its number, so `--first N --cases 1` repeats it. It runs in this process, with a bundle of
two small layers. A case that fails stays in the folder; the last line is the count.
"""

import csv
import faulthandler
import io
import os
import shutil
import socket
import sys
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from PIL import Image

from amf.cli import main as amf
from test.hostile.depths import EIGHT_BIT, MORE_THAN_IS_READ, NOT_8_BIT
from test.hostile.fuzz_job import main_of, mutate, seeds, write_bundle

HANG_SECONDS = 60
NAMES = (b"a", b"\xc3\xa4 \xe2\x82\xac", b"caf\xe9", b"new\nline", b'quote"d,', b"-dash", b"#x=1,y=2", b"'")
PICTURES = (("PNG", ".png"), ("JPEG", ".jpg"), ("BMP", ".BMP"), ("PNG", ".jpeg"))
READERS = {".csv": pd.read_csv, ".json": pd.read_json, ".parquet": pd.read_parquet}


def picture(generator: Generator) -> tuple[bytes, str]:
    """A good patch and its suffix."""
    kind, suffix = PICTURES[generator.integers(len(PICTURES))]
    out = io.BytesIO()
    pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    Image.fromarray(pixels).save(out, format=kind)
    return out.getvalue(), suffix


def fill(folder: Path, generator: Generator, stacks: list[tuple[str, bytes]]) -> dict[str, bool | None]:
    """Put some entries into a folder and folders below it.

    Returns
    -------
    What `amf predict` has to account for: the name it gives each entry, and whether it must be scored (True),
    must be reported (False), or may be either (None).
    """
    given: dict[str, bool | None] = {}
    folders = [folder]
    for number in range(int(generator.integers(2, 14))):
        place = folders[generator.integers(len(folders))]
        stem = os.fsdecode(NAMES[generator.integers(len(NAMES))] + b"%d" % number)
        must: bool | None = None
        match int(generator.integers(13)):
            case 0 | 1 | 2:
                content, suffix = picture(generator)
                path, must = place / (stem + suffix), True
                path.write_bytes(content)
            case 3 | 4:
                content, suffix = picture(generator)
                path = place / (stem + suffix)
                path.write_bytes(mutate(content, generator))
            case 5:
                name, content = stacks[generator.integers(len(stacks))]
                path = place / (stem + Path(name).suffix)
                path.write_bytes(content if generator.integers(2) else mutate(content, generator))
            case 6:
                kinds = [*NOT_8_BIT.values(), *MORE_THAN_IS_READ.values()]
                suffix = (".png", ".bmp")[generator.integers(2)]
                path, must = place / (stem + suffix), False
                path.write_bytes(kinds[generator.integers(len(kinds))])
            case 7:
                path, must = place / (stem + ".png"), True
                path.write_bytes(list(EIGHT_BIT.values())[generator.integers(len(EIGHT_BIT))])
            case 8:
                path, must = place / (stem + (".png", "")[generator.integers(2)]), False
                path.symlink_to(("nowhere", stem + ".png", ".")[generator.integers(3)])
            case 9:
                path, must = place / (stem + ".png"), False
                if generator.integers(2):
                    os.mkfifo(path)
                else:
                    with socket.socket(socket.AF_UNIX) as server:
                        inside = os.open(place, os.O_RDONLY)  # the path may be too long for a socket
                        server.bind(f"/proc/self/fd/{inside}/{path.name}")
                        os.close(inside)
            case 10:
                path = place / stem
                path.mkdir()
                folders.append(path)
                continue
            case 11:
                (place / f"{stem}.txt").write_text("no image")
                (place / f".{stem}.png").write_text("hidden")
                continue
            case _:
                path, must = place / (stem + ".png"), False
                path.write_bytes(generator.bytes(int(generator.integers(200))))
        name = os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")
        given[name] = must
    return given


def run_case(folder: Path, given: dict[str, bool | None], output: Path, model: Path) -> Counter[str]:
    """Score one folder; AssertionError where its table and errors are not what was put in."""
    errors = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(errors):
        code = amf(["predict", str(folder), "--model", str(model), "--output", str(output)])
    said = errors.getvalue().strip().splitlines()
    if not given:
        assert code == 2, code
        assert "No images found" in said[-1], said
        return Counter(empty=1)
    with output.open("rb"):
        scored = set(READERS[output.suffix](output)["image"]) if output.stat().st_size > 4 else set()
    reported: list[str] = []
    listed = output.with_name(f"{output.stem}.errors.csv")
    if listed.exists():
        with listed.open(newline="", encoding="utf-8") as file:
            reported = [row["image"] for row in csv.DictReader(file)]
    assert code == (2 if reported else 0), code
    assert len(reported) == len(set(reported)), "reported twice"
    assert not scored & set(reported), "scored and reported"
    assert scored | set(reported) == set(given), "given is not scored and reported"
    for name, must in given.items():
        assert must is None or (name in scored) == must, (
            f"{name!r} {'scored' if name in scored else 'reported'}"
        )
    if reported:
        assert said[-1].startswith(f"{len(reported)} of {len(given)} files could not be scored"), said
    assert not [*output.parent.glob("*.part*"), *output.parent.glob(".*")], "left behind"
    return Counter(given=len(given), scored=len(scored), reported=len(reported))


def run(first: int, count: int, folder: Path) -> dict[str, object]:
    """Run cases first to first + count - 1 and count how they end."""
    shutil.rmtree(folder, ignore_errors=True)
    model = folder / "bundle"
    write_bundle(model)
    stacks, ends, failures, slowest = seeds(), Counter[str](), [], 0.0
    for case in range(first, first + count):
        generator = np.random.default_rng([2026, case])
        place = folder / f"case-{case}"
        (place / "images").mkdir(parents=True)
        given = fill(place / "images", generator, stacks)
        output = place / f"p{list(READERS)[case % 3]}"
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=sys.__stderr__)
        started = time.process_time()
        try:
            ends += run_case(place / "images", given, output, model)
        except Exception as error:
            failures.append(f"case {case}: {type(error).__name__}: {error}")
            continue
        finally:
            faulthandler.cancel_dump_traceback_later()
        slowest = max(slowest, time.process_time() - started)
        shutil.rmtree(place)
    return {"folders": count, **ends, "failures": failures, "slowest_cpu_s": round(slowest, 2)}


if __name__ == "__main__":
    raise SystemExit(main_of(run, 1000, __doc__.splitlines()[0]))
