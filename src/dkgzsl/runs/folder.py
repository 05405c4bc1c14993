"""The run folder: what is written where, and that nothing is lost or half-written."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any, Final

from dkgzsl.checksums import Checksums, check_files
from dkgzsl.compatibility import FORMAT, check_format, upgraded_result
from dkgzsl.config import TrainConfig
from dkgzsl.errors import RunError
from dkgzsl.files import sweep_inside, take_away, write_whole
from dkgzsl.reading import check_schema, parse_json, parse_yaml, reading
from dkgzsl.runs.event_log import LOG, EventLog
from dkgzsl.runs.places import found_again
from dkgzsl.runs.schema import Environment, Result, SeedRecord
from dkgzsl.runs.states import (
    REPLACES,
    is_beginning,
    replaced_by,
    set_aside,
    settle,
    settle_locked,
    take_over,
)

VERSIONS: Final = "versions"
HISTORY: Final = "history.json"
"""In a version's folder: its number, the version that it was made from, and what was changed."""


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


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """One process or thread at a time: nobody else saves a version of the run meanwhile.

    Raises:
        RunError: the run cannot be written, or another process has not finished to save in a minute.
    """
    import filelock

    # One object a path, whose state is each thread's own: a thread may enter twice, and two threads may not.
    lock = filelock.FileLock(folder.resolve() / VERSIONS / ".lock", is_singleton=True)
    try:
        (folder / VERSIONS).mkdir(exist_ok=True)
        lock.acquire(timeout=60)
    except filelock.Timeout as error:
        raise RunError("another command is saving a version", where=str(folder), fix="try again") from error
    except OSError as error:
        raise RunError(f"cannot be saved: {error.strerror or error}", where=str(folder)) from error
    try:
        sweep_inside(folder / VERSIONS)
        yield
    finally:
        lock.release()


def choose_folder(config: TrainConfig, dataset: str, method: str) -> Path:
    """The folder that a run goes to; nothing is made yet.

    Raises:
        RunError: it exists and neither `resume` nor `overwrite` is set, or there is nothing to resume.
    """
    if config.out is None:
        if config.resume:
            raise RunError("--resume needs to know the run", fix="name its folder: --resume --out RUN")
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        name = f"{stamp}-{Path(dataset).name}-{method}"
        taken = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in range(1, 1000))
        return next(folder for folder in taken if not folder.exists())
    folder = Path(config.out)
    if config.resume:
        if not (folder / "config.yaml").is_file() and not (is_beginning(folder) and any(folder.iterdir())):
            raise RunError("there is no run to resume", where=str(folder), fix="leave --resume out to start one")
    elif folder.exists() and not config.overwrite and not is_beginning(folder):
        raise RunError(
            "the run folder exists already",
            where=str(folder),
            fix="--resume continues an interrupted run, --overwrite replaces it, or name another --out",
        )
    return folder


_MARKS = ("environment.json", "config.yaml", "metrics.jsonl")
"""What every run has: a folder with a `config.yaml` alone may be anybody's project, and is not overwritten."""


class RunFolder:
    """An open run folder.

    `environment.json`, `metrics.jsonl` and, last of the three, `config.yaml` are there from the start;
    `metrics.jsonl` grows; `result.json` says that the run is complete.

    Every method that writes raises RunError where the disk is full or the folder has gone.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.events = path, EventLog(path)

    @classmethod
    def create(cls, path: Path, *, overwrite: bool) -> RunFolder:
        """Make the folder, in place of an older run where `overwrite` is set.

        The older run is kept until `complete`, so that a run that fails or is interrupted loses nothing. The
        caller has the folder's lock; the states that it goes through are those of `dkgzsl.runs.states`.

        Raises:
            RunError: it cannot be written, or holds something that is no run, or the process works in it.
        """
        folder = cls(path)
        whole, before = path.resolve(), None  # a link stays one: what it leads to is replaced
        try:
            settle_locked(whole)
            if overwrite and whole.is_dir() and not is_beginning(whole):
                if not all((whole / name).is_file() for name in _MARKS):
                    raise RunError(
                        "will not overwrite a folder that is no run", where=str(path), fix="name another --out"
                    )
                before = set_aside(whole)
            whole.mkdir(parents=True, exist_ok=True)
            # Written in any case, which shows whether the folder can be written to.
            write_whole(whole / REPLACES, before.name if before else "")
        except OSError as error:
            if before is not None:
                folder.discard(before)
            raise RunError(
                f"cannot write the run folder: {error.strerror or error}",
                where=str(path),
                fix="name another --out",
            ) from error
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run; its files are verified by their checksums.

        Raises:
            RunError: there is none, or a file is damaged.
        """
        if not (path / "config.yaml").is_file():
            settle(path)
        if not (path / "config.yaml").is_file():
            what = "this is no run folder (it has no config.yaml)" if path.exists() else "there is no such folder"
            raise RunError(what, where=str(path), fix="name the run folder that dkgzsl train has printed")
        check_files(path)
        return cls(path)

    def seal(self, *, finished: bool) -> None:
        """Write the checksums of the run's files as they are now.

        Args:
            finished: whether the run is complete; before that, files that still change are left out.
        """
        with self._writing("its checksums"):
            known = Checksums.read(self.path)
            Checksums.of(self.path, finished=finished, known=known).write(self.path)

    def unseal(self) -> None:
        """Before a complete run is continued: files that change then are no longer under checksums."""
        sums = Checksums.read(self.path)
        if sums is not None and sums.finished:
            with self._writing("its checksums"):
                sums.unfinished().write(self.path)

    def file(self, name: str) -> Path:
        """Path of one of its files."""
        return self.path / name

    def model_file(self, position: int) -> Path:
        """Where the model of a seed lies: `model.safetensors` for the first, a numbered sibling for the others."""
        return self.file("model.safetensors" if position == 0 else f"model-{position + 1}.safetensors")

    def representation_file(self, position: int) -> Path:
        """Where the fitted representation of a seed lies, where it learned anything."""
        return self.file(
            "representation.safetensors" if position == 0 else f"representation-{position + 1}.safetensors"
        )

    def record_file(self, which: int | str) -> Path:
        """The file of the report's record: of a seed, by position, or of a baseline, by name."""
        if isinstance(which, str):
            return self.file(f"report-{which}.safetensors")
        return self.file("report.safetensors" if which == 0 else f"report-{which + 1}.safetensors")

    def checkpoints(self, seed: int) -> Path:
        """Folder for what an interrupted seed needs to go on; removed when the seed is done."""
        return self.path / "checkpoints" / f"seed-{seed}"

    def discard(self, before: Path | None = None) -> None:
        """Take away a run that could not begin; what it was to replace is there again."""
        before = before or self.replaced
        whole = self.path.resolve()
        with suppress(OSError):  # the error that led here is the one to report
            take_away(whole)
            if before is not None and not whole.exists():
                before.rename(whole)

    @property
    def replaced(self) -> Path | None:
        """Where the run lies that this one replaces once it is complete; None where there is none."""
        return replaced_by(self.path.resolve())

    def complete(self) -> None:
        """Take away the run that this one replaces: only now is it no longer needed."""
        with self._writing(REPLACES):
            take_over(self.path.resolve())

    def check_same(self, config: Mapping[str, Any], split_hash: str) -> None:
        """That a run is continued with the settings and the split it was started with.

        Raises:
            RunError: a setting differs (the first one is named) or the split, or what was recorded is damaged.
        """
        with reading("config.yaml is damaged", self.path, error=RunError):
            before = parse_yaml(self.file("config.yaml").read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise RunError("config.yaml is damaged: it holds no settings", where=str(self.path))
        if check_format(before, where=str(self.path)) != FORMAT:
            raise RunError(
                "dkgzsl 0.1 (format 1) started this run, and this version does not continue it",
                where=str(self.path),
                fix="finish it with dkgzsl 0.1, or start it again with --overwrite",
            )
        before = found_again(before, self.path)
        for name in sorted({*before, *config}):
            if before.get(name) != config.get(name):
                raise RunError(
                    f"the run was started with {name} {before.get(name)!r}, not {config.get(name)!r}",
                    where=str(self.path),
                    fix="resume with the same settings, or start another run with another --out",
                )
        if self.read_json("environment.json").get("split_sha256") != split_hash:
            raise RunError(
                "the data has another split than when the run was started",
                where=str(self.path),
                fix="give the data as it was then, or start another run with another --out",
            )

    def read_result(self) -> dict[str, Any]:
        """What `result.json` holds, in today's names.

        Raises:
            RunError: the run is not finished, the file is damaged, or a later version wrote it.
        """
        sums = Checksums.read(self.path)
        if sums is not None and not sums.finished:
            raise self._not_finished("result.json")
        content = self.read_json("result.json")
        where = self.file("result.json")
        with reading("result.json is damaged", where, error=RunError):
            upgraded = check_format(content, where=str(where)) != FORMAT
            found = upgraded_result(content) if upgraded else {k: v for k, v in content.items() if k != "format"}
        check_schema(found, Result, "result.json is damaged", where, error=RunError)
        if len(found["seeds_detail"]) != len(found["seeds"]):
            raise RunError("result.json is damaged: it has not one record for each seed", where=str(where))
        return found

    def read_seed(self, seed: int | str) -> dict[str, Any] | None:
        """What a seed that is done has left, or None."""
        name = f"seeds/{seed}.json"
        if not self.file(name).is_file():
            return None
        found: dict[str, Any] = self.read_json(name)
        check_schema(found, SeedRecord, f"{name} is damaged", self.file(name), error=RunError)
        return found

    def write_seed(self, seed: int | str, record: Mapping[str, Any]) -> None:
        """Remember that a seed is done, with its figures."""
        with self._writing("seeds"):
            self.file("seeds").mkdir(exist_ok=True)
        self.write_json(f"seeds/{seed}.json", record)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file atomically."""
        self._write(name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file atomically."""
        self._write(name, text)

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file atomically."""
        self._write(name, content)

    def write_csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write a table atomically."""
        text = StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(header)
        writer.writerows(rows)
        self._write(name, text.getvalue())

    def _write(self, name: str, content: str | bytes) -> None:
        with self._writing(name):
            write_whole(self.file(name), content)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"cannot write {name}: {error.strerror or error}",
                where=str(self.path),
                fix="make room or give the rights, then continue with --resume",
            ) from error

    def read_json(self, name: str) -> Any:
        """Read one of its JSON files.

        Raises:
            RunError: it is not there or not JSON.
        """
        try:
            with reading(f"{name} is damaged", self.path, error=RunError):
                text = self.file(name).read_text(encoding="utf-8") if self.file(name).exists() else None
            if text is None:
                raise FileNotFoundError(name)
        except FileNotFoundError as error:
            raise self._not_finished(name) from error
        content = parse_json(text, f"{name} is damaged", self.path, error=RunError)
        schema = Environment if name == "environment.json" else dict[str, Any]
        check_schema(content, schema, f"{name} is damaged", self.path, error=RunError)
        return content

    def _not_finished(self, name: str) -> RunError:
        return RunError(
            f"the run has no {name}: it is not finished",
            where=str(self.path),
            fix=shlex.join(["dkgzsl", "train", "--resume", "--out", str(self.path)]),
        )

    def log(self, event: str, **values: Any) -> None:
        """Append one event to `metrics.jsonl`."""
        with self._writing(LOG):
            self.events.add(event, **values)

    def log_lines(self, lines: str) -> None:
        """Append whole lines to `metrics.jsonl`."""
        with self._writing(LOG):
            self.events.add_lines(lines)

    def mend_log(self) -> None:
        """See `EventLog.mend`."""
        with self._writing(LOG):
            self.events.mend()

    def begin(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Write what a run has from the start; once `config.yaml` is there, it can be resumed."""
        import yaml

        self.write_json("environment.json", environment)
        self.write_text("metrics.jsonl", "")
        self._write("config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        if self.replaced is None:
            with self._writing(REPLACES):
                self.file(REPLACES).unlink(missing_ok=True)
