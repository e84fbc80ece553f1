"""A slide of many figures: `amf slide` against a plain loop of OpenSlide's read_region and the same network.

    python -m bench.slide [--figures 10000] [--side 40000] [--rounds 3] [--model DIR]

The slide is a pyramid of JPEG tiles of 256 px, the figures lie anywhere on it in any order. Of two
loops, one scores patch by patch, one gathers batches of 64. All run in alternation, each in a process of
its own. Medians of the figures a second once loaded are printed, ratios, and the peak of memory for all
figures and for a tenth, which should be about the same.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import tifffile
import torch
from PIL import Image, ImageFilter

from amf.inference.predict import Predictor
from amf.model import bundle
from bench.job import ROOT
from bench.predict import rate_in, run

TILE = 256
SLIDE = """
import resource, sys
from amf.cli import main
code = main(["slide", *sys.argv[1:]])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def main() -> int:
    """Measure and print; with --loop, be the loop that is measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=40_000, help="of the slide, px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, default=ROOT / "model")
    parser.add_argument("--loop", nargs=3, metavar=("SLIDE", "FIGURES", "BATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        slide, figures, batch = arguments.loop
        plain_loop(Path(slide), Path(figures), int(batch), arguments.model)
        return 0

    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        slide, figures = work / "slide.tif", work / "figures.csv"
        draw_slide(slide, arguments.side)
        draw_figures(figures, arguments.figures, arguments.side)
        print(f"{arguments.side} px square, {slide.stat().st_size / 1e6:.0f} MB, {arguments.figures} figures")
        loop = [sys.executable, "-m", "bench.slide", "--model", str(arguments.model), "--loop", str(slide)]
        rates: dict[str, list[float]] = {"amf slide": [], "loop of batches": [], "plain loop": []}
        for round_ in range(arguments.rounds + 1):  # the first round warms up and is not counted
            measured = {
                "amf slide": classify(slide, figures, arguments.model, work)[0],
                "loop of batches": rate_in(run([*loop, str(figures), "64"])),
                "plain loop": rate_in(run([*loop, str(figures), "1"])),
            }
            for label, rate in measured.items() if round_ else ():
                rates[label].append(rate)
        for label, values in rates.items():
            spread = f"{min(values):.0f} to {max(values):.0f}"
            print(f"{label:16} {statistics.median(values):6.0f} figures a second ({spread})")
        ours, batches, plain = (statistics.median(values) for values in rates.values())
        print(f"amf slide / plain loop {ours / plain:.2f}   amf slide / loop of batches {ours / batches:.2f}")

        few = work / "few.csv"
        few.write_text("".join(figures.read_text().splitlines(keepends=True)[: arguments.figures // 10 + 1]))
        peaks = [classify(slide, given, arguments.model, work)[1] for given in (few, figures)]
        print(f"peak memory {peaks[1]:.2f} GB, of a tenth of the figures {peaks[0]:.2f} GB")
    return 0


def draw_slide(path: Path, side: int) -> None:
    """A pyramid of three levels; 64 different tiles in turn, as encoding half a million takes long."""
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(64):
        noise = generator.integers(100, 256, (TILE, TILE, 3), dtype=np.uint8)
        smooth = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))
        drawn.append(imagecodecs.jpeg_encode(np.asarray(smooth), level=80, outcolorspace="YCBCR"))

    def tiles(count: int) -> Iterator[bytes]:
        for number in range(count):
            yield drawn[(number * 29) % 64]

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in range(3):
            size = side >> (2 * level)
            options = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"} if level == 0 else {}
            tiff.write(
                tiles((-(-size // TILE)) ** 2), shape=(size, size, 3), dtype=np.uint8, tile=(TILE, TILE),
                photometric="ycbcr", compression="jpeg", subsampling=(2, 2), subfiletype=int(level > 0),
                metadata=None, **options,
            )  # fmt: skip


def draw_figures(path: Path, count: int, side: int) -> None:
    """A table of places, anywhere and in any order."""
    places = np.random.default_rng(1).integers(0, side, (count, 2))
    np.savetxt(path, places, fmt="%d", delimiter=",", header="x,y", comments="")


def classify(slide: Path, figures: Path, model: Path, work: Path) -> tuple[float, float]:
    """Figures a second once loaded, and the peak of resident memory in GB, of one `amf slide`."""
    output = work / "answers.csv"
    output.unlink(missing_ok=True)
    command = [sys.executable, "-c", SLIDE, str(slide), str(figures), "--output", str(output)]
    said = run([*command, "--model", str(model), "--device", "cpu"])
    return rate_in(said), int(re.findall(r"peak (\d+)", said)[0]) * 1024 / 1e9


def plain_loop(slide_path: Path, figures: Path, batch: int, model: Path) -> None:
    """What one writes first: read_region around each figure, then the network."""
    predictor = Predictor(bundle.load(model), "cpu")
    places = np.loadtxt(figures, delimiter=",", skiprows=1, dtype=int).tolist()
    started = time.perf_counter()
    slide = openslide.OpenSlide(slide_path)
    for start in range(0, len(places), batch):
        regions = [
            slide.read_region((x - 64, y - 64), 0, (128, 128)) for x, y in places[start : start + batch]
        ]
        predictor.predict(np.stack([np.asarray(region.convert("RGB")) for region in regions]))
    seconds = time.perf_counter() - started
    print(f"scored {len(places)} figures in {seconds:.1f} s, {len(places) / seconds:.0f} a second")


if __name__ == "__main__":
    raise SystemExit(main())
