"""Every file of runs and every row of feature stores against their checksums; checksums for those without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dkgzsl.checksums import FILE as CHECKSUMS
from dkgzsl.checksums import Checksums
from dkgzsl.errors import DkgzslError
from dkgzsl.features.checked_rows import CheckedRows
from dkgzsl.features.store import RECORD, add_checksums, is_store, open_store
from dkgzsl.files import sweep
from dkgzsl.runs.folder import version_folder, versions_of
from dkgzsl.runs.model_record import FILE


@dataclass(frozen=True)
class Verified:
    """What was found in one folder.

    Attributes:
        folder: the run, version, saved estimator or feature store.
        kind: `run` or `feature store`.
        checked: how many files (of a run) or rows (of a store) were read again; 0 without checksums.
        damaged: what is wrong, by the name of a file or a row.
        written: whether checksums were written now, for what had none.
    """

    folder: Path
    kind: str
    checked: int
    damaged: Mapping[str, str] = field(default_factory=dict)
    written: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "folder": str(self.folder), "damaged": dict(self.damaged)}


def is_verifiable(folder: Path) -> bool:
    """Whether a folder is a run, a saved estimator or a feature store."""
    return is_store(folder) or (folder / FILE).is_file()


def verified(folder: Path, *, write: bool = False) -> Iterator[Verified]:
    """Verify a run with its versions, or a feature store, or all that lie at any depth in a folder.

    Args:
        folder: a run, a store, or a folder above some.
        write: whether checksums are written where there are none; files are taken as they are now.

    Raises:
        OSError: checksums cannot be written.
    """
    if is_store(folder):
        yield _store(folder, write)
    elif (folder / FILE).is_file():
        for number in (0, *versions_of(folder)):
            yield _run(version_folder(folder, number), write)
    else:
        found = {path.parent for name in (RECORD, FILE) for path in folder.rglob(name)}
        inside = {one for one in found if one.parent.name != "versions"}
        for one in sorted(inside):
            yield from verified(one, write=write)


def _run(folder: Path, write: bool) -> Verified:
    try:
        sums = Checksums.read(folder)
    except DkgzslError as error:
        return Verified(folder, "run", 0, {"checksums.json": error.what})
    if sums is not None:
        return Verified(folder, "run", len(sums.sha256), sums.damaged(folder))
    if write:
        sweep(folder / CHECKSUMS)
        Checksums.of(folder).write(folder)
    return Verified(folder, "run", 0, written=write)


def _store(folder: Path, write: bool) -> Verified:
    try:
        store = open_store(folder)
    except DkgzslError as error:
        return Verified(folder, "feature store", 0, {"store": error.what})
    if isinstance(store.tokens, CheckedRows):
        damaged = {
            f"row {row}": f"({store.paths[row]}) differs from its checksum in tokens.npy"
            for row in store.tokens.damaged()
        }
        return Verified(folder, "feature store", len(store.entries), damaged)
    if write:
        add_checksums(store)
    return Verified(folder, "feature store", 0, written=write)
