"""Cells of a table as numbers: `1,5`, `45 %`, yes and no, an `x` where something is so."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Final

from dkgzsl.data.formats.spreadsheet import is_empty
from dkgzsl.errors import DataError

YES: Final = {"x", "yes", "y", "true", "t", "ja", "j", "oui", "si", "sí", "✓", "✔", "☑"}
NO: Final = {"no", "n", "false", "f", "nein", "non", "✗", "✘", "☐"}
GAPS: Final = {"?", "nan", "na", "n/a", "#n/a", "-", "\u2013"}
"""What stands in a cell whose value is not known."""
FIX: Final = "every cell after the class name holds a number, a percentage, or yes or no"
_COMMA: Final = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.I)
_GROUPED: Final = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
_DOT: Final = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.I)


def numbers_of(cells: Sequence[Any], places: Sequence[str]) -> list[float]:
    """The numbers of one column.

    A percentage is divided by 100; yes is 1 and no is 0. In a column that marks with `x` (or yes, or a tick) and
    leaves all other cells empty, an empty cell is 0. In any other column an empty cell, or one that says so
    (`GAPS`), is a value that is missing: NaN.

    Args:
        cells: of the column.
        places: where each stands, for messages.

    Raises:
        DataError: a cell is something else than a finite number.
    """
    filled = [cell for cell in cells if not is_gap(cell)]
    marked = bool(filled) and all(isinstance(cell, str) and _word(cell) in YES for cell in filled)
    return [
        (0.0 if marked else math.nan) if is_gap(cell) else number_in(cell, place)
        for cell, place in zip(cells, places, strict=True)
    ]


def is_gap(cell: Any) -> bool:
    """Whether a cell holds no value: it is empty, or says that the value is missing."""
    missing = isinstance(cell, float) and math.isnan(cell)
    return is_empty(cell) or missing or (isinstance(cell, str) and _word(cell) in GAPS)


def number_in(cell: Any, where: str) -> float:
    """The number that a cell holds; a comma is a decimal sign.

    Args:
        cell: text, or a value of an Excel or Parquet file.
        where: its place, for messages.

    Raises:
        DataError: it is empty, or no finite number.
    """
    value = _number(cell)
    if value is None:
        shown = "empty" if is_empty(cell) else f"{str(cell)[:40]!r}, not a number"
        raise DataError(f"the cell is {shown}", where=where, fix=FIX)
    if not math.isfinite(value):
        raise DataError(f"the cell is {value}, not a finite number", where=where, fix=FIX)
    return value


def is_number(cell: Any) -> bool:
    """Whether a cell can be a number, or yes or no."""
    return _number(cell) is not None


def is_numeral(cell: Any) -> bool:
    """Whether a cell can be a number and is no word: `x` and `y` are names of columns, too."""
    return is_number(cell) and not (isinstance(cell, str) and _word(cell) in YES | NO)


def check_decimals(cells: Sequence[tuple[Any, str]], *, separated_by_comma: bool) -> None:
    """That one sign separates the decimals of all numbers of a table.

    Args:
        cells: all of them, each with its place.
        separated_by_comma: whether the file separates columns by commas: there, `"1,500"` in quotes may be 1500.

    Raises:
        DataError: some numbers have a decimal comma and others a point, or it is not known what a comma is.
    """
    texts = [(str(cell).strip().rstrip("%").strip(), where) for cell, where in cells if isinstance(cell, str)]
    commas = [(text, where) for text, where in texts if _COMMA.fullmatch(text)]
    point = next(((text, where) for text, where in texts if _DOT.fullmatch(text)), None)
    if not commas:
        return
    unclear = separated_by_comma and all(_GROUPED.fullmatch(text) for text, _ in commas)
    if unclear or point is not None:
        text, where = commas[0]
        other = "" if point is None else f", and {point[0]!r} in {point[1]} has a point"
        raise DataError(
            f"{text!r} has a comma{other}: which sign separates decimals is not known",
            where=where,
            fix="write all numbers of the table with a decimal point, and with no sign between thousands",
        )


def _word(cell: str) -> str:
    return cell.strip().casefold()


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool | int | float):
        return float(cell)
    try:
        return float(cell)
    except (TypeError, ValueError):
        pass
    if not isinstance(cell, str):
        return None
    word = _word(cell).replace("\u00a0", "").replace("\u2212", "-")
    if word in YES or word in NO:
        return float(word in YES)
    if word.endswith("%"):
        share = _number(word[:-1]) if word[:-1].strip() else None
        return None if share is None else share / 100
    if _COMMA.fullmatch(word):
        return float(word.replace(",", "."))
    both = re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+,\d+", word)  # 1.234,5
    return float(word.replace(".", "").replace(",", ".")) if both else None
