"""Tables of class descriptions: one row a class, one column a semantic dimension, CSV or Parquet."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dkgzsl.data.names import clean_name
from dkgzsl.errors import DataError

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class SemanticTable:
    """Class descriptions as they lie in a file.

    Attributes:
        classes: K class names, each once.
        columns: S column names.
        values: the descriptions, finite numbers [K, S].
    """

    classes: tuple[str, ...]
    columns: tuple[str, ...]
    values: Float[np.ndarray, "classes semantic"]

    def rows_of(self, classes: Sequence[str]) -> Float[np.ndarray, "classes semantic"]:
        """The descriptions of `classes`, in their order; each must have a row."""
        row = {name: number for number, name in enumerate(self.classes)}
        return self.values[[row[name] for name in classes]]


def is_semantic_table(path: Path) -> bool:
    """Whether a file is a table whose first column is called `class` and whose second holds no text.

    Raises:
        DataError: the file cannot be read.
    """
    if path.suffix.lower() not in SUFFIXES:
        return False
    header = next(_rows(path), [])
    names = [str(cell).strip().lower() for cell in header]
    return len(names) > 1 and names[0] == "class" and names[1] not in ("role", "description")


def read_semantic_table(path: Path) -> SemanticTable:
    """Read a table with a class name first in each row and numbers after it.

    Raises:
        DataError: the file is missing, has no such columns, a row of another length, a class twice, or a cell
            that is no finite number; the message names row and column as a spreadsheet counts them.
    """
    rows = _rows(path)
    header = [str(cell).strip() for cell in next(rows, [])]
    if len(header) < 2 or header[0].lower() != "class":
        found = header[0] if header else ""
        hint = " (the columns must be separated by commas)" if ";" in found or "\t" in found else ""
        raise DataError(
            f"the first column of a semantic table is called 'class', not {found[:60]!r}{hint}",
            where=str(path),
            fix="write a header line: class, then one name a column",
        )
    lines: dict[str, int] = {}
    values: list[list[float]] = []
    for line, row in enumerate(rows, start=2):
        if not any(str(cell).strip() for cell in row if cell is not None):
            continue
        where = f"{path}, row {line}"
        if len(row) != len(header):
            raise DataError(f"the row has {len(row)} cells, the header has {len(header)}", where=where)
        name = clean_name(str(row[0] if row[0] is not None else ""))
        if not name:
            raise DataError("the row has no class name", where=where)
        if name in lines:
            raise DataError(
                f"class {name!r} has two rows: {lines[name]} and {line}", where=str(path), fix="keep one of them"
            )
        lines[name] = line
        values.append([_number(cell, where, column) for cell, column in zip(row[1:], header[1:], strict=True)])
    if not values:
        raise DataError("the table has a header and no rows", where=str(path))
    return SemanticTable(tuple(lines), tuple(header[1:]), np.asarray(values, np.float64))


def write_semantic_table(path: Path, table: SemanticTable) -> None:
    """Write a table as CSV, each number in the shortest form that reads back to the same value."""
    rows = ([name, *map(str, row)] for name, row in zip(table.classes, table.values, strict=True))
    write_csv(path, ["class", *table.columns], rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file in UTF-8 with plain line ends."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_named_columns(path: Path, wanted: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
    """Rows of a CSV file by column name, as text: (row number, cells in the order of `wanted`).

    Raises:
        DataError: the file cannot be read, lacks a column, or has a row of another length than its header.
    """
    rows = _rows(path)
    header = [str(cell).strip().lower() for cell in next(rows, [])]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise DataError(
            f"no column is called {missing[0]!r}", where=str(path), fix=f"columns here: {', '.join(header)}"
        )
    picks = [header.index(name) for name in wanted]
    found = []
    for line, row in enumerate(rows, start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise DataError(
                f"the row has {len(row)} cells, the header has {len(header)}",
                where=f"{path}, row {line}",
                fix="a text with commas stands in double quotes",
            )
        found.append((line, tuple(row[pick].strip() for pick in picks)))
    return found


def _rows(path: Path) -> Iterator[list[Any]]:
    if path.suffix.lower() == ".parquet":
        yield from _parquet_rows(path)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(file)
    except OSError as error:
        raise DataError(f"cannot read the table: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise DataError("the table is not UTF-8 text", where=str(path), fix="save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise DataError(f"not a CSV table: {error}", where=str(path)) from error


def _parquet_rows(path: Path) -> Iterator[list[Any]]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(
            "Parquet tables need pyarrow", where=str(path), fix="pip install 'dkgzsl[tables]', or save as CSV"
        ) from error
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"cannot read the Parquet table: {error}", where=str(path)) from error
    yield list(table.column_names)
    columns = [column.to_pylist() for column in table.columns]
    yield from (list(row) for row in zip(*columns, strict=True))


def _number(cell: Any, where: str, column: str) -> float:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = None
    where = f"{where}, column {column!r}"
    if value is None:
        shown = "empty" if cell is None or not str(cell).strip() else f"{str(cell)[:40]!r}, not a number"
        raise DataError(f"the cell is {shown}", where=where, fix="every cell after the class name holds a number")
    if not math.isfinite(value):
        raise DataError(f"the cell is {value}, not a finite number", where=where)
    return value
