"""The feature store: region features of many images in one memory-mapped array; an interrupted one is continued.

A store is a folder of three files:

- `tokens.npy`, half precision [N, 1 + R, C]: for each image the global token, then the regions row by row from
  the top left;
- `index.jsonl`, one line an image in the same order: path, label, sha256 of the file, `done` or `unreadable`;
- `store.json`, the record: where the tokens came from, enough to make them again.

An image counts as done when its line is in the index, and lines are written after their tokens: at whatever
moment a process dies, the index says where to go on. Class descriptions are no part of a store.

Each line ends with three checksums (CRC-32): of the image's global token, of its region tokens, and of the line up
to there. The record has a sha256 of itself. Lines and record are verified when a store is opened, tokens when they
are read. Stores of dkgzsl 0.2 and earlier have no checksums; `add_checksums` adds them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from jaxtyping import Bool, Integer

from dkgzsl.checksums import warn_of_old
from dkgzsl.errors import DataError
from dkgzsl.features.checked_rows import CheckedRows, RowSums
from dkgzsl.files import write_whole
from dkgzsl.reading import check_schema, json_lines, load_npy, parse_json, read_text

FORMAT: Final = "dkgzsl feature store 1"
TOKENS: Final = "tokens.npy"
INDEX: Final = "index.jsonl"
RECORD: Final = "store.json"
_OWN: Final = "sha256"
"""In the record: its own checksum."""
_SUMS: Final = ', "crc32": ['
_KEYS: Final = {"path", "label", "sha256", "status", "why"}


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image in the index.

    Attributes:
        path: path relative to the images' root, with forward slashes.
        label: its class, a position in the record's `class_names`.
        sha256: of the file's bytes; None where the file could not be opened at all.
        why: why the image could not be read; None where it could.
        sums: of its tokens; None in stores without checksums.
    """

    path: str
    label: int
    sha256: str | None
    why: str | None = None
    sums: RowSums | None = None

    def line(self) -> str:
        """The entry as a line of the index."""
        status = {"status": "done"} if self.why is None else {"status": "unreadable", "why": self.why}
        entry = {"path": self.path, "label": self.label, "sha256": self.sha256, **status}
        line = json.dumps(entry, ensure_ascii=False)
        if self.sums is None:
            return line + "\n"
        line = f"{line[:-1]}{_SUMS}{self.sums.first}, {self.sums.others}, "
        return f"{line}{zlib.crc32(line.encode())}]}}\n"

    @classmethod
    def of(cls, entry: dict[str, Any], line: str) -> ImageEntry:
        """The entry that `line` wrote, from its JSON values.

        Raises:
            ValueError, KeyError, TypeError: it is damaged.
        """
        sums = entry.pop("crc32", None)
        if not entry.keys() <= _KEYS:
            raise ValueError(f"an image has the unknown entry {min(entry.keys() - _KEYS)!r}")
        if sums is not None:
            first, others, own = sums
            if zlib.crc32(line[: line.rindex(str(own))].encode()) != own:
                raise ValueError(f"the line of {entry['path']} differs from its checksum")
            sums = RowSums(first, others)
        return cls(entry["path"], entry["label"], entry["sha256"], entry.get("why"), sums)


@dataclass(frozen=True)
class FeatureStore:
    """A finished store, opened for reading.

    Attributes:
        folder: where it lies.
        tokens: the features [N, 1 + R, C], mapped, each row checked as it is read; rows of unreadable images are
            zero.
        entries: the index, N entries.
        record: backbone, weights, preprocessing, versions, grid, class names.
    """

    folder: Path
    tokens: np.ndarray | CheckedRows
    entries: tuple[ImageEntry, ...]
    record: Mapping[str, Any]

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Path of each image, relative to the images' root."""
        return tuple(entry.path for entry in self.entries)

    @cached_property
    def labels(self) -> Integer[np.ndarray, " images"]:
        """Class of each image, a position in `class_names`."""
        return np.array([entry.label for entry in self.entries], np.int64)

    @cached_property
    def readable(self) -> Bool[np.ndarray, " images"]:
        """Which images could be read."""
        return np.array([entry.why is None for entry in self.entries], bool)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that the labels count."""
        return tuple(self.record["class_names"])

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the regions; None for a store of global tokens alone."""
        grid = self.record.get("grid")
        return None if grid is None else (grid[0], grid[1])

    def provenance(self) -> dict[str, Any]:
        """What is recorded with every number that is computed from the store."""
        return {
            "backbone": (self.record.get("backbone") or {}).get("name"),
            "store": {key: value for key, value in self.record.items() if key != "class_names"},
            "unreadable_images": int((~self.readable).sum()),
        }

    def rows_of(self, paths: Sequence[str]) -> Integer[np.ndarray, " images"]:
        """The row of each image, by path.

        Raises:
            DataError: the store lacks an image.
        """
        row = {path: number for number, path in enumerate(self.paths)}
        missing = [path for path in paths if path not in row]
        if missing:
            raise DataError(
                f"the feature store lacks {len(missing):,} of {len(paths):,} images, the first is {missing[0]}",
                where=str(self.folder),
                fix="extract the features of this problem again",
            )
        return np.array([row[path] for path in paths], np.int64)


def stored_as(record: Mapping[str, Any]) -> str:
    """Precision of recorded features: `float16` in a store; other records name theirs."""
    return str(record.get("stored_as", "float16"))


def is_store(folder: Path) -> bool:
    """Whether a folder holds a feature store, finished or not."""
    return (folder / RECORD).is_file()


def open_store(folder: Path) -> FeatureStore:
    """Open a finished store for reading.

    Raises:
        DataError: there is none, it is unfinished, its record or index is damaged, or its files do not belong
            together.
    """
    record, entries = read_record(folder), tuple(_read_index(folder / INDEX))
    shape = tuple(record["shape"])
    if len(entries) < shape[0]:
        raise DataError(
            f"the feature store is unfinished: {len(entries):,} of {shape[0]:,} images are done",
            where=str(folder),
            fix="run the same `dkgzsl extract` again: it goes on from there",
        )
    sums = [entry.sums for entry in entries if entry.sums is not None]
    if not sums and entries:
        warn_of_old(folder)
    elif len(sums) < len(entries) or not _has_own_sum(folder / RECORD):
        raise DataError(
            f"{INDEX} or {RECORD} is damaged: checksums are missing",
            where=str(folder),
            fix="extract again with --overwrite, or take the store from a backup",
        )
    tokens: np.ndarray | CheckedRows = load_npy(folder / TOKENS, "cannot read the features", mapped=True)
    if sums:
        tokens = CheckedRows(folder / TOKENS, sums, [entry.path for entry in entries])
    if tokens.shape != shape or tokens.dtype != np.float16 or len(entries) != shape[0]:
        raise DataError(
            f"the store's files do not belong together: {TOKENS} is {tokens.dtype} {list(tokens.shape)}, "
            f"{RECORD} says float16 {list(shape)}, {INDEX} has {len(entries):,} images",
            where=str(folder),
            fix="extract again with --overwrite",
        )
    return FeatureStore(folder, tokens, entries, record)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a store, finished or not.

    Raises:
        DataError: the folder holds no store, or one of another format.
    """
    path = folder / RECORD
    text = read_text(path, "no feature store")
    record = parse_json(text, "the record is damaged", path)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise DataError(f"not a store of the format {FORMAT!r}", where=str(path))
    own = record.pop(_OWN, None)
    if own not in (None, _sum_of(record)):
        raise DataError(
            f"{RECORD} is damaged: it differs from its own checksum",
            where=str(folder),
            fix="extract again with --overwrite, or take the store from a backup",
        )
    check_schema(record, _schemas()[0], "the record is damaged", path)
    return record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a store with its checksum.

    Raises:
        OSError: it cannot be written.
    """
    content = {**record, _OWN: _sum_of(record)}
    write_whole(folder / RECORD, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def add_checksums(store: FeatureStore) -> FeatureStore:
    """Write the checksums of a finished store that has none; its tokens are taken as they are now.

    Returns:
        The store, opened again.

    Raises:
        OSError: it cannot be written.
    """
    if isinstance(store.tokens, CheckedRows):
        return store
    # The record first: a record with a checksum and an index without is a store without checksums.
    write_record(store.folder, store.record)
    lines = (
        replace(entry, sums=RowSums.of(np.array(store.tokens[row]))).line()
        for row, entry in enumerate(store.entries)
    )
    write_whole(store.folder / INDEX, "".join(lines))
    return open_store(store.folder)


def _sum_of(record: Mapping[str, Any]) -> str:
    return sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _has_own_sum(path: Path) -> bool:
    return _OWN in json.loads(path.read_text(encoding="utf-8"))


def _read_index(path: Path) -> list[ImageEntry]:
    fix = "extract again with --overwrite, or take the store from a backup"
    what = "the index is damaged or cannot be read"
    try:
        return [ImageEntry.of(entry, line) for line, entry in json_lines(path, _schemas()[1], what, fix=fix)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{what}: {error}", where=str(path), fix=fix) from error


@cache
def _schemas() -> tuple[Any, Any]:
    """What the record and a line of the index must hold; made when first needed, since pydantic takes a while."""
    from pydantic import ConfigDict, Field, create_model

    whole = Annotated[int, Field(ge=0)]
    rules = ConfigDict(strict=True, extra="allow")
    backbone: Any = create_model("Backbone", __config__=rules, name=(str, ...))
    record = create_model(
        "Record",
        __config__=rules,
        shape=(Annotated[list[whole], Field(min_length=3, max_length=3)], ...),
        class_names=(list[str], ...),
        grid=(Annotated[list[whole], Field(min_length=2, max_length=2)] | None, None),
        backbone=(backbone | None, None),
        preprocessing=(dict[str, Any] | None, None),
        weights=(dict[str, Any], {}),
    )
    line = create_model(
        "Line",
        __config__=rules,
        path=(str, ...),
        label=(whole, ...),
        sha256=(str | None, ...),
        why=(str | None, None),
    )
    return record, line
