"""A page in a headless Chromium, in a frame of any width."""

import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# The browser's own window is never narrower than 500 px, a frame is.
FRAME = """<!DOCTYPE html><title>silent</title>
<script>window.addEventListener("message", event => document.title = event.data);</script>
<iframe src="probed.html" width="{width}" height="2000" style="border: 0"></iframe>"""

PROBE = """<script>
const elements = [...document.querySelectorAll("body *")];
const resources = performance.getEntriesByType("resource").map(e => e.name);
parent.postMessage(JSON.stringify({
  window: window.innerWidth,
  page: document.documentElement.scrollWidth,
  beyond: elements.filter(e => e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.tagName),
  charts: [...document.querySelectorAll("figure > svg")].map(e => e.getBoundingClientRect().width),
  pictures: [...document.images].map(e => e.naturalWidth),
  requests: resources.filter(name => !name.startsWith("data:")),
}), "*");
</script>"""


def chromium(profile: Path, *arguments: str) -> str:
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--hide-scrollbars", f"--user-data-dir={profile}", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
