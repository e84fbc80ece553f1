"""Every page is reachable from docs/index.md, and every link of a page leads somewhere."""

import re
from pathlib import Path

from test.support.paths import ROOT

LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")


def links(page: Path) -> list[Path]:
    return [(page.parent / target).resolve() for target in LINK.findall(page.read_text(encoding="utf-8"))]


def test_every_link_leads_to_a_file() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "model").glob("*.md")]
    broken = [f"{page.name}: {target}" for page in pages for target in links(page) if not target.exists()]

    assert len(pages) > 15
    assert broken == []


def test_every_page_is_reachable_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").resolve()
    seen, waiting = {index}, [index]
    while waiting:
        for target in links(waiting.pop()):
            if target.suffix == ".md" and target not in seen:
                seen.add(target)
                waiting.append(target)
    pages = {page.resolve() for page in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]}

    assert pages - seen == set()
