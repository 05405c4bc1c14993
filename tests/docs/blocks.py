"""Code blocks of Markdown pages, and the comment before a block that says why it is not run."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNNABLE = ("console", "python", "bash", "yaml")
_BLOCK = re.compile(
    r"^(?:<!-- no-run: (?P<reason>[^\n]*) -->\n)?```(?P<kind>[\w-]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_FILE = re.compile(r"# (\S+\.py)\n")


@dataclass(frozen=True)
class Block:
    """A block of a page; `reason` says why it is not run, and is empty where it is."""

    kind: str
    text: str
    reason: str
    line: int

    @property
    def file(self) -> str:
        """The name of the file that the block is, or "" where it is code to run."""
        found = _FILE.match(self.text) if self.kind == "python" else None
        return found[1] if found else ""

    def commands(self) -> list[tuple[str, str]]:
        """Commands of a console block, each with the output that the page shows after `$ command`, or ""."""
        text = self.text.replace("\\\n", " ")
        if "$ " not in text:
            return [(line, "") for line in text.splitlines() if line]
        shown = [part.partition("\n") for part in re.split(r"^\$ ", text, flags=re.MULTILINE) if part]
        return [(command, output) for command, _, output in shown]


def pages() -> list[Path]:
    """README, CONTRIBUTING and every page of the docs but the generated one."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(page for page in found if page.name != "cli.md")]


def blocks(page: Path) -> list[Block]:
    """Blocks of the page that hold commands or code, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["kind"], found["text"], found["reason"] or "", text[: found.start()].count("\n") + 1)
        for found in _BLOCK.finditer(text)
        if found["kind"] in RUNNABLE
    ]
