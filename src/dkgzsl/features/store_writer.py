"""Writing a feature store: it may be interrupted at any moment and continued later."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float16

from dkgzsl.errors import ConfigError, DataError
from dkgzsl.features.checked_rows import RowSums
from dkgzsl.features.store import FORMAT, INDEX, RECORD, TOKENS, ImageEntry, read_record, write_record
from dkgzsl.features.store_place import cannot_write, check_room, place_of, take_place, writing_store
from dkgzsl.files import is_draft, sweep


class StoreWriter:
    """Writes a store image by image, in order; opened again with the same record, it continues where it stopped.

    Args:
        folder: of the store, there or not.
        record: everything that decides the tokens' values; JSON values. `class_names`, `grid` (rows, columns, or
            None) and `batch_size` must be among them.
        paths: relative path of each image.
        labels: class of each image.
        tokens: number of tokens an image, 1 + R.
        channels: their size C.
        overwrite: start again whatever is there, if it is a store. The one there stays until the new one is whole
            (see `dkgzsl.features.store_place`); an interrupted one of the same record goes on.

    Attributes:
        done: images in the index, a whole number of batches or all of them.

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
        self._out, self._paths, self._labels = folder, list(paths), [int(label) for label in labels]
        images = "".join(f"{label} {path}\n" for path, label in zip(paths, self._labels, strict=True))
        self.record: dict[str, Any] = {
            "format": FORMAT,
            **record,
            "shape": [len(self._paths), tokens, channels],
            "images_sha256": sha256(images.encode()).hexdigest(),
        }
        self._open = ExitStack()  # the lock comes before the first byte
        try:
            self._open.enter_context(writing_store(folder))
            self._folder = place_of(folder, overwrite=overwrite)
            self._prepare()
            self._index = self._open.enter_context((self._folder / INDEX).open("r+b"))
            _lock(self._index, folder)
            self.done = self._keep_whole_batches()
            self._tokens = self._open.enter_context((self._folder / TOKENS).open("r+b"))
            self._start = (self._folder / TOKENS).stat().st_size - 2 * int(np.prod(self.record["shape"]))
        except OSError as error:
            self._open.close()
            raise cannot_write(error, folder) from error
        except BaseException:
            self._open.close()
            raise

    def append(
        self, tokens: Float16[np.ndarray, "batch tokens channels"], files: Sequence[tuple[str | None, str | None]]
    ) -> None:
        """Write the tokens of the next images and then, when these are on the disk, their lines in the index.

        `files` gives for each image the sha256 of its file and why it could not be read (None: it could).

        Raises:
            DataError: they cannot be written.
        """
        try:
            self._append(tokens, files)
        except OSError as error:
            raise cannot_write(error, self._out) from error

    def _append(
        self, tokens: Float16[np.ndarray, "batch tokens channels"], files: Sequence[tuple[str | None, str | None]]
    ) -> None:
        count, (_, *rest) = len(files), self.record["shape"]
        self._tokens.seek(self._start + 2 * self.done * int(np.prod(rest)))
        self._tokens.write(np.ascontiguousarray(tokens).data)
        _flush(self._tokens)
        lines = [
            self._entry(self.done + k, tokens[k], digest, why).line() for k, (digest, why) in enumerate(files)
        ]
        self._index.write("".join(lines).encode())
        _flush(self._index)
        self.done += count

    def _entry(
        self, row: int, tokens: Float16[np.ndarray, "tokens channels"], digest: str | None, why: str | None
    ) -> ImageEntry:
        """A line of the index; without checksums where the store was begun without."""
        sums = RowSums.of(tokens) if self._with_sums else None
        return ImageEntry(self._paths[row], self._labels[row], digest, why, sums)

    def close(self) -> None:
        """Close the files; the store can be opened again to go on, or to read when it is finished.

        A finished one that replaces another takes its place.

        Raises:
            DataError: it cannot.
        """
        self._tokens.close()
        self._index.close()
        with self._open:
            if self._folder != self._out and self.done == len(self._paths):
                take_place(self._folder, self._out)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self) -> None:
        folder = self._folder
        if folder.exists() and not folder.is_dir():
            raise DataError("the store is a folder, and a file is there", where=str(folder))
        present = {path.name for path in folder.iterdir() if not is_draft(path)} if folder.is_dir() else set()
        if present and not present <= {TOKENS, INDEX, RECORD}:
            raise DataError(
                "the folder holds something else than a feature store",
                where=str(folder),
                fix="name a new folder with --out",
            )
        if RECORD in present:
            try:
                _refuse_difference(read_record(folder), self.record, folder)
                return
            except (ConfigError, DataError):
                if folder == self._out:
                    raise
        # Only here in what is no store yet, or a draft. The record is written last and removed first: without it,
        # the folder counts as empty.
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).unlink(missing_ok=True)
        shape = tuple(self.record["shape"])
        check_room(folder, 2 * int(np.prod(shape)), replaces=folder != self._out)
        np.lib.format.open_memmap(folder / TOKENS, mode="w+", dtype=np.float16, shape=shape)
        (folder / INDEX).write_bytes(b"")
        sweep(folder / RECORD)
        write_record(folder, self.record)

    def _keep_whole_batches(self) -> int:
        """Cut the index after its last whole batch, so that batches are the same however often it is resumed."""
        content = self._index.read()
        self._with_sums = not content or b'"crc32": [' in content[: content.find(b"\n") + 1]
        ends = [at + 1 for at, byte in enumerate(content) if byte == ord("\n")]
        done, batch = len(ends), self.record["batch_size"]
        if done < len(self._paths):
            done -= done % batch
        self._index.truncate(ends[done - 1] if done else 0)
        self._index.seek(0, os.SEEK_END)
        return done


def _refuse_difference(there: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    there, wanted = _without_places(there), _without_places(json.loads(json.dumps(wanted)))
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


def _without_places(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without where the weights lay: their sha256 says whether they are the same."""
    weights = record.get("weights")
    if not isinstance(weights, dict):
        return dict(record)
    return {**record, "weights": {key: value for key, value in weights.items() if key != "path"}}


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _lock(file: Any, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has no such lock: there, two writers are not noticed
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise DataError("another process is writing this feature store", where=str(folder)) from error
