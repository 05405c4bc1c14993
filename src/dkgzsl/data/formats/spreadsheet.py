"""Rows of cells from the files that tables come in: CSV of any separator and encoding, Excel, Parquet."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from dkgzsl.data.formats.untrusted import read_parquet, read_workbook
from dkgzsl.errors import DataError

TEXT_SUFFIXES: Final = (".csv", ".tsv")
EXCEL_SUFFIXES: Final = (".xlsx", ".xlsm")
PARQUET_SUFFIXES: Final = (".parquet", ".pq")
SUFFIXES: Final = (*TEXT_SUFFIXES, *EXCEL_SUFFIXES, *PARQUET_SUFFIXES)
"""How tables' files end, in lower case."""
UNREAD: Final[Mapping[str, str]] = {
    ".xls": "an Excel file of before 2007",
    ".xlsb": "a binary Excel file",
    ".ods": "an OpenDocument file",
    ".numbers": "a file of Apple Numbers",
    ".txt": "a text file",
    ".json": "a JSON file",
    ".feather": "a Feather file",
}
"""Kinds of tables that are not read."""
SAVE_AS: Final = "save it as CSV, or as .xlsx"
_SEPARATORS: Final = (",", ";", "\t", "|")
_LOOKED_AT: Final = 50  # rows that the separator is found by
_MAGIC: Final = {
    b"PK\x03\x04": "an Excel file or another zip file",
    b"\xd0\xcf\x11\xe0": "an Excel file of before 2007",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF file",
}


@dataclass(frozen=True)
class Sheet:
    """A table as it lies in its file.

    Attributes:
        rows: the cells of each row that is not empty, after the number of the row as a spreadsheet counts it.
            Empty cells at the right end are left out, as far as the first row, the header, has none there.
        decimal_comma: whether `1,5` is a number by the file's separator: it is not the comma.
        notes: what was decided on the way, for people.
    """

    rows: tuple[tuple[int, tuple[Any, ...]], ...]
    decimal_comma: bool
    notes: tuple[str, ...] = ()


def read_sheet(path: Path) -> Sheet:
    """Read a table, of an Excel file the first sheet that holds anything.

    Empty rows, empty columns at the right end and a title above the header are left out. Text is UTF-8 or UTF-16,
    or else Windows-1252, which a note says. The separator is the one of comma, semicolon, tab and bar that gives
    the header and the rows the same number of cells.

    Raises:
        DataError: the file cannot be read, is no table, or the extra `tables` is missing.
    """
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        return Sheet(_trimmed(_parquet_rows(path)), decimal_comma=False)
    if suffix in EXCEL_SUFFIXES:
        rows, notes = _excel_rows(path)
        return Sheet(_trimmed(rows), decimal_comma=True, notes=notes)
    if suffix in UNREAD and suffix != ".txt":
        raise DataError(f"{path.name} is {UNREAD[suffix]}, which is not read", where=str(path), fix=SAVE_AS)
    text, notes = _text(path)
    lines = text.splitlines(keepends=True)
    start = 0
    if lines and lines[0].lower().startswith("sep="):  # Excel's own word for the separator
        start, separator = 1, lines[0].strip()[4:5] or ","
    else:
        separator = _separator(lines)
    try:
        found = list(csv.reader(io.StringIO("".join(lines[start:]), newline=""), delimiter=separator))
    except csv.Error as error:
        raise DataError(f"not a CSV table: {error}", where=str(path)) from error
    return Sheet(_trimmed(found, first=1 + start), decimal_comma=separator != ",", notes=notes)


def is_empty(cell: Any) -> bool:
    """Whether a cell holds nothing, or blanks."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _trimmed(rows: Iterable[Sequence[Any]], *, first: int = 1) -> tuple[tuple[int, tuple[Any, ...]], ...]:
    kept = []
    for number, row in enumerate(rows, start=first):
        cells, had = list(row), len(row)
        while cells and is_empty(cells[-1]):
            cells.pop()
        if cells:
            kept.append((number, cells, had))
    if not kept:
        return ()
    while len(kept) > 1 and len(kept[0][1]) == 1 < len(kept[1][1]):  # a title above the header
        kept.pop(0)
    width = len(kept[0][1])
    return tuple((number, (*cells, *[""] * (min(width, had) - len(cells)))) for number, cells, had in kept)


def _text(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the table: {error.strerror}", where=str(path)) from error
    for magic, kind in _MAGIC.items():
        if content.startswith(magic):
            raise DataError(f"{path.name} is {kind}, not text", where=str(path), fix=f"{SAVE_AS}, by that name")
    encoding = "utf-8-sig"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif len(content) > 1 and content[1::2].count(0) > len(content) // 4:
        encoding = "utf-16-le"
    elif len(content) > 1 and content[::2].count(0) > len(content) // 4:
        encoding = "utf-16-be"
    elif b"\0" in content:
        raise DataError(f"{path.name} is no text", where=str(path), fix=SAVE_AS)
    try:
        return content.decode(encoding), ()
    except UnicodeDecodeError as error:
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            raise DataError("the table is not UTF-8 text", where=str(path), fix="save it as CSV UTF-8") from error
    return text, ("it is not UTF-8 text: read as Windows-1252; where letters are wrong, save it as CSV UTF-8",)


def _separator(lines: Sequence[str]) -> str:
    """The separator by which most rows have the same number of cells, of several the one with the most cells.

    A cell that holds a semicolon, tab or bar was cut at the decimal commas around it.
    """

    def fits(separator: str) -> tuple[bool, float, bool, int]:
        try:
            read = csv.reader(lines[: 4 * _LOOKED_AT], delimiter=separator)
            rows = [row for row in read if any(cell.strip() for cell in row)][:_LOOKED_AT]
            widths = [len(row) for row in rows]
        except csv.Error:
            return False, 0.0, False, 0
        width = max(widths, key=widths.count, default=0)  # the header's where several are as frequent
        first = next((row for row in rows if len(row) == width), [])
        whole = not any(mark in cell for cell in first for mark in ";\t|")
        return width > 1, widths.count(width) / max(1, len(widths)), whole, width

    return max(_SEPARATORS, key=fits)


def _excel_rows(path: Path) -> tuple[list[Sequence[Any]], tuple[str, ...]]:
    _need("openpyxl", "Excel", path)
    sheets = dict(read_workbook(path))
    filled = [name for name, rows in sheets.items() if any(not is_empty(cell) for row in rows for cell in row)]
    if not filled:
        return [], ()
    others = ", ".join(filled[1:])
    notes = (f"the sheet {filled[0]!r} is read; left out: {others}",) if others else ()
    return list(sheets[filled[0]]), notes


def _parquet_rows(path: Path) -> list[Sequence[Any]]:
    _need("pyarrow", "Parquet", path)
    names, kept, columns = read_parquet(path)
    # pandas stores the index of a frame after its columns.
    index = [name for name in kept if isinstance(name, str) and name in names]
    order = [names.index(name) for name in (*index, *(name for name in names if name not in index))]
    header = ["" if names[at].startswith("__index_level_") else names[at] for at in order]
    rows = zip(*(columns[at] for at in order), strict=True)
    return [header, *(list(row) for row in rows)]


def _need(library: str, kind: str, path: Path) -> None:
    """That the library for a kind of table is installed; the child process imports it."""
    missing = sys.modules.get(library, library) is None
    if missing or find_spec(library) is None:
        raise DataError(
            f"{kind} tables need {library}", where=str(path), fix="pip install 'dkgzsl[tables]', or save as CSV"
        )
