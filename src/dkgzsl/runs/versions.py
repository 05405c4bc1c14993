"""Where the versions of a run lie: `versions/N`, each a recognizer of its own; version 0 is the run as trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dkgzsl.errors import RunError

VERSIONS: Final = "versions"


def version_of(folder: Path, version: int | None) -> int:
    """A version's number; without one the newest.

    Raises:
        RunError: there is no such version.
    """
    here = versions_of(folder)
    chosen = max(here, default=0) if version is None else version
    if chosen not in (0, *here):
        known = ", ".join(map(str, (0, *here)))
        raise RunError(f"the run has no version {chosen}", where=str(folder), fix=f"its versions: {known}")
    return chosen


def version_folder(folder: Path, version: int) -> Path:
    """Where a version lies."""
    return folder if version == 0 else folder / VERSIONS / str(version)


def versions_of(folder: Path) -> Sequence[int]:
    """Numbers of a run's later versions, ascending."""
    names = (path.name for path in (folder / VERSIONS).glob("*") if path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal())
