"""The states of a run folder, and how each is left: a process may be killed between any two of its writes.

RUN is the folder, `.RUN.replaced` its neighbour that keeps the older run while `train --overwrite` is at work.
Everything below happens under the lock of RUN (`dkgzsl.writing.locked`), and each step is one rename or one file
that is written whole. `.replaces` is a file in RUN: the name of the neighbour, or nothing.

| state | RUN | `.RUN.replaced` | plain | `--resume` | `--overwrite` |
|---|---|---|---|---|---|
| none | absent, empty, or drafts alone | absent | begins | refuses | begins |
| beginning | `.replaces`, no `config.yaml` | absent | begins again | begins again | begins again |
| set aside | absent, empty, or beginning | older run | as *older run* | as *older run* | as *older run* |
| begun | `config.yaml`, no `result.json` | absent | refuses | goes on | begins again |
| replacing | the same, and `.replaces` | older run | refuses | goes on | begins again, keeps the older run |
| done | `result.json` | absent | refuses | nothing to do | sets it aside |
| taking over | `result.json` and `.replaces` | older run | refuses | older run goes | as *done*, older run goes |

`train` goes from *none* over *beginning* and *begun* to *done*; `train --overwrite` from *older run* (begun or
done) over *set aside*, *replacing* and *taking over* to *done*. `settle` leads *set aside* back to the older
run, and *taking over* to *done*, at the begin of every command that trains; commands that read call it where there
is no `config.yaml`. "Begins again" of `--resume` needs the data set to be named, as nothing of the settings is
known yet. "Refuses" says what the other two would do. Drafts (`.NAME.xxxxxxxx.partial`) of a killed process go
with the next command that trains.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from dkgzsl.errors import RunError
from dkgzsl.files import is_draft, take_away
from dkgzsl.writing import InUseError, locked

REPLACES: Final = ".replaces"
"""In a run that begins, or replaces another until it is complete: the name of the folder with the older run."""
_FIRST: Final = frozenset({REPLACES, "environment.json", "metrics.jsonl"})
"""What a run that begins may hold besides drafts; `config.yaml` follows last."""


def aside_of(run: Path) -> Path:
    """Where the older run lies while another one takes its place."""
    return run.with_name(f".{run.name}.replaced")


def is_beginning(run: Path) -> bool:
    """Whether a folder is a run that was killed before it had its settings, or holds drafts alone."""
    if not run.is_dir():
        return False
    names = {path.name for path in run.iterdir() if not is_draft(path)}
    return not names or (REPLACES in names and names <= _FIRST)


def settle(run: Path) -> None:
    """Finish what a killed process has left half done: the older run has its name again, or is gone.

    Nothing happens while another process trains this run, and nothing where nothing is half done.

    Args:
        run: the run folder, there or not.
    """
    whole = run.resolve()
    if not aside_of(whole).is_dir():
        return
    with suppress(InUseError, OSError), locked(whole, what="this run"):
        settle_locked(whole)


def settle_locked(whole: Path) -> None:
    """As `settle`, for a process that has the lock.

    Raises:
        OSError: a folder cannot be renamed.
    """
    aside = aside_of(whole)
    if not aside.is_dir():
        return
    if not whole.exists() or is_beginning(whole):
        take_away(whole)
        aside.rename(whole)
    elif (whole / REPLACES).is_file() and (whole / "result.json").is_file():
        take_over(whole)


def take_over(whole: Path) -> None:
    """The new run is complete: the older one goes, and then the mark.

    Raises:
        OSError: a file cannot be removed.
    """
    if replaced_by(whole) is not None:
        take_away(aside_of(whole))
    (whole / REPLACES).unlink(missing_ok=True)


def replaced_by(whole: Path) -> Path | None:
    """Where the run lies that this one replaces once it is complete; None where there is none."""
    try:
        name = (whole / REPLACES).read_text(encoding="utf-8")
    except OSError:
        return None
    aside = aside_of(whole)
    return aside if name and aside.is_dir() else None


def set_aside(whole: Path) -> Path:
    """Move a run out of the way, and say where it lies.

    A run that never became complete makes way for the one that it was to replace itself.

    Raises:
        RunError: the process works in it, or a run is set aside there that this one knows nothing of.
        OSError: it cannot be moved.
    """
    before = aside_of(whole)
    if Path.cwd().is_relative_to(whole):
        raise RunError(
            "will not replace the folder that this was started in",
            where=str(whole),
            fix="start it from another folder",
        )
    if before.exists():
        if not (whole / REPLACES).is_file():
            raise RunError(
                "a run that was to be replaced once lies here still",
                where=str(before),
                fix="give it a name of its own, or remove it",
            )
        take_away(whole)
    else:
        whole.rename(before)
    return before
