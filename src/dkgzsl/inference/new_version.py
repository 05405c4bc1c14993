"""A later version of a run from the version before, also where two commands make one at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkgzsl.inference.recognizer import Recognizer, save_version
from dkgzsl.runs.folder import saving, version_of

Change = Callable[[Recognizer], tuple[Recognizer, Mapping[str, Any] | None]]
"""Makes a changed recognizer, and what the history says of the change; None: nothing is to be saved.

It is called a second time where another command has saved a version meanwhile.
"""


@dataclass(frozen=True)
class Made:
    """A version that was made.

    Attributes:
        before: the recognizer that it was made from.
        after: the recognizer that it is.
        parent: number of the version that it was made from.
        version: its own number; `parent` where nothing was saved.
    """

    before: Recognizer
    after: Recognizer
    parent: int
    version: int


def make_version(run: Path, parent: int | None, change: Change) -> Made:
    """Change a version of a run, and save the result as the next version.

    Two commands that start from the newest version at once both count: the one that is ready last is made again
    from what the other has saved, so that the newest version has both changes. Between the last check and the
    saving nobody else saves.

    Args:
        run: the run folder.
        parent: the version to start from, whatever is newer (default: the newest).
        change: what is changed.

    Raises:
        RunError: the run is not finished, has no such version, or cannot be written.
        DataError: the change does not fit, for instance as another command has added a class of that name.
    """
    number = version_of(run, parent)
    before = Recognizer.from_run(run, number)
    after, what = change(before)
    if what is None:
        return Made(before, after, number, number)
    with saving(run):
        newest = version_of(run, parent)
        if newest != number:
            number, before = newest, Recognizer.from_run(run, newest)
            after, what = change(before)
            if what is None:
                return Made(before, after, number, number)
        return Made(before, after, number, save_version(run, after, parent=number, change=what))
