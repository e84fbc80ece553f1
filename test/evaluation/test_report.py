"""The report in a real browser at the width of a desk and of a phone, and its parts without one."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amf.cli import main as amf
from amf.evaluation import predictions, report
from docs.make_example_report import draw_patches, draw_predictions
from test.support.browser import Window

TITLE = "Figures & <figures>"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of drawn figures with drawn patches and a long title: its output folder."""
    folder = tmp_path_factory.mktemp("evaluation")
    figures = draw_predictions(np.random.default_rng(0), slides=40)
    figures["domain"] = figures["domain"].replace(
        "lung", "canine cutaneous mast cell tumour, UMC Utrecht, Hamamatsu XR"
    )
    figures.to_csv(folder / "drawn.csv", index=False)
    other = figures.assign(confidence=figures["confidence"] ** 2)
    other.to_csv(folder / "other.csv", index=False)
    draw_patches(figures, folder / "patches")
    command = ["evaluate", str(folder / "drawn.csv"), "--output", str(folder), "--title", TITLE]
    command += ["--patches", str(folder / "patches"), "--compare", str(folder / "other.csv")]
    assert amf([*command, "--replicates", "200"]) == 0
    return folder


@pytest.mark.parametrize(("width", "medium"), [(1280, "screen"), (390, "screen"), (688, "print")])
def test_page_fits_the_window(evaluated: Path, browser: Window, width: int, medium: str) -> None:
    browser.open(evaluated / "report.html", width, 2000, medium)  # 688 px are an A4 page between its margins

    seen = browser.layout()
    assert seen["window"] == width
    assert seen["page"] <= width
    assert seen["beyond"] == []
    assert len(seen["charts"]) == 5
    assert min(seen["charts"]) > (300 if medium == "screen" else 250)
    assert len(seen["pictures"]) >= 6
    assert set(seen["pictures"]) == {128}
    assert seen["requests"] == []


def test_screenshot_shows_the_charts(evaluated: Path, browser: Window) -> None:
    browser.open(evaluated / "report.html", 1280, 1700)

    picture = Image.open(io.BytesIO(browser.driver.get_screenshot_as_png()))
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape == (1700, 1280, 3)
    for colour in [(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)]:  # blue, orange, green curves
        near = np.abs(pixels - colour).max(axis=2) < 12
        assert near.sum() > 200, colour
    assert (pixels.min(axis=2) > 240).mean() > 0.5  # ink on white, no dark page


def test_page_refers_to_nothing_outside_itself(evaluated: Path) -> None:
    text = (evaluated / "report.html").read_text()
    references = re.findall(r'\b(?:src|href|srcset|action|data)="([^"]*)"', text)
    assert references
    assert all(value.startswith(("#", "data:image/jpeg;base64,")) for value in references)
    assert re.findall(r"<(?:script|link|iframe|object|base)\b|url\((?!#)|@import", text) == []
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))  # several charts on a page must not share an id
    assert {value for value in references if value.startswith("#")} <= {f"#{name}" for name in ids}


def test_page_says_what_metrics_json_holds(evaluated: Path) -> None:
    text, numbers = (
        (evaluated / "report.html").read_text(),
        json.loads((evaluated / "metrics.json").read_text()),
    )

    assert "<h1>Figures &amp; &lt;figures&gt;</h1>" in text
    assert f"<b>{numbers['aggregates']['overall_balanced_accuracy']:.4f}</b>" in text
    assert "Compared with" in text
    for name in numbers["figures"]:
        assert f"<td>{name.removeprefix('domain_')}</td>" in text


def test_same_input_gives_the_same_bytes_and_absent_pictures_are_said(
    evaluated: Path, tmp_path: Path
) -> None:
    read = predictions.read(evaluated / "drawn.csv")
    numbers = json.loads((evaluated / "metrics.json").read_text())
    again = report.render(read, numbers, TITLE, evaluated / "patches")
    assert again == (evaluated / "report.html").read_text()
    assert "image not found" in report.render(read, numbers, TITLE, tmp_path)


def test_gallery_holds_the_most_confident_errors_first(evaluated: Path) -> None:
    figures = predictions.read(evaluated / "drawn.csv").figures
    missed, alarms = (report.gallery(figures, label, evaluated / "patches") for label in (1, 0))

    wrong = figures[figures["label"] != figures["predicted"]]
    assert [card.confidence for card in missed] == sorted(wrong.loc[wrong["label"] == 1, "confidence"])[:12]
    assert [card.confidence for card in alarms] == sorted(wrong.loc[wrong["label"] == 0, "confidence"])[
        :-13:-1
    ]
    assert all(card.thumbnail for card in missed + alarms)


def test_gallery_takes_pages_out_of_stacks(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (128, 128), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    figures = predictions.DataFrame(
        {
            "image": ["a.tiff"] * 2,
            "page": [0, 1],
            "label": [0, 1],
            "predicted": [0, 0],
            "confidence": [0.1, 0.2],
        }
    )
    (card,) = report.gallery(figures, 1, tmp_path)
    assert card.name == "a.tiff, page 1"
    assert card.thumbnail is not None
    encoded = report.base64.b64decode(card.thumbnail.split(",")[1])
    red, _, blue = Image.open(report.io.BytesIO(encoded)).getpixel((64, 64))
    assert blue > 200 > 100 > red
