"""What docs/slides.md and detection.md walk through: drawn slides, figures and experts' votes, and pictures.

    python -m docs.make_slides_example FOLDER              # slides, figures and recipes
    python -m docs.make_slides_example FOLDER --votes      # what two experts would download
    python -m docs.make_slides_example FOLDER --pictures   # docs/slides-review.png and -maps.png

No real slide, patch or expert is in it.
"""

import argparse
import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amf.data.reviews import COLUMNS
from docs.make_example_report import DOCS, draw_patch, take_screenshot
from test.support.slides import lay, write_pyramid
from test.support.stores import detections, write_store

SLIDES = ["lab-a", "lab-b"]
FIGURES = 40
DISAGREEMENT = 10
"""Every tenth figure the second expert sees otherwise than the first."""

DATA = """\
sources:
  - source: review
    dataset: lab-a
    votes: [{folder}/review-Anna.csv, {folder}/review-Ben.csv]
  - source: review
    dataset: lab-b
    votes: [{folder}/review-Anna-b.csv, {folder}/review-Ben-b.csv]
"""
RECIPE = """\
name: demo
model:
  backbone: compact
  weights: random
  train: all
  arguments: {widths: [8, 16], blocks: [1, 1]}
  hidden: 8
  field_of_view_px: 80
  input_px: 32
optimise:
  epochs: 4
  batch: 16
  learning_rate: 0.01
"""


def main(arguments: list[str] | None = None) -> None:
    """Write what is asked for into the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--votes", action="store_true")
    parser.add_argument("--pictures", action="store_true")
    options = parser.parse_args(arguments)
    if options.votes:
        for slide, suffix in zip(SLIDES, ("", "-b"), strict=True):
            write_votes(options.folder, slide, suffix)
    elif options.pictures:
        photograph(options.folder / "review.html")
    else:
        draw(options.folder)


def draw(folder: Path) -> None:
    """Two slides; figures of the first as QuPath and TIAToolbox write them, of the second as a table."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, slide in enumerate(SLIDES):
        generator = np.random.default_rng(number)
        canvas, centres = lay([draw_patch(figure % 2, generator) for figure in range(FIGURES)], columns=10)
        write_pyramid(folder / f"{slide}.tif", canvas, 0.25)
        if number:
            pd.DataFrame(centres, columns=["x", "y"]).to_csv(folder / f"{slide}.csv", index=False)
            continue
        features = [
            {
                "type": "Feature",
                "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{slide} {x} {y}")),
                "geometry": {"type": "Point", "coordinates": [x, y]},
                "properties": {"objectType": "detection", "name": f"figure {figure}"},
            }
            for figure, (x, y) in enumerate(centres)
        ]
        collection = {"type": "FeatureCollection", "features": features}
        (folder / f"{slide}.geojson").write_text(json.dumps(collection))
        (folder / "detections").mkdir(exist_ok=True)
        store = folder / "detections" / f"{slide}.db"
        store.unlink(missing_ok=True)
        write_store(store, detections(centres))
        half = canvas.shape[1] // 2, canvas.shape[0]
        (folder / "area.geojson").write_text(json.dumps(rectangle("left half", *half)))
    pairs = [(f"{SLIDES[0]}.tif", f"{SLIDES[0]}.geojson", f"{SLIDES[0]}.answers.csv")]
    pairs += [(f"{SLIDES[1]}.tif", f"{SLIDES[1]}.csv", f"{SLIDES[1]}.answers.csv")]
    pd.DataFrame(pairs, columns=["slide", "figures", "output"]).to_csv(folder / "pairs.csv", index=False)
    (folder / "data.yaml").write_text(DATA.format(folder=folder.as_posix()))
    (folder / "recipe.yaml").write_text(RECIPE)


def rectangle(name: str, width: int, height: int) -> dict[str, Any]:
    """A region from the slide's corner, as QuPath exports an annotation."""
    ring = [[0, 0], [width, 0], [width, height], [0, height], [0, 0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "name": name},
    }


def write_votes(folder: Path, slide: str, suffix: str) -> None:
    """Votes on the figures of one slide, every second of which was drawn atypical, by two experts."""
    answers = pd.read_csv(folder / f"{slide}.answers.csv")
    truth = np.arange(len(answers)) % 2 == 1
    otherwise = np.arange(len(answers)) % DISAGREEMENT == 0
    for expert, seen in [("Anna", truth), ("Ben", truth ^ otherwise)]:
        votes = answers.assign(
            vote=np.where(seen, "atypical", "normal"), expert=expert, time="2026-01-01T12:00:00.000Z"
        )
        columns = [*COLUMNS[:5], "class", "confidence", *COLUMNS[5:]]
        votes[columns].to_csv(folder / f"review-{expert}{suffix}.csv", index=False)


def photograph(page: Path) -> None:
    """Two pictures of the page: as it opens, and with its maps laid over."""
    with tempfile.TemporaryDirectory() as name:
        take_screenshot(page.resolve(), DOCS / "slides-review.png", Path(name) / "first", 1100, 800)
        shown = Path(name) / "maps.html"
        ticked = page.read_text().replace('<input id="maps"', '<input id="maps" checked', 1)
        shown.write_text(ticked.replace('<body class="wide">', '<body class="wide maps">', 1))
        take_screenshot(shown, DOCS / "slides-review-maps.png", Path(name) / "second", 1100, 800)


if __name__ == "__main__":
    main()
