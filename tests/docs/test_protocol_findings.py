"""docs/protocol.md names every finding of `data check`, and no other."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_has_the_findings_of_the_code() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "src/dkgzsl/data").rglob("*.py"))
    known = set(re.findall(r'Finding\(\s*(?:"(?:error|warning|note)"|severity),\s*"([a-z ]+)"', code))
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8").split("| finding | meaning |")[1]
    shown = re.findall(r"`([a-z ]+)`", " ".join(re.findall(r"^\| (.+?) \|", text, re.MULTILINE)))
    assert len(shown) == len(set(shown))
    assert set(shown) == known - {"notes"}  # what a reader notes has no fixed meaning
