"""Checksums of the files of a run, a version or a saved estimator: written last, verified when files are read.

`checksums.json` lies in the folder whose files it names. It has the sha256 of each file, and one of its own list:
so damage to itself is not taken for damage to the others. `card.md` and `report.html` are not in it: later verbs
make them again from the others. A version has its own `checksums.json`.

A run that goes on has one, too, after each seed: without `result.json` and `metrics.jsonl`, which still change.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from dkgzsl.errors import RunError
from dkgzsl.files import sha256_of, write_whole
from dkgzsl.reading import check_schema, reason_of

FILE: Final = "checksums.json"
FORMAT: Final = "dkgzsl checksums 1"

_FILES: Final = re.compile(
    r"(model|representation|report)(-[\w-]+)?\.safetensors|(evidence|in_distribution)\.safetensors"
    r"|(recognizer|estimator|history|environment|result)\.json|config\.yaml|metrics\.jsonl|per_class\.csv"
    r"|seeds/[\w-]+\.json"
)
"""Names of the files that are read again; whatever else a user keeps in the folder does not matter."""
_CHANGING: Final = ("result.json", "metrics.jsonl")
_BACKUP: Final = "take the folder from a backup, pull it again, or train again"

_warned: set[Path] = set()


@dataclass(frozen=True)
class Checksums:
    """What `checksums.json` says.

    Attributes:
        finished: False in a run of which seeds are still to come.
        sha256: of each file, by its path in the folder, in hexadecimal.
    """

    finished: bool
    sha256: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, *, finished: bool = True, known: Checksums | None = None) -> Checksums:
        """The sums of a folder's files as they are now.

        Args:
            folder: where the files lie.
            finished: whether all files are there and change no more.
            known: sums of files that were written earlier; these are taken over and not computed again, so that
                damage that came since is found out later and not sealed.

        Raises:
            OSError: a file cannot be read.
        """
        paths = {
            path.relative_to(folder).as_posix(): path for path in (*folder.glob("*"), *folder.glob("seeds/*"))
        }
        names = sorted(name for name, path in paths.items() if _FILES.fullmatch(name) and path.is_file())
        kept = [name for name in names if finished or name not in _CHANGING]
        before = {} if known is None else known.unfinished().sha256
        found = {name: before[name] if name in before else sha256_of(paths[name]) for name in kept}
        return cls(finished, {**before, **found})

    @classmethod
    def read(cls, folder: Path) -> Checksums | None:
        """The sums that lie in a folder; None where there are none.

        Raises:
            RunError: the file is damaged itself.
        """
        path = folder / FILE
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise _damaged_list(folder, str(error)) from error
        try:
            content = json.loads(text)
            check_schema(content, _schema(), "its values", folder, error=RunError)
            found = cls(content["finished"], content["files"])
            right = content["format"] == FORMAT and content["sha256"] == found._own_sum()
        except (ValueError, RecursionError, RunError) as error:
            raise _damaged_list(folder, reason_of(error)) from error
        if not right:
            raise _damaged_list(folder, "it does not fit its own checksum")
        return found

    def write(self, folder: Path) -> None:
        """Write `checksums.json`: all of it, or nothing.

        Raises:
            OSError: it cannot be written.
        """
        content = {
            "format": FORMAT,
            "finished": self.finished,
            "files": dict(self.sha256),
            "sha256": self._own_sum(),
        }
        write_whole(folder / FILE, json.dumps(content, indent=2) + "\n")

    def unfinished(self) -> Checksums:
        """The same without the files that change when a run goes on."""
        return Checksums(False, {name: one for name, one in self.sha256.items() if name not in _CHANGING})

    def damaged(self, folder: Path, names: Collection[str] | None = None) -> dict[str, str]:
        """Files that are not as they were written, and what is wrong with each.

        Args:
            folder: where they lie.
            names: the files that matter (default: all that are listed); a name that is in neither the list nor the
                folder is none of them.
        """
        found: dict[str, str] = {}
        for name in sorted(self.sha256 if names is None else names):
            path = folder / name
            try:
                if name not in self.sha256:
                    # Before a run is complete its last files are not listed yet.
                    if self.finished and path.exists():
                        found[name] = f"is not named by {FILE}"
                elif sha256_of(path) != self.sha256[name]:
                    found[name] = "is damaged: its content is not what was written (the sha256 differs)"
            except FileNotFoundError:
                found[name] = f"is missing, and {FILE} names it"
            except OSError as error:
                found[name] = f"cannot be read: {error.strerror or error}"
        return found

    def _own_sum(self) -> str:
        whole = json.dumps([self.finished, sorted(self.sha256.items())], ensure_ascii=True)
        return sha256(whole.encode()).hexdigest()


def check_files(folder: Path, names: Collection[str] | None = None) -> Checksums | None:
    """That files of a folder are as they were written; one line of warning where the folder has no checksums.

    Args:
        folder: a run, a version of one, or a saved estimator.
        names: the files that are going to be read (default: all that are listed).

    Raises:
        RunError: one of them is damaged or missing.
    """
    sums = Checksums.read(folder)
    if sums is None:
        if (folder / "recognizer.json").is_file() and (folder / "model.safetensors").is_file():
            warn_of_old(folder)
        return None
    for name, what in sums.damaged(folder, names).items():
        raise RunError(
            f"{name} {what}",
            where=str(folder),
            fix=f"{_BACKUP}; if you changed it yourself, remove {FILE} and run "
            f"dkgzsl data check {folder} --deep --write-checksums",
        )
    return sums


def is_sealed(folder: Path) -> bool:
    """Whether a folder has checksums; where `check_files` has compared them, its files are not damaged.

    Raises:
        RunError: the checksums are damaged themselves.
    """
    return Checksums.read(folder) is not None


def warn_of_old(folder: Path) -> None:
    """One line of warning for what was written before there were checksums; once for each folder."""
    place = folder.absolute()
    if place not in _warned:
        _warned.add(place)
        logging.getLogger("dkgzsl").warning(
            "warning: %s has no checksums, so damage to its files is not noticed "
            "(dkgzsl data check %s --deep --write-checksums adds them)", folder, folder,
        )  # fmt: skip


@cache
def _schema() -> Any:
    """What checksums.json holds, and nothing else; made when first needed, since pydantic takes a while."""
    from pydantic import ConfigDict, create_model

    rules = ConfigDict(strict=True, extra="forbid")
    return create_model(
        "Listed",
        __config__=rules,
        format=(str, ...),
        finished=(bool, ...),
        files=(dict[str, str], ...),
        sha256=(str, ...),
    )


def _damaged_list(folder: Path, why: str) -> RunError:
    return RunError(
        f"{FILE} is damaged itself, so it is not known whether the other files are whole: {why}",
        where=str(folder),
        fix=f"{_BACKUP}; or, if you know the other files to be whole, remove {FILE} and run "
        f"dkgzsl data check {folder} --deep --write-checksums",
    )
