"""The review page in a real browser: look, vote, undo, download, load again; and what goes into it."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from amf.bulk.answers import Answers, read_answers
from amf.cli import main as amf
from amf.data.reviews import read_reviews
from amf.evaluation import maps, review
from docs.make_example_report import draw_patch
from test.support.browser import Window, wait_until
from test.support.jobs import save_tiff
from test.support.slides import lay, write_pyramid

Make = Callable[..., Path]

FIGURES = 90
THRESHOLD = 0.4
SIZES = {"desk": (1280, 900), "tablet": (820, 1180), "phone": (360, 780)}


def drawn(count: int) -> list[np.ndarray]:
    return [draw_patch(number % 2, np.random.default_rng(number)) for number in range(count)]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Invented answers for figures of two slides; names that HTML and CSV must escape."""
    confidence = np.random.default_rng(5).permutation(np.linspace(0.01, 0.99, FIGURES))
    table = pd.DataFrame(
        {
            "image": [f'</script><b>,"{number:03}.png' for number in range(FIGURES)],
            "class": np.where(confidence >= THRESHOLD, "atypical", "normal"),
            "confidence": confidence,
            "threshold": THRESHOLD,
            "slide": ["a.svs", "b, c.svs"] * (FIGURES // 2),
        }
    )
    path = tmp_path_factory.mktemp("answers") / "predictions.csv"
    table.to_csv(path, index=False)
    return read_answers(path, Path("no bundle is needed"))


@pytest.fixture(scope="module")
def pages(answers: Answers, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page with maps, and one for blind reading whose figures have surroundings."""
    folder = tmp_path_factory.mktemp("review")
    pictures = drawn(2) * (FIGURES // 2)
    y, x = np.mgrid[:128, :128].astype(np.float32) / 20 - 3.2
    overlays = [maps.overlay(x * np.exp(-(x**2) - y**2))] * FIGURES
    found = {name: folder / f"{name}.html" for name in ("open", "blind")}
    page = review.Page("Test <page>", "predictions.csv")
    review.write_page(found["open"], page, answers, pictures, overlays)
    page = review.Page("Blind", "predictions.csv", blind=True, seed=7)
    around = [np.tile(picture, (2, 2, 1)) for picture in pictures]
    review.write_page(found["blind"], page, answers, around, overlays)
    return found


@pytest.fixture
def window(browser: Window, pages: dict[str, Path]) -> Window:
    browser.open(pages["open"])
    return browser


def shown(window: Window) -> list[int]:
    return window.run("return shown.map(figure => figure.number)")


def votes_in(window: Window) -> dict[int, str]:
    voted = "figures.filter(f => votes[f.key]).map(f => [f.number, votes[f.key].vote])"
    return {int(number): word for number, word in window.run(f"return {voted}")}


def downloaded(window: Window, name: str) -> Path:
    wait_until((window.folder / name).exists)
    return window.folder / name


def test_sort_filter_and_threshold(window: Window, answers: Answers) -> None:
    confidence = answers.figures["confidence"].to_numpy()
    assert shown(window) == np.argsort(-confidence).tolist()
    window.choose("order", "up")
    assert shown(window) == np.argsort(confidence).tolist()
    window.choose("order", "near")
    near = confidence[shown(window)]
    distance = np.abs(np.log(near / (1 - near)) - np.log(THRESHOLD / (1 - THRESHOLD)))
    assert (np.diff(distance) >= 0).all()

    window.choose("class", "normal")
    assert set(shown(window)) == set(np.flatnonzero(confidence < THRESHOLD))
    window.choose("slide", "b, c.svs")
    window.fill("from", "0.2")
    window.fill("to", "0.3")
    expected = (confidence >= 0.2) & (confidence <= 0.3) & (np.arange(FIGURES) % 2 == 1)
    assert set(shown(window)) == set(np.flatnonzero(expected))
    assert window.text("status") == f"{expected.sum()} of {FIGURES} figures shown."

    assert f"0 of {FIGURES} figures change class" in window.text("change")
    window.run("$('threshold').value = 0.6; $('threshold').dispatchEvent(new Event('input'))")
    down = ((confidence >= THRESHOLD) & (confidence < 0.6)).sum()
    change = f"{down} of {FIGURES} figures change class, 0 to atypical, {down} to normal"
    assert change in window.text("change")
    assert window.find("#cut").get_attribute("value") == "0.600"
    window.fill("cut", "0.4")
    assert f"0 of {FIGURES} figures change class" in window.text("change")


@pytest.mark.parametrize("size", SIZES)
def test_keyboard_alone_from_name_to_download(
    browser: Window, pages: dict[str, Path], answers: Answers, size: str
) -> None:
    window = browser
    window.open(pages["open"], *SIZES[size])
    window.type(Keys.TAB * 2, Keys.ENTER)
    assert "Type your name first" in window.text("status")
    window.type('Dr. "A", B', Keys.ESCAPE)
    order = shown(window)
    window.type("a", "n", "u", "a")  # each vote moves on to the next figure
    expected = {order[0]: "atypical", order[1]: "normal", order[2]: "unsure"}
    assert votes_in(window) == {**expected, order[3]: "atypical"}
    window.type("z")
    assert votes_in(window) == expected
    window.type(Keys.ARROW_LEFT, "n")  # the undone figure has the focus again; the one before is voted anew
    expected[order[2]] = "normal"
    assert votes_in(window) == expected
    assert window.text("count").startswith(f"3 of {FIGURES} voted")
    columns = window.run("return columns()")
    window.type(Keys.HOME, Keys.ARROW_DOWN)
    assert f"Figure {columns + 1} of {FIGURES}" in window.focused()
    window.type(Keys.END)
    assert f"Figure {FIGURES} of {FIGURES}" in window.focused()
    assert "your vote none" in window.focused()

    window.driver.refresh()
    assert votes_in(window) == expected
    assert window.run("return $('expert').value") == 'Dr. "A", B'
    window.type(Keys.TAB * 2, Keys.ENTER)
    file = downloaded(window, "review-Dr-A-B.csv")
    images = answers.figures["image"].iloc[order[:3]]
    table = pd.read_csv(file).set_index("image").loc[images]
    assert table["vote"].tolist() == ["atypical", "normal", "normal"]
    assert table["expert"].unique().tolist() == ['Dr. "A", B']
    assert table["confidence"].tolist() == answers.figures["confidence"].iloc[order[:3]].tolist()
    assert read_reviews([file]).figures.set_index("image")["votes"][images].tolist() == ["1", "0", "0"]
    file.unlink()


def test_votes_are_filtered_and_loaded_on_another_machine(window: Window) -> None:
    order = shown(window)
    window.fill("expert", 'Dr. "A", B')
    window.find("#gallery li").click()
    window.type("a", "n", "n")
    expected = {order[0]: "atypical", order[1]: "normal", order[2]: "normal"}
    assert votes_in(window) == expected
    window.choose("voted", "yes")
    assert shown(window) == order[:3]
    window.choose("voted", "other")
    assert shown(window) == order[1:3]
    window.find("#download").click()
    file = downloaded(window, "review-Dr-A-B.csv")
    window.fill("expert", "Somebody else")  # who has not voted
    assert votes_in(window) == {}

    window.run("localStorage.clear()")  # another machine
    window.driver.refresh()
    assert votes_in(window) == {}
    window.find("#file").send_keys(str(file))
    wait_until(lambda: "3 votes of" in window.text("status"))
    assert votes_in(window) == expected
    assert window.run("return $('expert').value") == 'Dr. "A", B'
    file.write_text(file.read_text().replace("normal,", "perhaps,"))
    window.find("#file").send_keys(str(file))
    wait_until(lambda: "nothing was loaded" in window.text("status"))
    assert votes_in(window) == expected
    file.unlink()


def test_time_left_is_that_of_the_pace(window: Window) -> None:
    window.run(
        "figures.slice(0, 10).forEach((f, k) => {"
        "  const time = new Date(k < 5 ? k * 6000 : 3600000 + k * 6000).toISOString();"  # an hour's break
        "  votes[f.key] = {vote: 'normal', time};"
        "}); progress();"
    )
    assert window.text("count") == f"10 of {FIGURES} voted, about {FIGURES * 6 // 60 - 1} min left"


def test_blind_reading(browser: Window, pages: dict[str, Path], answers: Answers) -> None:
    browser.open(pages["blind"])
    expected = np.random.default_rng(7).permutation(FIGURES)
    images = browser.run("return figures.map(figure => figure.image)")
    assert images == answers.figures["image"].iloc[expected].tolist()
    assert shown(browser) == list(range(FIGURES))
    first = browser.find(".card")
    assert "the model's answer is hidden" in first.get_attribute("aria-label")
    secret = ("atypical 0.", "normal 0.", "model atypical", "model normal")
    assert not any(word in browser.find("main").get_attribute("innerHTML") for word in secret)
    assert not browser.find_all("#order, #class, #from, #threshold")
    browser.type("m")
    assert not first.find_element(By.CSS_SELECTOR, ".map").is_displayed()
    browser.type("a")
    assert "your vote atypical" in first.get_attribute("aria-label")
    assert first.find_element(By.CSS_SELECTOR, ".map").is_displayed()
    browser.type("u", Keys.ARROW_LEFT, "n")  # the second vote on the same figure is not blind
    browser.fill("expert", "Anna")
    browser.driver.refresh()
    assert "Figure 3 of" in browser.find(".card.current").get_attribute("aria-label")  # where it ended
    browser.find("#download").click()
    file = downloaded(browser, "review-Anna.csv")
    table = pd.read_csv(file)
    assert table["vote"].tolist() == ["atypical", "normal"]
    assert table["blind"].tolist() == ["yes", "no"]
    assert "1 of 2 votes were given without sight" in " ".join(read_reviews([file]).notes)


def test_corrections_are_votes_of_the_first_who_gives_a_name(
    browser: Window, answers: Answers, tmp_path: Path
) -> None:
    figures = answers.figures.assign(vote=pd.array([0, 1] + [pd.NA] * (FIGURES - 2), dtype="Int64"))
    corrected = Answers(figures, answers.threshold, "2026-01-01T00:00:00.000+00:00", [])
    page = review.Page("t", "s")
    review.write_page(tmp_path / "page.html", page, corrected, drawn(2) * (FIGURES // 2))
    browser.open(tmp_path / "page.html")
    assert votes_in(browser) == {0: "normal", 1: "atypical"}
    browser.fill("expert", "Anna")
    assert votes_in(browser) == {0: "normal", 1: "atypical"}
    browser.fill("expert", "Ben")
    assert votes_in(browser) == {}


def test_vote_by_pointer_and_what_a_screen_reader_hears(window: Window) -> None:
    cards = window.find_all(".card")
    assert cards[1].get_attribute("role") == "group"
    assert "model atypical, P(atypical) 0.979" in cards[1].get_attribute("aria-label")
    button = cards[1].find_element(By.CSS_SELECTOR, "[data-vote=normal]")
    assert button.accessible_name == "Vote normal"
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert "your vote normal" in cards[1].get_attribute("aria-label")
    assert window.text("status").endswith("normal.")
    for control in window.find_all("form input, form select, form button"):
        assert control.accessible_name or not control.is_displayed(), control.get_attribute("id")
    for element in (button, *window.find_all("#bar button")):
        assert element.size["height"] >= 44  # a fingertip


def test_cards_are_made_as_they_are_scrolled_to(window: Window, pages: dict[str, Path]) -> None:
    def made() -> int:
        return window.run("return document.querySelectorAll('.card').length")

    def all_after_scrolling() -> bool:
        window.run("scrollTo(0, document.body.scrollHeight)")
        return made() == FIGURES

    assert 60 <= made() < FIGURES
    wait_until(all_after_scrolling)
    window.run("refresh()")
    window.fill("expert", "Anna")
    window.run("dispatchEvent(new Event('beforeprint'))")
    assert made() == FIGURES
    printed = window.run("return $('printed').textContent")
    assert printed.startswith("Votes of Anna, printed ")
    assert printed.endswith(f"0 of {FIGURES} voted.")
    window.open(pages["open"], height=20_000)  # a tall window is filled
    wait_until(lambda: made() == FIGURES)


@pytest.mark.parametrize(
    ("name", "size"), [("open", "desk"), ("open", "phone"), ("blind", "tablet"), ("blind", "phone")]
)
def test_page_fits_a_desk_a_tablet_and_a_phone(
    browser: Window, pages: dict[str, Path], size: str, name: str
) -> None:
    width, height = SIZES[size]
    browser.open(pages[name], width, height)
    layout = browser.layout()
    assert layout["window"] == width
    assert layout["page"] <= width
    assert layout["requests"] == []
    assert browser.find(".card").rect["y"] < height * (
        0.25 if size == "phone" else 0.45
    )  # figures come first
    side = {"open": 256, "blind": 512}[name]
    assert browser.find(".pictures").size["width"] == min(side, browser.find(".card").size["width"] - 20)
    browser.type(Keys.ARROW_RIGHT * 20)
    bar, card = (browser.run("return document.querySelector(arguments[0]).getBoundingClientRect()", part)
                 for part in ("#bar", ".card.current"))  # fmt: skip
    assert browser.run("return scrollY") > 0
    assert bar["top"] == 0  # in sight, above the figure that was scrolled to
    assert bar["bottom"] <= card["top"] < height
    for control in ("count", "undo", "download"):
        assert browser.find(f"#{control}").is_displayed()
    assert browser.driver.get_log("browser") == []


def test_surroundings_and_scale_bar(browser: Window, pages: dict[str, Path]) -> None:
    browser.open(pages["blind"])
    for side, um in ((512, 64), (256, 32)):
        assert browser.find(".pictures").size["width"] == side
        assert browser.find(".scale").size["width"] == pytest.approx(side * 10 / um, abs=1)
        # The patch, the middle half of the picture, has the same size either way.
        assert browser.find(".picture").size["width"] == 512
        browser.type("s")


# ---- without a browser


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text().split('<script id="data" type="application/json">')[1].split("</script>")[0]
    return json.loads(text)


def test_page_holds_the_answers(pages: dict[str, Path], answers: Answers) -> None:
    data = data_of(pages["open"])
    for name in ("image", "confidence", "predicted"):
        assert [figure[name] for figure in data["figures"]] == answers.figures[name].tolist()
    assert data["threshold"] == THRESHOLD
    assert "<title>Test &lt;page&gt;</title>" in pages["open"].read_text()


def test_worst_picture_stays_below_the_limit(answers: Answers, tmp_path: Path) -> None:
    noise = [np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)]
    one = Answers(answers.figures[:1], 0.5, "", [])
    review.write_page(tmp_path / "p.html", review.Page("t", "p"), one, noise)
    (figure,) = data_of(tmp_path / "p.html")["figures"]
    assert 10_000 < len(figure["picture"]) <= review.MAX_PICTURE_BYTES


@pytest.fixture
def slide(tmp_path: Path) -> tuple[Path, Path]:
    canvas, centres = lay(drawn(4))
    pd.DataFrame(centres, columns=["x", "y"]).to_csv(tmp_path / "figures.csv", index=False)
    return write_pyramid(tmp_path / "s.tif", canvas, 0.25), tmp_path / "figures.csv"


@pytest.mark.parametrize("suffix", [".csv", ".geojson"])
def test_pages_from_slides(
    suffix: str,
    slide: tuple[Path, Path],
    tmp_path: Path,
    make_bundle: Make,
    capfd: pytest.CaptureFixture[str],
) -> None:
    output, page = tmp_path / f"answers{suffix}", tmp_path / "page.html"
    model = str(make_bundle())
    assert amf(["slide", *map(str, slide), "--output", str(output), "--model", model]) == 0
    with_maps = ["--maps"] if suffix == ".csv" else []
    assert amf(["review", str(output), "--output", str(page), "--model", model, *with_maps]) == 0
    assert ("maps: 100%" in capfd.readouterr().err) == bool(with_maps)  # with the time left
    figures = data_of(page)["figures"]
    assert {figure["slide"] for figure in figures} == {str(slide[0])}
    centres = pd.read_csv(slide[1])
    assert [[figure["x"], figure["y"]] for figure in figures] == centres.to_numpy().tolist()
    for figure, patch in zip(figures, drawn(4), strict=True):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(figure["picture"]))).convert("RGB"))
        assert picture.shape == (256, 256, 3)
        centre = picture[64:192, 64:192].astype(int)
        assert np.abs(centre - patch).mean() < 12  # WebP loses noise, not the figure
        assert bool(figure["map"]) == bool(with_maps)


def test_pages_from_files_and_stacks(tmp_path: Path, make_bundle: Make) -> None:
    images = tmp_path / "images"
    images.mkdir()
    patches = np.stack(drawn(3))
    Image.fromarray(patches[0]).save(images / "one.png")
    save_tiff(images / "stack.tiff", patches[1:])
    model = ["--model", str(make_bundle())]
    output, page = tmp_path / "p.csv", tmp_path / "page.html"
    assert amf(["predict", str(images), "--output", str(output), *model]) == 0
    assert amf(["review", str(output), "--output", str(page), *model]) == 2  # the images are not here
    assert amf(["review", str(output), "--output", str(page), "--root", str(images), *model]) == 0
    figures = data_of(page)["figures"]
    named = [[figure["image"], figure["page"]] for figure in figures]
    assert named == [["one.png", None], ["stack.tiff", 0], ["stack.tiff", 1]]

    def votes(expert: str, said: str) -> str:
        rows = [f"{name},{'' if number is None else number},,,,{vote},{expert},2026-01-01T00:00:00Z"
                for (name, number), vote in zip(named, said.split(), strict=True)]  # fmt: skip
        path = tmp_path / f"{expert}.csv"
        path.write_text("\n".join(["image,page,slide,x,y,vote,expert,time", *rows]))
        return str(path)

    command = ["review", str(output), "--output", str(page), "--root", str(images), *model, "--disagreed"]
    anna = votes("Anna", "atypical normal unsure")
    assert amf([*command, anna, votes("Ben", "atypical atypical normal")]) == 0
    (only,) = data_of(page)["figures"]
    assert [only["image"], only["page"]] == ["stack.tiff", 0]
    assert not any(name in page.read_text() for name in ("Anna", "Ben"))
    assert amf([*command, anna, votes("Cleo", "atypical normal normal")]) == 2
