"""Where a store is written: under its name, or, where it replaces another, next to it until it is whole.

`extract --overwrite` fills `.STORE.new`, a neighbour of STORE. When its last image is on the disk, the two take
each other's names in one step, and the older store goes. Until then STORE stays as it was, and whoever reads it
reads it whole. The same command, interrupted, goes on with the neighbour where that was begun with the same
settings on the same images, and begins it again otherwise. A neighbour that was begun before STORE is the older
store of a process that was killed right after the exchange, and goes. One lock, `.STORE.lock`, is taken before
anything is read or written.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dkgzsl.errors import DataError
from dkgzsl.features.store import INDEX, RECORD, TOKENS
from dkgzsl.files import put_in_place, restore, sweep, take_away
from dkgzsl.writing import InUseError, locked


@contextmanager
def writing_store(folder: Path) -> Iterator[None]:
    """Nobody else writes the store meanwhile; what a killed process left half replaced is put right.

    Raises:
        DataError: another process writes it.
    """
    try:
        with locked(folder, what="this feature store"):
            _settle(folder.resolve())
            yield
    except InUseError as error:
        raise DataError(
            "another process is writing this feature store", where=str(folder), fix="wait until it has ended"
        ) from error


def _settle(whole: Path) -> None:
    restore(whole)
    sweep(whole)
    new, there = _new_of(whole) / RECORD, whole / RECORD
    if there.is_file() and new.is_file() and new.stat().st_mtime_ns <= there.stat().st_mtime_ns:
        take_away(new.parent)


def _new_of(whole: Path) -> Path:
    return whole.with_name(f".{whole.name}.new")


def place_of(folder: Path, *, overwrite: bool) -> Path:
    """The folder to write: the store's own, or its neighbour where a store is there that is to be replaced."""
    whole = folder.resolve()
    if not overwrite or not (whole / RECORD).is_file():
        return folder
    if not {path.name for path in whole.iterdir()} <= {TOKENS, INDEX, RECORD}:
        return folder  # more than a store: the writer refuses it
    return _new_of(whole)


def take_place(new: Path, folder: Path) -> None:
    """The new store is whole: it gets the name, and the older one goes.

    Raises:
        DataError: it cannot.
    """
    try:
        put_in_place(new, folder.resolve(), replace=True)
    except OSError as error:
        raise cannot_write(error, folder) from error


def check_room(folder: Path, needed: int, *, replaces: bool) -> None:
    """That a store fits on the disk.

    Args:
        folder: of the store; it exists.
        needed: bytes.
        replaces: whether an older store stays until this one is whole.

    Raises:
        DataError: it does not fit.
    """
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return
    stays = ", while the older store stays until the new one is whole" if replaces else ""
    raise DataError(
        f"the store takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free{stays}",
        where=str(folder),
        fix="name a folder on another disk with --out" + (", or remove the older store" if replaces else ""),
    )


def cannot_write(error: OSError, folder: Path) -> DataError:
    """What the command line says where a store cannot be written."""
    return DataError(
        f"cannot write the feature store: {error.strerror or error}",
        where=str(folder),
        fix="make room or give the rights; the same command goes on",
    )
