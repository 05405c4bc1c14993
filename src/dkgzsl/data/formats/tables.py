"""Tables of class descriptions: one row a class, one column a semantic dimension; CSV, Excel or Parquet."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from dkgzsl.data.formats.cells import check_decimals, is_numeral, numbers_of
from dkgzsl.data.formats.spreadsheet import SUFFIXES as SUFFIXES
from dkgzsl.data.formats.spreadsheet import Sheet, read_sheet
from dkgzsl.data.names import clean_name, name_key
from dkgzsl.errors import DataError

_OF_CLASSES: Final = ("class", "classname", "classes", "name", "label", "category", "species", "klasse", "classe")
"""What the column of class names is called, by `name_key`; `class` comes first."""
OF_TEXT: Final = {"role", "description", "sentence", "text"}
"""Second columns of tables that describe classes by something other than numbers."""


@dataclass(frozen=True)
class SemanticTable:
    """Class descriptions as they lie in a file.

    Attributes:
        classes: K class names, each once.
        columns: S column names.
        values: the descriptions [K, S], finite numbers; NaN where a value is missing.
        notes: what was decided while reading, for people.
    """

    classes: tuple[str, ...]
    columns: tuple[str, ...]
    values: Float[np.ndarray, "classes semantic"]
    notes: tuple[str, ...] = ()

    def rows_of(self, classes: Sequence[str]) -> Float[np.ndarray, "classes semantic"]:
        """The descriptions of `classes`, in their order; each must have a row."""
        row = {name: number for number, name in enumerate(self.classes)}
        return self.values[[row[name] for name in classes]]


def is_semantic_table(path: Path) -> bool:
    """Whether a file is a table with a column `class` and, next to it, something other than roles or sentences.

    Raises:
        DataError: the file cannot be read.
    """
    if path.suffix.lower() not in SUFFIXES:
        return False
    header = columns_of(path)
    at = header.index("class") if "class" in header else -1
    return 0 <= at < len(header) - 1 and header[at + 1] not in OF_TEXT


def columns_of(path: Path) -> list[str]:
    """Names of a table's columns, in lower case.

    Raises:
        DataError: the file cannot be read.
    """
    return _header(read_sheet(path))


def read_semantic_table(path: Path) -> SemanticTable:
    """Read a table with one class a row and numbers next to its name.

    The column of class names is the one called `class`, or by a word like it; or else the first one, whatever its
    name. An index that a data frame has put before it is left out.

    Raises:
        DataError: the file is missing, has no such columns, two columns of one name, a row of another length, a
            class twice, a row or column without any value, or a cell that is no finite number; the message names
            row and column as a spreadsheet counts them.
    """
    sheet = read_sheet(path)
    if not sheet.rows:
        raise DataError("the table is empty: no column is called 'class'", where=str(path), fix=_HEADER)
    (_, first), *rows = sheet.rows
    header = [str("" if cell is None else cell).strip() for cell in first]
    at, columns, notes = _columns(header, [row for _, row in rows], path)
    lines: dict[str, int] = {}
    keys: dict[str, str] = {}
    for line, row in rows:
        _check_length(row, header, f"{path}, row {line}", sheet)
        name = clean_name("" if row[at] is None else str(row[at]))
        if not name:
            raise DataError("the row has no class name", where=f"{path}, row {line}")
        twin = keys.setdefault(name_key(name), name)
        if name in lines or twin != name:
            also = "" if twin == name else f", there as {twin!r}: case, _, hyphens and blanks make no other name"
            raise DataError(
                f"class {name!r} has two rows: {lines[twin]} and {line}{also}",
                where=str(path),
                fix="keep one of them",
            )
        lines[name] = line
    if not lines:
        raise DataError("the table has a header and no rows", where=str(path))
    values = _values(sheet, rows, header, columns, path)
    names = tuple(header[column] for column in columns)
    return SemanticTable(tuple(lines), names, values, (*sheet.notes, *notes))


_HEADER: Final = "write a header line: class, then one name a column"


def _columns(
    header: Sequence[str], rows: Sequence[Sequence[Any]], path: Path
) -> tuple[int, list[int], tuple[str, ...]]:
    """Position of the class names, those of the numbers, and notes on what was left out."""
    if len(header) < 2:
        raise DataError(
            f"the table has one column, {header[0][:60]!r}: numbers of the classes are missing",
            where=str(path),
            fix=f"{_HEADER}; columns are separated by commas, semicolons or tabs",
        )
    keys = [name_key(name) for name in header]
    at = next((keys.index(word) for word in _OF_CLASSES if word in keys), None)
    first_numbers = sum(is_numeral(row[0]) for row in rows if len(row))
    if at is None and rows and first_numbers == len(rows):
        texts = [n for n in range(1, len(header)) if not any(is_numeral(r[n]) for r in rows if len(r) > n)]
        at = texts[0] if len(texts) == 1 and _is_index(header[0], [row[0] for row in rows]) else None
        if at is None and header[0] == "" and not texts and _is_index("", [row[0] for row in rows]):
            raise DataError(
                "no column holds class names: the first one counts the rows",
                where=str(path),
                fix="call the column of the class names 'class'",
            )
    at = at or 0
    if at == 0 and keys[0] not in _OF_CLASSES and _looks_like_a_row(header):
        raise DataError("the first row holds a class, not the columns' names", where=str(path), fix=_HEADER)
    left_out = [n for n in range(at) if _is_index(header[n], [row[n] for row in rows if len(row) > n])]
    columns = [n for n in range(len(header)) if n != at and n not in left_out]
    named = Counter(header[n] for n in columns)
    for name, count in named.items():
        places = [n + 1 for n in columns if header[n] == name]
        if not name:
            raise DataError(f"column {places[0]} has no name", where=str(path), fix="give it one, or take it out")
        if count > 1:
            raise DataError(
                f"two columns are called {name!r}: {places[0]} and {places[1]}",
                where=str(path),
                fix="rename one of them, or take it out",
            )
    if not columns:
        raise DataError("the table has no numbers of the classes", where=str(path), fix=_HEADER)
    notes = [f"column {n + 1} counts the rows, and is left out" for n in left_out]
    if keys[at] != "class" and (at or header[0]):
        notes.append(f"column {header[at]!r} is taken for the class names")
    return at, columns, tuple(notes)


def _is_index(name: str, cells: Sequence[Any]) -> bool:
    """Whether a column only counts the rows, as data frames and databases number theirs."""
    if not re.fullmatch(r"|unnamed: \d+|index|id|nr\.?|no\.?|#", name.casefold()):
        return False
    try:
        counted = [float(cell) for cell in cells]
    except (TypeError, ValueError):
        return False
    return counted in (list(range(len(counted))), list(range(1, len(counted) + 1)))


def _looks_like_a_row(header: Sequence[str]) -> bool:
    """Whether what should be names are numbers; whole numbers one after the other count dimensions."""
    if not header[0] or not all(map(is_numeral, header[1:])):
        return False
    try:
        given = [float(cell) for cell in header[1:]]
    except ValueError:
        return True
    return len(given) < 2 or given != [given[0] + step for step in range(len(given))]


def _values(
    sheet: Sheet,
    rows: Sequence[tuple[int, tuple[Any, ...]]],
    header: Sequence[str],
    columns: Sequence[int],
    path: Path,
) -> Float[np.ndarray, "classes semantic"]:
    lines = [line for line, _ in rows]
    places = {n: _Places(path, lines, header[n]) for n in columns}
    if any("," in row[n] for _, row in rows for n in columns if isinstance(row[n], str)):
        cells = [(row[n], places[n][at]) for at, (_, row) in enumerate(rows) for n in columns]
        check_decimals(cells, separated_by_comma=not sheet.decimal_comma)
    by_column = [numbers_of([row[n] for _, row in rows], places[n]) for n in columns]
    values = np.asarray(by_column, np.float64).T.copy()
    for where, empty in (("row", np.isnan(values).all(1)), ("column", np.isnan(values).all(0))):
        if empty.any():
            at = int(np.flatnonzero(empty)[0])
            place = f"row {lines[at]}" if where == "row" else f"column {header[columns[at]]!r}"
            raise DataError(
                f"the {where} has no value at all", where=f"{path}, {place}", fix="fill some in, or take it out"
            )
    return values


class _Places(Sequence[str]):
    """Where the cells of a column stand, written out only where one is asked for."""

    def __init__(self, path: Path, lines: Sequence[int], column: str) -> None:
        self._path, self._lines, self._column = path, lines, column

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, at: Any) -> Any:
        return f"{self._path}, row {self._lines[at]}, column {self._column!r}"


def write_semantic_table(path: Path, table: SemanticTable) -> None:
    """Write a table as CSV, each number in the shortest form that reads back to the same value; NaN as no text."""
    rows = (
        [name, *("" if math.isnan(value) else str(value) for value in row)]
        for name, row in zip(table.classes, table.values, strict=True)
    )
    write_csv(path, ["class", *table.columns], rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file in UTF-8 with plain line ends."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_named_columns(
    path: Path, wanted: Sequence[str], *, optional: Sequence[str] = ()
) -> list[tuple[int, tuple[str, ...]]]:
    """Rows of a table by column name, as text: (row number, cells in the order of `wanted`, then of `optional`).

    Args:
        path: the file.
        wanted: names of columns that it must have.
        optional: further columns; where the file has none of a name, its cells are empty.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a row of another length than its header.
    """
    sheet = read_sheet(path)
    header = _header(sheet)
    missing = [name for name in wanted if name not in header]
    if missing:
        raise DataError(
            f"no column is called {missing[0]!r}", where=str(path), fix=f"columns here: {', '.join(header)}"
        )
    picks = [header.index(name) if name in header else None for name in (*wanted, *optional)]
    found = []
    for line, row in sheet.rows[1:]:
        _check_length(row, header, f"{path}, row {line}", sheet, fix="a text with commas stands in double quotes")
        cells = ("" if pick is None or row[pick] is None else str(row[pick]).strip() for pick in picks)
        found.append((line, tuple(cells)))
    return found


def _header(sheet: Sheet) -> list[str]:
    first = sheet.rows[0][1] if sheet.rows else ()
    return ["" if cell is None else str(cell).strip().lower() for cell in first]


def _check_length(
    row: Sequence[Any], header: Sequence[str], where: str, sheet: Sheet, *, fix: str | None = None
) -> None:
    if len(row) == len(header):
        return
    comma = "decimal commas need another separator than the comma: save it with semicolons"
    longer = not sheet.decimal_comma and len(row) > len(header)
    raise DataError(
        f"the row has {len(row)} cells, the header has {len(header)}",
        where=where,
        fix=fix
        or (comma if longer else "give each column a cell in every row, an empty one where it holds nothing"),
    )
