"""The tables of class descriptions in a folder: found among whatever else lies there, and matched by class."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from dkgzsl.data.formats.spreadsheet import SAVE_AS, SUFFIXES, UNREAD
from dkgzsl.data.formats.tables import OF_TEXT, SemanticTable, columns_of, is_semantic_table, read_semantic_table
from dkgzsl.data.gaps import gap_notes
from dkgzsl.data.names import by_known_name, name_key
from dkgzsl.errors import DataError, nearest
from dkgzsl.features.photo_files import is_system


@dataclass(frozen=True)
class Tables:
    """Tables of class descriptions by name.

    Attributes:
        default_name: the one that was asked for; None where none was.
        tables: by name, the file's without its suffix.
        origins: file of each table.
        loose: tables without a column `class`, which are taken only where they fit the classes.
        notes: for people.
    """

    default_name: str | None
    tables: Mapping[str, SemanticTable]
    origins: Mapping[str, Path]
    loose: frozenset[str]
    notes: tuple[str, ...]

    @property
    def default(self) -> SemanticTable:
        """The table that was asked for."""
        assert self.default_name is not None, "none was asked for"
        return self.tables[self.default_name]

    def without(self, classes: Collection[str]) -> Tables:
        """The same tables without the rows of some classes."""
        left_out = {name_key(name) for name in classes}

        def kept(table: SemanticTable) -> SemanticTable:
            rows = [n for n, name in enumerate(table.classes) if name_key(name) not in left_out]
            return replace(table, classes=tuple(table.classes[n] for n in rows), values=table.values[rows])

        return replace(
            self, tables={name: kept(table) for name, table in self.tables.items()} if classes else self.tables
        )


def find_tables(folder: Path, semantics: str | None, *, other_than: Path | None = None) -> Tables:
    """Read the tables of a folder; a file that is none is left out, and a note says why.

    Args:
        folder: the folder.
        semantics: name of the table that is asked for, which must be one.
        other_than: a file that is no table of descriptions.

    Raises:
        DataError: the table that is asked for is missing or cannot be read, or two tables have the same name.
    """
    origins: dict[str, Path] = {}
    tables: dict[str, SemanticTable] = {}
    notes: list[str] = []
    loose = set()
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path == other_than or is_system(path) or not path.is_file():
            continue
        try:
            table, strict = _read(path)
        except DataError as error:
            if path.stem == semantics:
                raise
            notes.append(f"{path.name} is no table of class descriptions: {error.what}")
            continue
        if table is None:
            continue
        if path.stem in origins:
            raise DataError(
                f"two tables are called {path.stem!r}: {origins[path.stem].name} and {path.name}",
                where=str(folder),
                fix="rename one of them",
            )
        origins[path.stem], tables[path.stem] = path, table
        notes += [f"{path.name}: {note}" for note in table.notes]
        if not strict:
            loose.add(path.stem)
    if semantics is not None and semantics not in tables:
        raise _missing(folder, semantics, tables, notes)
    return Tables(semantics, tables, origins, frozenset(loose), tuple(notes))


def default_source(folder: Path) -> str | None:
    """The name of the table that a folder of photos is most likely described by; None where it has none."""
    try:
        found = find_tables(folder, None).tables
    except DataError:
        return None
    return "attributes" if "attributes" in found else next(iter(found), None)


def renamed(found: Tables, classes: Sequence[str], listed: Path) -> Tables:
    """The tables with exactly one row for each class, called as `classes` call it.

    A table without a column `class`, or of none of the classes, is something else, and is left out with a note.

    Args:
        found: as read.
        classes: names of all classes.
        listed: file that they come from, for messages.

    Raises:
        DataError: a table lacks a class, or has a row of another.
    """
    tables, notes = {}, list(found.notes)
    for name, table in found.tables.items():
        written = by_known_name(table.classes, classes)
        rows = [written[row] for row in table.classes]
        mine = {*rows} & {*classes}
        if name != found.default_name and (not mine or (name in found.loose and {*rows} != {*classes})):
            notes.append(f"{found.origins[name].name} is left out: its rows are not those of the classes")
            continue
        _same_classes(rows, classes, found.origins[name], listed)
        tables[name] = replace(table, classes=tuple(rows))
        notes += _twins(found.origins[name].name, tables[name])
        notes += [f"{found.origins[name].name}: {note}" for note in gap_notes(tables[name].values, classes=rows)]
    return replace(
        found, tables=tables, origins={name: found.origins[name] for name in tables}, notes=tuple(notes)
    )


def _read(path: Path) -> tuple[SemanticTable | None, bool]:
    """The table, and whether a column is called `class`; None where it describes classes by words or roles."""
    header = columns_of(path)
    if "class" in header and OF_TEXT & {*header} and not is_semantic_table(path):
        return None, True
    return read_semantic_table(path), "class" in header


def _missing(folder: Path, semantics: str, tables: Mapping[str, SemanticTable], notes: Sequence[str]) -> DataError:
    what = f"no table of class descriptions is called {semantics!r}"
    for path in sorted(folder.iterdir()):
        if path.stem == semantics and path.suffix.lower() in UNREAD:
            kind = UNREAD[path.suffix.lower()]
            return DataError(f"{what}: {path.name} is {kind}, which is not read", where=str(path), fix=SAVE_AS)
        if path.name == semantics:
            return DataError(what, where=str(folder), fix=f"leave its suffix out: --semantics {path.stem}")
    others = f"; {'; '.join(notes[:3])}" if notes and not tables else ""
    return DataError(what, where=f"{folder}{others}", fix=nearest(semantics, tables, of="tables here"))


def _same_classes(rows: Sequence[str], classes: Sequence[str], path: Path, listed: Path) -> None:
    missing, unknown = sorted({*classes} - {*rows}), sorted({*rows} - {*classes})
    if missing:
        similar = nearest(missing[0], unknown) if unknown else f"add a row a class to {path.name}"
        short = similar.partition(" (")[0] if similar.startswith("did you mean") else similar[:200]
        raise DataError(
            f"{len(missing)} of {len(classes)} classes have no row: {_few(missing)}", where=str(path), fix=short
        )
    if unknown:
        raise DataError(
            f"{len(unknown)} rows are of classes that {listed.name} does not know: {_few(unknown)}",
            where=str(path),
            fix=f"add them to {listed.name}, or take the rows out",
        )


def _twins(file: str, table: SemanticTable) -> list[str]:
    """A note where classes have the same description: no method can distinguish them if one is unseen."""
    _, group = np.unique(table.values, axis=0, return_inverse=True)
    groups = [np.flatnonzero(group.ravel() == one) for one in range(int(group.max()) + 1)]
    pairs = [f"{table.classes[a]} and {table.classes[b]}" for rows in groups for a, b in combinations(rows, 2)]
    if not pairs:
        return []
    more = f", and {len(pairs) - 3} more pairs" if len(pairs) > 3 else ""
    return [f"{file}: the same description have {'; '.join(pairs[:3])}{more}: describe them in more detail"]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
