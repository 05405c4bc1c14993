"""docs/comparison.md: each thing that this package cannot do is explained in a line of its own."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in re.findall(r"^\|.*\|$", PAGE, re.MULTILINE)
    ]


def test_every_row_has_a_cell_for_each_package() -> None:
    assert {len(row) for row in rows()} == {8}
    assert all(cell for row in rows()[2:] for cell in row)


def test_each_no_of_ours_is_explained_once() -> None:
    lacking = [f"{row[0].capitalize()}: {row[1].strip('*')}." for row in rows()[2:] if row[1].startswith("**")]
    explained = re.findall(r"^- \*\*(.+?)\*\* \S", PAGE, re.MULTILINE)
    assert lacking
    assert [one.casefold() for one in explained] == [one.casefold() for one in lacking]
    assert not [row[0] for row in rows()[2:] if row[1].startswith(("no", "not"))]
