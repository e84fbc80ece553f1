"""Write the example report, docs/example-report.html, and its screenshot.

No real patch is in it: the pictures are drawn, and the predictions too unless a table of real ones is named.

    python -m docs.make_example_report
    python -m docs.make_example_report --predictions runs/calibration/held-out.csv --title TITLE
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from PIL import Image, ImageDraw, ImageFilter

from amf.cli import main as amf
from amf.evaluation import predictions
from amf.model.preprocess import PATCH_PX

DOCS = Path(__file__).resolve().parent
DOMAINS = ["breast", "lung", "lymphoma", "mast cell", "melanoma", "neuroendocrine", "sarcoma"]
THRESHOLD = 0.45


def main() -> None:
    """Draw, evaluate, and take the screenshot where there is a Chromium."""
    parser = argparse.ArgumentParser(description="Write docs/example-report.html.")
    parser.add_argument("--predictions", type=Path, help="a real table of predictions; default: drawn ones")
    parser.add_argument("--truth", type=Path, help="truth of the real table")
    parser.add_argument(
        "--title", default="Public patches (pictures drawn, not real)", help="with a real table"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if arguments.predictions:
            table, title = arguments.predictions, arguments.title
            figures = predictions.read(table, arguments.truth).figures
        else:
            table, title = work / "drawn.csv", "Example evaluation (drawn figures, invented scores)"
            figures = draw_predictions(np.random.default_rng(7))
            figures.to_csv(table, index=False)
        patches = work / "patches"
        draw_patches(figures, patches)
        command = ["evaluate", str(table), "--output", name, "--patches", str(patches), "--title", title]
        if arguments.truth:
            command += ["--truth", str(arguments.truth)]
        if code := amf(command):
            raise SystemExit(code)
        shutil.copy(work / "report.html", DOCS / "example-report.html")
        take_screenshot(DOCS / "example-report.html", DOCS / "example-report.png", work / "profile")


def draw_predictions(generator: np.random.Generator, slides: int = 140) -> DataFrame:
    """Invent figures with scores: slides differ, domains differ, one domain is hard."""
    rows = []
    for slide in range(slides):
        domain = slide % len(DOMAINS)
        share, shift = generator.beta(2, 9), generator.normal(0, 0.5)
        separation = 1.4 + 0.25 * domain
        for index in range(generator.integers(4, 24)):
            label = int(generator.random() < share)
            logit = float(generator.normal(separation * (2 * label - 1) + shift, 1.3))
            confidence = 1 / (1 + np.exp(-logit))
            rows.append(
                {
                    "image": f"slide{slide:03}_{index:02}.png",
                    "class": "atypical" if confidence >= THRESHOLD else "normal",
                    "confidence": confidence,
                    "logit": logit,
                    "label": label,
                    "slide": f"slide{slide:03}",
                    "domain": DOMAINS[domain],
                }
            )
    return DataFrame(rows)


def draw_patches(figures: DataFrame, folder: Path) -> None:
    """Draw a patch for every figure whose picture a gallery may show: those that are wrong."""
    folder.mkdir()
    predicted = (
        figures["predicted"] if "predicted" in figures else (figures["class"] == "atypical").astype(int)
    )
    wrong = figures[predicted != figures["label"]]
    for number, (image, label) in enumerate(zip(wrong["image"], wrong["label"], strict=True)):
        drawn = draw_patch(label, np.random.default_rng(number))
        Image.fromarray(drawn).save(folder / PurePath(image).with_suffix(".png").name)


def draw_patch(label: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """A cartoon of a mitotic figure: two plates in anaphase, or three poles with a lagging piece if atypical.

    Returns
    -------
    (128, 128, 3) uint8.
    """
    side = PATCH_PX * 2
    picture = Image.new("RGB", (side, side), (226, 190, 214))
    brush = ImageDraw.Draw(picture)
    for x, y in generator.integers(0, side, (9, 2)):  # neighbouring nuclei, pale
        radius = int(generator.integers(14, 26))
        shade = int(generator.integers(150, 180))
        brush.ellipse(
            [x - radius, y - radius, x + radius, y + radius * 0.8], fill=(shade, shade - 35, shade + 20)
        )
    centre = side / 2
    brush.ellipse([centre - 58, centre - 52, centre + 58, centre + 52], fill=(236, 208, 226))
    turn, poles = generator.random() * np.pi, 3 if label else 2
    for pole in range(poles):
        angle = turn + 2 * np.pi * pole / poles + generator.normal(0, 0.1)
        x, y = centre + 24 * np.cos(angle), centre + 24 * np.sin(angle)
        along = angle + np.pi / 2
        dx, dy = 25 * np.cos(along), 25 * np.sin(along)
        brush.line([x - dx, y - dy, x + dx, y + dy], fill=(70, 32, 96), width=int(generator.integers(11, 16)))
    if label:
        x, y = centre + generator.normal(0, 6, 2)
        brush.ellipse([x - 6, y - 6, x + 6, y + 6], fill=(70, 32, 96))
    picture = picture.filter(ImageFilter.GaussianBlur(2.2)).resize(
        (PATCH_PX, PATCH_PX), Image.Resampling.LANCZOS
    )
    noise = generator.normal(0, 7, (PATCH_PX, PATCH_PX, 3))
    return np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)


def take_screenshot(page: Path, picture: Path, profile: Path, width: int = 1280, height: int = 1720) -> None:
    """Photograph the top of the page with a headless Chromium, if one is installed."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium found: no screenshot taken")
        return
    subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", f"--user-data-dir={profile}", f"--window-size={width},{height}",
            f"--screenshot={picture}", page.as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    photograph = Image.open(picture).convert("RGB")
    photograph.quantize(96, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    main()
