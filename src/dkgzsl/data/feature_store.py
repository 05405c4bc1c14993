"""The feature store: region features of many images in one memory-mapped array that survives being interrupted.

A store is a folder of three files:

- `tokens.npy`, half precision [N, 1 + R, C]: for each image the global token, then the regions row by row from
  the top left;
- `index.jsonl`, one line an image in the same order: path, label, sha256 of the file, `done` or `unreadable`;
- `store.json`, the record: where the tokens came from, enough to make them again.

An image counts as done when its line stands in the index, and lines are written after their tokens, so whatever
moment a process dies at, the index tells where to go on. Class descriptions are no part of a store.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float16, Integer

from dkgzsl.errors import ConfigError, DataError

FORMAT: Final = "dkgzsl feature store 1"
TOKENS: Final = "tokens.npy"
INDEX: Final = "index.jsonl"
RECORD: Final = "store.json"


@dataclass(frozen=True)
class ImageEntry:
    """One image in the index.

    Attributes:
        path: path relative to the images' root, with forward slashes.
        label: its class, a position in the record's `class_names`.
        sha256: of the file's bytes; None where the file could not be opened at all.
        why: why the image could not be read; None where it could.
    """

    path: str
    label: int
    sha256: str | None
    why: str | None = None

    def line(self) -> str:
        """The entry as a line of the index."""
        status = {"status": "done"} if self.why is None else {"status": "unreadable", "why": self.why}
        entry = {"path": self.path, "label": self.label, "sha256": self.sha256, **status}
        return json.dumps(entry, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class FeatureStore:
    """A finished store, opened for reading.

    Attributes:
        folder: where it lies.
        tokens: the features [N, 1 + R, C], a memory map; rows of unreadable images are zero.
        entries: the index, N entries.
        record: backbone, weights, preprocessing, versions, grid, class names.
    """

    folder: Path
    tokens: Float16[np.ndarray, "images tokens channels"]
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
        return None if self.record["grid"] is None else (self.record["grid"][0], self.record["grid"][1])

    def provenance(self) -> dict[str, Any]:
        """What is recorded with every number that is computed from the store."""
        return {
            "backbone": self.record["backbone"]["name"],
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


def is_store(folder: Path) -> bool:
    """Whether a folder holds a feature store, finished or not."""
    return (folder / RECORD).is_file()


def open_store(folder: Path) -> FeatureStore:
    """Open a finished store for reading.

    Raises:
        DataError: there is none, it is unfinished, or its files do not belong together.
    """
    record = read_record(folder)
    entries = tuple(_read_index(folder / INDEX))
    shape = tuple(record["shape"])
    if len(entries) < shape[0]:
        raise DataError(
            f"the feature store is unfinished: {len(entries):,} of {shape[0]:,} images are done",
            where=str(folder),
            fix="run the same `dkgzsl extract` again: it goes on from there",
        )
    try:
        tokens = np.load(folder / TOKENS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the features: {error}", where=str(folder / TOKENS)) from error
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
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"no feature store: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise DataError(f"the record is damaged: {error}", where=str(path)) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise DataError(f"not a store of the format {FORMAT!r}", where=str(path))
    return record


class StoreWriter:
    """Writes a store image by image, in order; opening it again with the same record goes on where it stopped.

    Args:
        folder: where the store lies or shall lie.
        record: everything that decides the tokens' values; JSON values. `class_names`, `grid` (rows, columns, or
            None) and `batch_size` must be among them.
        paths: relative path of each image.
        labels: class of each image.
        tokens: number of tokens an image, 1 + R.
        channels: their size C.
        overwrite: start again whatever is there, if it is a store.

    Attributes:
        done: images that stand in the index, a whole number of batches or all of them.

    Raises:
        ConfigError: the store there was made with other settings, or of other images.
        DataError: the folder holds something else, another process writes the store, or the disk is too small.
    """

    def __init__(
        self,
        folder: Path,
        *,
        record: Mapping[str, Any],
        paths: Sequence[str],
        labels: Sequence[int],
        tokens: int,
        channels: int,
        overwrite: bool = False,
    ) -> None:
        self._folder, self._paths, self._labels = folder, list(paths), [int(label) for label in labels]
        images = "".join(f"{label} {path}\n" for path, label in zip(paths, self._labels, strict=True))
        self.record: dict[str, Any] = {
            "format": FORMAT,
            **record,
            "shape": [len(self._paths), tokens, channels],
            "images_sha256": sha256(images.encode()).hexdigest(),
        }
        self._prepare(overwrite)
        self._index = (folder / INDEX).open("r+b")
        _lock(self._index, folder)
        self.done = self._keep_whole_batches()
        self._tokens = (folder / TOKENS).open("r+b")
        self._start = (folder / TOKENS).stat().st_size - 2 * int(np.prod(self.record["shape"]))

    def append(
        self, tokens: Float16[np.ndarray, "batch tokens channels"], files: Sequence[tuple[str | None, str | None]]
    ) -> None:
        """Write the tokens of the next images and then, when these are on the disk, their lines in the index.

        `files` gives for each image the sha256 of its file and why it could not be read (None: it could).
        """
        count, (_, *rest) = len(files), self.record["shape"]
        self._tokens.seek(self._start + 2 * self.done * int(np.prod(rest)))
        self._tokens.write(np.ascontiguousarray(tokens).data)
        _flush(self._tokens)
        lines = [
            ImageEntry(self._paths[row], self._labels[row], digest, why).line()
            for row, (digest, why) in enumerate(files, start=self.done)
        ]
        self._index.write("".join(lines).encode())
        _flush(self._index)
        self.done += count

    def close(self) -> None:
        """Close the files; the store can be opened again to go on, or to read when it is finished."""
        self._tokens.close()
        self._index.close()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self, overwrite: bool) -> None:
        folder = self._folder
        if folder.exists() and not folder.is_dir():
            raise DataError("the store is a folder, and a file is there", where=str(folder))
        present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if present and not present <= {TOKENS, INDEX, RECORD, f"{RECORD}.part"}:
            raise DataError(
                "the folder holds something else than a feature store",
                where=str(folder),
                fix="name a new folder with --out",
            )
        if RECORD in present and not overwrite:
            _refuse_difference(read_record(folder), self.record, folder)
            return
        # The record is written last and removed first: without it, the folder counts as empty.
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).unlink(missing_ok=True)
        shape = tuple(self.record["shape"])
        needed, free = 2 * int(np.prod(shape)), shutil.disk_usage(folder).free
        if needed > free:
            raise DataError(
                f"the store takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
                where=str(folder),
                fix="name a folder on another disk with --out",
            )
        np.lib.format.open_memmap(folder / TOKENS, mode="w+", dtype=np.float16, shape=shape)
        (folder / INDEX).write_bytes(b"")
        part = folder / f"{RECORD}.part"
        part.write_text(json.dumps(self.record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(folder / RECORD)

    def _keep_whole_batches(self) -> int:
        """Cut the index after its last whole batch, so that batches are the same however often one resumes."""
        content = self._index.read()
        ends = [at + 1 for at, byte in enumerate(content) if byte == ord("\n")]
        done, batch = len(ends), self.record["batch_size"]
        if done < len(self._paths):
            done -= done % batch
        self._index.truncate(ends[done - 1] if done else 0)
        self._index.seek(0, os.SEEK_END)
        return done


def _refuse_difference(there: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    wanted = json.loads(json.dumps(wanted))
    for key in sorted(there.keys() | wanted.keys()):
        old, new = there.get(key), wanted.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            key, old, new = next(
                (f"{key}: {k}", old.get(k), new.get(k)) for k in sorted(old | new) if old.get(k) != new.get(k)
            )
        shown = "" if key in ("class_names", "images_sha256") else f", {old} there and {new} now"
        raise ConfigError(
            f"the feature store there was made with another {key}{shown}",
            where=str(folder),
            fix="use the same settings to go on, another --out, or --overwrite to start again",
        )


def _read_index(path: Path) -> list[ImageEntry]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last line end is cut off
        parsed = [json.loads(line) for line in lines]
        return [ImageEntry(e["path"], e["label"], e["sha256"], e.get("why")) for e in parsed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the index cannot be read: {error!r}", where=str(path)) from error


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _lock(file: Any, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has no such lock; there nothing keeps two writers apart
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise DataError("another process is writing this feature store", where=str(folder)) from error
