"""Links between README, pages and files lead to something, and so do their anchors."""

import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

import pytest

from docs.blocks import ROOT, pages

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.MULTILINE)
_TARGET = re.compile(r'^\(([\w-]+)\)=$|<a (?:id|name)="([^"]+)"', re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading: letters, digits and hyphens, in lower case."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    kept = (c for c in text if c in "-_ " or unicodedata.category(c)[0] in "LN")
    return "".join(kept).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    targets = {one or two for one, two in _TARGET.findall(text)}
    return targets | {slug(heading) for heading in _HEADING.findall(_FENCE.sub("", text))}


def links(page: Path) -> list[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [link for link in _LINK.findall(text) if not re.match(r"[a-z]+:", link)]


def test_the_anchor_of_a_heading() -> None:
    assert slug("What `train` wrote, in short") == "what-train-wrote-in-short"
    assert slug("[A](b.md) and c") == "a-and-c"


@pytest.mark.parametrize("page", [*pages(), ROOT / "docs" / "cli.md"], ids=lambda page: page.name)
def test_internal_links_and_anchors(page) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        assert target.exists(), f"{page}: no file for {link}"
        if anchor:
            assert anchor in anchors(target), f"{page}: no heading for {link}"


def test_every_page_is_in_a_table_of_contents() -> None:
    """Each page of the docs is an entry of a toctree, or the first page."""
    entries = {ROOT / "docs" / "index.md"}
    for page in pages():
        for tree in re.findall(
            r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            for line in tree.splitlines():
                entry = line.strip()
                if entry and not entry.startswith(":"):
                    entries |= {page.parent / f"{entry}.md", page.parent / f"{entry}.ipynb"}
    held = {*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")}
    assert not held - entries
