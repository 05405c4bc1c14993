"""Tables of class descriptions that were computed: NAME.csv, and NAME.json with what it was computed from.

Two files cannot change in one step. So a table that replaces another is written in three: NAME.json gets the new
origin, the new table's checksum (`table_sha256`) and the older origin (`before`); then NAME.csv is replaced; then
NAME.json loses the other two entries. Whoever reads in between, or after a command was killed there, finds by the
checksum which origin is that of the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dkgzsl.data.formats.problem_record import DAMAGED, origin_schema
from dkgzsl.data.formats.tables import SemanticTable, write_semantic_table
from dkgzsl.errors import DataError
from dkgzsl.files import sha256_of, sweep, whole_file, write_whole
from dkgzsl.reading import check_schema, read_json
from dkgzsl.writing import locked

_SUM: Final = "table_sha256"
_BEFORE: Final = "before"


def write_computed_table(path: Path, table: SemanticTable, origin: Mapping[str, Any]) -> None:
    """Write a table and its origin; stopped at any moment, the older ones are there, or the new ones.

    Args:
        path: the table, `.csv`.
        table: what was computed.
        origin: what it was computed from, as JSON values.

    Raises:
        DataError: a file cannot be written.
        InUseError: another command writes the table.
    """
    record = path.with_suffix(".json")
    try:
        with locked(path, what="this table"):
            sweep(path)
            sweep(record)
            with whole_file(path) as draft:
                write_semantic_table(draft, table)
                older = {_SUM: sha256_of(draft), _BEFORE: origin_of(path)} if path.is_file() else {}
                write_whole(record, as_json({**origin, **older}))
            if older:
                write_whole(record, as_json(dict(origin)))
    except OSError as error:
        raise DataError(f"cannot write the table: {error.strerror or error}", where=str(path)) from error


def origin_of(table: Path) -> dict[str, Any]:
    """What a table was computed from; empty where it was not.

    Raises:
        DataError: the record is damaged.
    """
    path = table.with_suffix(".json")
    if not path.is_file():
        return {}
    origin: dict[str, Any] = read_json(path, origin_schema(), DAMAGED)
    if _BEFORE not in origin:
        return origin
    before, checksum = origin.pop(_BEFORE), origin.pop(_SUM, None)
    if table.is_file() and sha256_of(table) == checksum:
        return origin
    check_schema(before, origin_schema(), DAMAGED, path, fix="dkgzsl data describe again, with --overwrite")
    older: dict[str, Any] = before
    return older


def as_json(value: Any) -> str:
    """As the files of a problem are written."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
