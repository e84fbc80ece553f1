"""A headless Chromium, and shorthands for what tests ask of a page in it."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

LAYOUT = """
const elements = [...document.querySelectorAll("body *")];
const resources = performance.getEntriesByType("resource").map(e => e.name);
return {
  window: innerWidth,
  page: document.documentElement.scrollWidth,
  beyond: elements.filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName),
  charts: [...document.querySelectorAll("figure > svg")].map(e => e.getBoundingClientRect().width),
  pictures: [...document.images].map(e => e.naturalWidth),
  requests: resources.filter(name => !name.startsWith("data:")),
};"""


class Window:
    """A browser window; `folder` takes its downloads."""

    def __init__(self, folder: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={folder / 'profile'}",
        ):  # fmt: skip
            options.add_argument(argument)
        options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
        self.folder = folder
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))

    def open(self, page: Path, width: int = 1280, height: int = 900, medium: str = "screen") -> None:
        """A page as on the first day, in a window of a size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 1000}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium})
        self.driver.get(page.as_uri())
        self.run("localStorage.clear()")
        self.driver.refresh()

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def layout(self) -> dict[str, Any]:
        """Widths of window, page, charts and pictures, what sticks out, and what was asked of a network."""
        return self.run(LAYOUT)

    def type(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def choose(self, control: str, value: str) -> None:
        Select(self.find(f"#{control}")).select_by_value(value)

    def fill(self, control: str, text: str) -> None:
        box = self.find(f"#{control}")
        box.clear()
        box.send_keys(text, Keys.TAB)

    def text(self, control: str) -> str:
        return self.find(f"#{control}").text

    def focused(self) -> str:
        """What a screen reader says of the element that has the focus."""
        return self.run("return document.activeElement.getAttribute('aria-label')") or ""


def wait_until(done: Callable[[], bool]) -> None:
    """Ask again and again for up to twenty seconds."""
    deadline = time.monotonic() + 20
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert done()
