"""Commands in forked processes that end at a planted step or at a random moment, and how they are gone on with."""

from __future__ import annotations

import io
import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import dkgzsl.writing
from dkgzsl.cli.main import main
from dkgzsl.files import is_draft

STEPS = ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync")
VOLATILE = ("seconds", "run", "made", "minutes", "written", "path", "out", "source_from_here")
"""Entries of JSON files that differ from call to call."""
SKIPPED = (
    "metrics.jsonl", "environment.json", "card.md", "README.md", "manifest.json", "config.yaml", "checksums.json",
)  # fmt: skip
"""Files that hold times and places; what they describe is compared itself."""

Result = Mapping[str, str]
"""sha256 of each file that is compared, by its path."""


@dataclass(frozen=True)
class Verb:
    """A command that writes, and how it is gone on with.

    Attributes:
        name: as it is typed.
        begin: makes the state before it in an empty folder.
        command: what is killed; gets that folder, returns the exit code.
        target: what it writes, in the folder.
        others: further commands that go on, tried before the command itself.
        keeps: neighbours of the target that may hold the older result.
        read: what of the target is compared (default: `result_of`).
    """

    name: str
    begin: Callable[[Path], None]
    command: Callable[[Path], int]
    target: str
    others: Sequence[Callable[[Path], int]] = ()
    keeps: Sequence[str] = ()
    read: Callable[[Path], Result] | None = None


def words(*given: str) -> Callable[[Path], int]:
    """A command line in which `@` stands for the case's folder."""
    return lambda folder: main([word.replace("@", str(folder)) for word in given])


def copy(*pairs: tuple[Path, str]) -> Callable[[Path], None]:
    """Begins a case with copies."""

    def begin(folder: Path) -> None:
        for source, name in pairs:
            if source.is_dir():
                shutil.copytree(source, folder / name)
            else:
                shutil.copyfile(source, folder / name)

    return begin


def result_of(target: Path) -> Result:
    """Checksums of a file's or folder's content, without drafts, times and places."""
    files = [target] if target.is_file() else sorted(target.rglob("*")) if target.is_dir() else []
    found = {}
    for file in files:
        inside = file.relative_to(target).parts
        if not file.is_file() or file.name in SKIPPED or any(map(_is_hidden, inside)) or "checkpoints" in inside:
            continue
        found["/".join(inside)] = sha256(_content(file)).hexdigest()
    return found


def _is_hidden(name: str) -> bool:
    return is_draft(Path(name)) or name.startswith(".")


def _content(file: Path) -> bytes:
    content = file.read_bytes()
    if file.suffix == ".json" and content:  # a full disk leaves an empty note of a download
        return json.dumps(_stable(json.loads(content)), sort_keys=True).encode()
    return content


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(one) for key, one in value.items() if key not in VOLATILE}
    return [_stable(one) for one in value] if isinstance(value, list) else value


def warm() -> None:
    """Import every module of the package, so that the forked processes need not."""
    for module in pkgutil.walk_packages(dkgzsl.__path__, "dkgzsl."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):
                import_module(module.name)


def forked(work: Callable[[], int], *, log: Path) -> int:
    """Start work in a forked process; its output goes to a file. Returns the process's number."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def children_of(process: int) -> set[int]:
    """Processes of the session, without those that have ended and that nobody has asked about."""
    listing = ["ps", "-e", "-o", "pid=,sid=,stat="]
    said = subprocess.run(listing, capture_output=True, text=True, check=True)
    rows = [line.split() for line in said.stdout.splitlines()]
    found = {int(pid) for pid, session, state in rows if int(session) == process and not state.startswith("Z")}
    return found - {process}


def finished(process: int) -> int:
    """Exit code of a forked process; minus the signal where one killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run_forked(work: Callable[[], int], *, log: Path) -> int:
    """Exit code of work in a forked process."""
    return finished(forked(work, log=log))


@contextmanager
def stopping(at: int, count: list[int], then: Callable[[], None] = lambda: os._exit(9)) -> Iterator[None]:
    """The process ends, or does something else, right before its `at`-th step (0: never)."""

    def planted(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] == at:
                then()
            return function(*arguments, **options)

        return step

    before = {name: getattr(os, name) for name in STEPS}
    exchange = dkgzsl.writing._renameat2()
    for name, function in before.items():
        setattr(os, name, planted(function))
    dkgzsl.writing._renameat2 = lambda: None if exchange is None else planted(exchange)  # type: ignore[assignment]
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(os, name, function)


@dataclass
class Case:
    """A verb in a folder of its own, killed and gone on with.

    Attributes:
        verb: what is killed.
        folder: where; it is made anew.
        undisturbed: what the command leaves that nothing disturbs.
        log: where the output of all processes goes.
    """

    verb: Verb
    folder: Path
    undisturbed: Result = field(default_factory=dict)

    def __post_init__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with redirect_stdout(io.StringIO()):
            self.verb.begin(self.folder)
        self.log = self.folder.with_name(f"{self.folder.name}.log")
        self.result = self.verb.read or result_of
        self.older = self.result(self.target)

    @property
    def target(self) -> Path:
        """What the command writes."""
        return self.folder / self.verb.target

    def steps(self) -> int:
        """How many steps the undisturbed command takes, which is carried out."""
        count, file = [0], self.folder.with_name(f"{self.folder.name}.steps")

        def work() -> int:
            with stopping(0, count):
                code = self.verb.command(self.folder)
            file.write_text(str(count[0]))
            return code

        self._expect(run_forked(work, log=self.log), 0)
        return int(file.read_text())

    def stop(self, at: int) -> None:
        """Begin the command, and end it right before a step."""

        def work() -> int:
            with stopping(at, [0]):
                return self.verb.command(self.folder)

        self._expect(run_forked(work, log=self.log), 9)

    def kill(self, after: float) -> bool:
        """Begin the command, and kill it after some seconds; returns whether it was still at work."""
        process = forked(lambda: self.verb.command(self.folder), log=self.log)
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
        return finished(process) == -signal.SIGKILL

    def check_whole(self) -> None:
        """That the older result is whole where it was, or the new one is, or neither was there before."""
        if not self.older:
            return
        there = [self.target, *(self.folder / name for name in self.verb.keeps)]
        whole = [self.result(path) for path in there]
        new = self.undisturbed or None
        if self.older not in whole and (new is None or new not in whole):
            raise AssertionError(
                f"{self.verb.name}: neither the older result nor the new one is whole: {self.folder}"
            )

    def go_on(self) -> None:
        """Go on as a user does, until the result is the undisturbed one."""
        for command in (*self.verb.others, self.verb.command):
            if self.undisturbed and self.result(self.target) == self.undisturbed and self._is_complete():
                return
            code = run_forked(lambda command=command: command(self.folder), log=self.log)
            if code not in (0, 2):
                raise AssertionError(f"{self.verb.name}: exit code {code}: {self.log.read_text()[-2000:]}")
        if self.result(self.target) != self.undisturbed:
            raise AssertionError(
                f"{self.verb.name}: another result: {self.difference()}\n{self.log.read_text()[-2000:]}"
            )
        left = [path.name for path in self.folder.rglob(".*") if is_draft(path)]
        if left:
            raise AssertionError(f"{self.verb.name}: drafts are left: {left}")

    def _is_complete(self) -> bool:
        return not (self.target / ".replaces").exists()

    def difference(self) -> list[str]:
        """Names of the files that differ from the undisturbed ones."""
        found = self.result(self.target)
        return sorted(k for k in {*found, *self.undisturbed} if found.get(k) != self.undisturbed.get(k))

    def _expect(self, code: int, expected: int) -> None:
        if code != expected:
            raise AssertionError(
                f"{self.verb.name}: exit code {code}, not {expected}: {self.log.read_text()[-2000:]}"
            )


def undisturbed(verb: Verb, folder: Path) -> tuple[Result, int, float]:
    """What the command leaves, in how many steps, and the seconds that it takes."""
    case, started = Case(verb, folder), time.monotonic()
    steps = case.steps()
    return case.result(case.target), steps, time.monotonic() - started
