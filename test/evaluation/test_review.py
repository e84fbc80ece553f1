"""The review page in a real browser: sort, filter, vote, undo, reload, download; and what goes into it."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from amf.cli import main as amf
from amf.data.reviews import read_reviews
from amf.evaluation import maps, review
from docs.make_example_report import draw_patch
from test.support.jobs import save_tiff
from test.support.slides import lay, write_pyramid

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
Make = Callable[..., Path]

FIGURES = 150
THRESHOLD = 0.4


def drawn(count: int) -> list[np.ndarray]:
    return [draw_patch(number % 2, np.random.default_rng(number)) for number in range(count)]


@pytest.fixture(scope="module")
def answers() -> pd.DataFrame:
    """Invented answers for figures of two slides; names that HTML and CSV must escape."""
    confidence = np.random.default_rng(5).permutation(np.linspace(0.01, 0.99, FIGURES))
    return pd.DataFrame(
        {
            "image": [f'</script><b>,"{number:03}.png' for number in range(FIGURES)],
            "class": np.where(confidence >= THRESHOLD, "atypical", "normal"),
            "confidence": confidence,
            "slide": ["a.svs", "b, c.svs"] * (FIGURES // 2),
        }
    )


@pytest.fixture(scope="module")
def page(answers: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review")
    answers.to_csv(folder / "predictions.csv", index=False)
    pictures = np.stack(drawn(2) * (FIGURES // 2))
    pictures[:, 0, 0, 0] = np.arange(FIGURES)
    y, x = np.mgrid[:128, :128].astype(np.float32) / 20 - 3.2
    overlays = [maps.overlay(x * np.exp(-(x**2) - y**2))] * FIGURES
    read = review.read_answers(folder / "predictions.csv")
    review.write_page(folder / "page.html", read, pictures, "predictions.csv", "Test <page>", overlays)
    return folder / "page.html"


class Window:
    """A headless browser with the page open, and shorthands for what the tests ask of it."""

    def __init__(self, page: Path, folder: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--window-size=1000,900",
            f"--user-data-dir={folder / 'profile'}",
        ):  # fmt: skip
            options.add_argument(argument)
        options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
        self.folder = folder
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
        self.page = page

    def reopen(self) -> None:
        """The page as on the first day."""
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.get(self.page.as_uri())
        self.run("localStorage.clear()")
        self.driver.refresh()

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def shown(self) -> list[int]:
        return self.run("return shown.map(figure => figure.number)")

    def type(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def choose(self, control: str, value: str) -> None:
        Select(self.driver.find_element(By.ID, control)).select_by_value(value)

    def fill(self, control: str, text: str) -> None:
        box = self.driver.find_element(By.ID, control)
        box.clear()
        box.send_keys(text, Keys.TAB)

    def status(self) -> str:
        return self.driver.find_element(By.ID, "status").text

    def votes(self) -> dict[int, str]:
        return {
            int(number): word
            for number, word in self.run(
                "return figures.filter(f => votes[keyOf(f)]).map(f => [f.number, votes[keyOf(f)].vote])"
            )
        }

    def focused(self) -> str:
        return self.run("return document.activeElement.getAttribute('aria-label')") or ""


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium or no chromedriver is installed")
    opened = Window(page, tmp_path_factory.mktemp("browser"))
    yield opened
    opened.driver.quit()


@pytest.fixture
def window(browser: Window) -> Window:
    browser.reopen()
    return browser


def test_sort_filter_and_threshold(window: Window, answers: pd.DataFrame) -> None:
    confidence = answers["confidence"].to_numpy()
    assert window.shown() == np.argsort(-confidence).tolist()
    window.choose("order", "up")
    assert window.shown() == np.argsort(confidence).tolist()
    window.choose("order", "near")
    near = confidence[window.shown()]
    middle = window.run("return threshold()")
    assert confidence[answers["class"] == "normal"].max() < middle < 0.41
    distance = np.abs(np.log(near / (1 - near)) - np.log(middle / (1 - middle)))
    assert (np.diff(distance) >= 0).all()

    window.choose("class", "normal")
    assert set(window.shown()) == set(np.flatnonzero(confidence < THRESHOLD))
    window.choose("slide", "b, c.svs")
    window.fill("from", "0.2")
    window.fill("to", "0.3")
    expected = (confidence >= 0.2) & (confidence <= 0.3) & (np.arange(FIGURES) % 2 == 1)
    assert set(window.shown()) == set(np.flatnonzero(expected))
    assert window.status().startswith(f"{expected.sum()} of {FIGURES} figures shown")

    changed = window.driver.find_element(By.ID, "change")
    assert f"0 of {FIGURES} figures change class" in changed.text
    window.run("$('threshold').value = 0.6; $('threshold').dispatchEvent(new Event('input'))")
    down = ((confidence >= THRESHOLD) & (confidence < 0.6)).sum()
    assert f"{down} of {FIGURES} figures change class, 0 to atypical, {down} to normal" in changed.text


def test_vote_by_key_undo_reload_and_download(window: Window, answers: pd.DataFrame) -> None:
    window.driver.find_element(By.ID, "download").click()
    assert "Type your name first" in window.status()
    window.fill("expert", 'Dr. "A", B')
    order = window.shown()
    window.type(Keys.ESCAPE)
    window.run("document.activeElement.blur()")
    window.type("a", "n", "u", "a")  # each vote moves on to the next figure
    assert window.votes() == {order[0]: "a", order[1]: "n", order[2]: "u", order[3]: "a"}
    window.type("z")
    assert window.votes() == {order[0]: "a", order[1]: "n", order[2]: "u"}
    window.type(Keys.ARROW_LEFT, "n")  # the undone figure has the focus again; the one before is voted anew
    assert window.votes() == {order[0]: "a", order[1]: "n", order[2]: "n"}
    columns = window.run("return columns()")
    window.type(Keys.HOME, Keys.ARROW_DOWN)
    assert f"Figure {columns + 1} of {FIGURES}" in window.focused()
    window.type(Keys.END)
    assert f"Figure {FIGURES} of {FIGURES}" in window.focused()
    assert "your vote none" in window.focused()

    window.driver.refresh()
    assert window.votes() == {order[0]: "a", order[1]: "n", order[2]: "n"}
    assert window.run("return $('expert').value") == 'Dr. "A", B'
    window.choose("voted", "yes")
    assert window.shown() == order[:3]
    window.choose("voted", "other")
    assert window.shown() == order[1:3]
    window.driver.find_element(By.ID, "download").click()
    file = window.folder / "review-Dr-A-B.csv"
    deadline = time.monotonic() + 20
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    table = pd.read_csv(file)
    assert set(table["image"]) == set(answers["image"].iloc[order[:3]])
    table = table.set_index("image").loc[answers["image"].iloc[order[:3]]]
    assert table["vote"].tolist() == ["atypical", "normal", "normal"]
    assert table["expert"].unique().tolist() == ['Dr. "A", B']
    assert table["confidence"].tolist() == answers["confidence"].iloc[order[:3]].tolist()
    votes = read_reviews([file]).figures.set_index("image")["votes"]
    assert votes[answers["image"].iloc[order[:3]]].tolist() == ["1", "0", "0"]

    window.fill("expert", "Somebody else")  # who has not voted
    assert window.votes() == {}


def test_vote_by_pointer_and_what_a_screen_reader_hears(window: Window) -> None:
    cards = window.driver.find_elements(By.CSS_SELECTOR, ".card")
    assert cards[1].get_attribute("role") == "group"
    assert "model atypical, P(atypical) 0.98" in cards[1].get_attribute("aria-label")
    button = cards[1].find_element(By.CSS_SELECTOR, "[data-vote=n]")
    assert button.accessible_name == "Vote normal"
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert "your vote normal" in cards[1].get_attribute("aria-label")
    assert "normal. 1 of 150 voted" in window.status()
    for control in window.driver.find_elements(By.CSS_SELECTOR, "form input, form select, form button"):
        assert control.accessible_name, control.get_attribute("id")
    for element in (button, *window.driver.find_elements(By.CSS_SELECTOR, "form button")):
        assert element.size["height"] >= 44  # a fingertip


def test_cards_are_made_as_they_are_scrolled_to(window: Window) -> None:
    made = "return document.querySelectorAll('.card').length"
    assert 60 <= window.run(made) < FIGURES
    assert made_in_time(window, "scrollTo(0, document.body.scrollHeight)") == FIGURES
    window.run("refresh()")
    window.run("dispatchEvent(new Event('beforeprint'))")
    assert window.run(made) == FIGURES


def test_a_tall_window_is_filled_with_cards(window: Window) -> None:
    metrics = {"width": 1000, "height": 9000, "deviceScaleFactor": 1, "mobile": False}
    window.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    window.driver.refresh()
    assert made_in_time(window) == FIGURES


def made_in_time(window: Window, before_each: str = "") -> int:
    """Cards of the page, once all are made or ten seconds are over; runs `before_each` before each count."""
    deadline = time.monotonic() + 10
    while True:
        count: int = window.run(before_each + "; return document.querySelectorAll('.card').length")
        if count == FIGURES or time.monotonic() > deadline:
            return count
        time.sleep(0.05)


def test_maps_are_laid_over_on_demand(window: Window) -> None:
    overlay = window.driver.find_element(By.CSS_SELECTOR, ".card img.map")
    assert not overlay.is_displayed()
    window.run("document.activeElement.blur()")
    window.type("m")
    assert overlay.is_displayed()
    assert window.run("return document.querySelector('.card img.map').naturalWidth") == 128


@pytest.mark.parametrize("width", [820, 360])
def test_page_fits_a_tablet_and_a_phone(window: Window, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    window.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    window.driver.refresh()
    assert window.run("return innerWidth") == width
    assert window.run("return document.documentElement.scrollWidth") <= width
    loaded = window.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    logs = window.driver.get_log("browser")
    assert logs == []


# ---- without a browser


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text().split('<script id="data" type="application/json">')[1].split("</script>")[0]
    return json.loads(text)


def test_page_holds_the_answers(page: Path, answers: pd.DataFrame) -> None:
    data = data_of(page)
    assert [row[0] for row in data["figures"]] == answers["image"].tolist()
    assert [row[6] for row in data["figures"]] == answers["confidence"].tolist()
    assert max(len(row[7]) + len(row[8]) for row in data["figures"]) <= 25_000
    assert "<title>Test &lt;page&gt;</title>" in page.read_text()


def test_worst_picture_stays_below_the_limit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8)
    (tmp_path / "p.csv").write_text("image,class,confidence\na.png,normal,0.1\n")
    review.write_page(tmp_path / "p.html", review.read_answers(tmp_path / "p.csv"), noise, "p", "t")
    assert 2_000 < len(data_of(tmp_path / "p.html")["figures"][0][7]) <= 25_000


@pytest.fixture
def slide(tmp_path: Path) -> tuple[Path, Path]:
    canvas, centres = lay(drawn(4))
    pd.DataFrame(centres, columns=["x", "y"]).to_csv(tmp_path / "figures.csv", index=False)
    return write_pyramid(tmp_path / "s.tif", canvas, 0.25), tmp_path / "figures.csv"


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".geojson"])
def test_pages_from_slides(suffix: str, slide: tuple[Path, Path], tmp_path: Path, make_bundle: Make) -> None:
    output, page = tmp_path / f"answers{suffix}", tmp_path / "page.html"
    model = str(make_bundle())
    assert amf(["slide", *map(str, slide), "--output", str(output), "--model", model]) == 0
    with_maps = ["--maps", "--model", model] if suffix == ".csv" else []
    assert amf(["review", str(output), "--output", str(page), *with_maps]) == 0
    data = data_of(page)
    assert data["slides"] == [str(slide[0])]
    centres = pd.read_csv(slide[1])
    assert [row[3:5] for row in data["figures"]] == centres.to_numpy().tolist()
    for row, patch in zip(data["figures"], drawn(4), strict=True):
        picture = np.asarray(Image.open(review.io.BytesIO(review.base64.b64decode(row[7]))).convert("RGB"))
        assert np.abs(picture.astype(int) - patch).mean() < 12  # WebP loses noise, not the figure
        assert (row[8] is not None) == bool(with_maps)


def test_pages_from_files_and_stacks(tmp_path: Path, make_bundle: Make) -> None:
    images = tmp_path / "images"
    images.mkdir()
    patches = np.stack(drawn(3))
    Image.fromarray(patches[0]).save(images / "one.png")
    save_tiff(images / "stack.tiff", patches[1:])
    model = str(make_bundle())
    output, page = tmp_path / "p.csv", tmp_path / "page.html"
    assert amf(["predict", str(images), "--output", str(output), "--model", model]) == 0
    assert amf(["review", str(output), "--output", str(page)]) == 2  # the images are not here
    assert amf(["review", str(output), "--output", str(page), "--root", str(images)]) == 0
    rows = data_of(page)["figures"]
    assert [row[:2] for row in rows] == [["one.png", None], ["stack.tiff", 0], ["stack.tiff", 1]]
