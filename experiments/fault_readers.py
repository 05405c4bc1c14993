"""Damaged files through every reader, in forked workers: only our own errors, no crash, no hang, little memory."""

import faulthandler
import json
import os
import resource
import select
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np

from dkgzsl.errors import DkgzslError
from fault_files import write_samples
from fault_mutations import damaged
from fault_samples import SAMPLES

SECONDS = 10.0
MEMORY = 2**30
"""A reader may take so many bytes above the start of its worker, its child processes included."""
FAULTS = ("traceback", "crash", "hang", "memory")


@dataclass(frozen=True)
class Case:
    """One damaged file.

    Attributes:
        sample: whose copy is damaged.
        number: seed of the damage; below 0 there is none.
        by_command: whether the command line reads it.
    """

    sample: str
    number: int
    by_command: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a case: read, refused, or one of `FAULTS`.

    Attributes:
        case: the case.
        kind: read, refused, or one of `FAULTS`.
        seconds: it took.
        bytes: memory above the worker's start.
        detail: of a fault: where it happened.
    """

    case: Case
    kind: str
    seconds: float
    bytes: int
    detail: str = ""


def cases(per_sample: int, *, first: int = 0, commands: int = 0) -> list[Case]:
    """So many cases of each sample, and at least so many in all through the command line.

    Args:
        per_sample: cases of each sample.
        first: number of the first.
        commands: through the command line.
    """
    found = [Case(name, n) for n in range(first, first + per_sample) for name in SAMPLES]
    served = [name for name, sample in SAMPLES.items() if sample.words is not None]
    rounds = -(-commands // len(served))
    return found + [Case(name, n, True) for n in range(first, first + rounds) for name in served]


def run_cases(chosen: list[Case], folder: Path) -> Iterator[Outcome]:
    """The cases one after the other, in a forked worker that is replaced where it dies, hangs or grows.

    Args:
        chosen: the cases.
        folder: for the samples; they are written where they are not there yet.
    """
    if not (folder / "written").is_file():
        write_samples(folder)
        (folder / "written").touch()
    left = list(chosen)
    while left:
        with _Worker(left, folder) as worker:
            for case in list(left):
                outcome = worker.outcome(case)
                left.pop(0)
                yield outcome
                if outcome.kind in ("crash", "hang", "memory"):
                    break


class _Worker:
    """A forked process that does cases and writes a line about each; its child processes end with it."""

    def __init__(self, todo: list[Case], folder: Path) -> None:
        read, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(read)
            try:
                os.setsid()
                _work(todo, folder, write)
            finally:
                os._exit(0)
        os.close(write)
        self._stream, self._rest = read, b""

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        for end in (lambda: os.killpg(self._pid, signal.SIGKILL), lambda: os.waitpid(self._pid, 0)):
            with suppress(OSError):
                end()
        os.close(self._stream)

    def outcome(self, case: Case) -> Outcome:
        start = time.monotonic()
        while b"\n" not in self._rest:
            # A busy machine is no hang: what counts is the time that the worker says, up to six times the limit.
            ready, _, _ = select.select([self._stream], [], [], max(0.0, start + 6 * SECONDS - time.monotonic()))
            if not ready:
                return Outcome(case, "hang", time.monotonic() - start, 0)
            piece = os.read(self._stream, 65536)
            if not piece:
                _, status = os.waitpid(self._pid, 0)
                return Outcome(case, "crash", time.monotonic() - start, 0, f"status {status}")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        kind, seconds, taken, detail = json.loads(line)
        return Outcome(case, kind, seconds, taken, detail)


def _work(todo: list[Case], folder: Path, write: int) -> None:
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    start = _peak()
    for case in todo:
        begun = sum(os.times()[:4])  # with the child processes' time; on a busy machine the wall's means nothing
        kind, detail = _try(case, folder)
        used = sum(os.times()[:4]) - begun
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        taken = max(_peak(), children) - start  # before it runs its program, a child is as large as its parent
        if kind in ("read", "refused"):
            kind = "memory" if taken > MEMORY else "hang" if used > SECONDS else kind
        os.write(write, json.dumps([kind, used, taken, detail[:2000]]).encode() + b"\n")


def _peak() -> int:
    """Peak memory of this process in bytes; `ru_maxrss` of a forked one begins with that of its parent."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    """Making damage takes memory, too: the peak begins anew with the reader, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _try(case: Case, folder: Path) -> tuple[str, str]:
    sample = SAMPLES[case.sample]
    copy = folder / f"case-{os.getpid()}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / sample.folder, copy, symlinks=True)
    try:
        file = copy / sample.file
        rng = np.random.default_rng([abs(case.number), *case.sample.encode()])
        if case.number >= 0:
            file.write_bytes(_damaged(file.read_bytes(), file.name, rng))
            _forget_peak()
        if case.by_command:
            return _command(sample.words(copy))
        sample.read(copy)
    except DkgzslError as error:
        return _said(str(error))
    except BaseException:
        return "traceback", traceback.format_exc()
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return "read", ""


def _damaged(content: bytes, name: str, rng: np.random.Generator) -> bytes:
    for _ in range(20):  # some ways do not fit a file, such as another shape for a text
        try:
            return damaged(content, name, rng)
        except Exception:
            continue
    return b""


def _said(text: str) -> tuple[str, str]:
    """A message must be text that a terminal takes, and short enough to be read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "traceback", f"the message is no text: {text!r}"
    return ("refused", "") if len(text) < 6000 else ("traceback", f"a message of {len(text):,} characters")


def _command(words: list[str]) -> tuple[str, str]:
    from dkgzsl.cli.main import main

    said = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(said):
        code = main(words)
    if code == 0:
        return "read", ""
    if (code == 2 and said.getvalue().startswith("error: ")) or "\nerror: " in said.getvalue():
        return "refused", ""
    return "traceback", f"exit code {code}: {said.getvalue()[-1500:]}"


def table(outcomes: list[Outcome]) -> str:
    """Sums by sample, as Markdown."""
    rows = ["| file | inputs | read | refused | tracebacks | crashes | hangs | memory | slowest, s | most MiB |"]
    rows.append("|---|" + "---|" * 9)
    names = [*dict.fromkeys(one.case.sample for one in outcomes), None]
    for name in names:
        mine = [one for one in outcomes if name in (None, one.case.sample)]
        counts = [sum(one.kind == kind for one in mine) for kind in ("read", "refused", *FAULTS)]
        worst = f"{max(one.seconds for one in mine):.1f} | {max(one.bytes for one in mine) >> 20:,}"
        rows.append(f"| {name or 'all'} | {len(mine):,} | {' | '.join(f'{c:,}' for c in counts)} | {worst} |")
    return "\n".join(rows)


def run(inputs: int, commands: int, out: Path, log: Callable[[str], None] = print) -> bool:
    """The long form: what OUT has is not done again, but for faults; returns whether there is none now.

    Args:
        inputs: damaged files in all.
        commands: of them, through the command line.
        out: JSON lines, one an outcome; the samples lie in a folder next to it.
        log: takes what is printed of faults.
    """
    known = {one.case for one in outcomes_of(out) if one.kind not in FAULTS}
    per_sample = -(-(inputs - commands) // len(SAMPLES))
    todo = [case for case in cases(per_sample, commands=commands) if case not in known]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        for outcome in run_cases(todo, out.with_suffix(".samples")):
            line = {**outcome.__dict__, "case": outcome.case.__dict__}
            file.write(json.dumps(line) + "\n")
            file.flush()
            if outcome.kind in FAULTS:
                log(f"{outcome.kind}: {outcome.case}\n{outcome.detail}")
    return not any(one.kind in FAULTS for one in outcomes_of(out))


def outcomes_of(out: Path) -> list[Outcome]:
    """The last outcome of each case that a file of JSON lines has."""
    lines = map(json.loads, out.read_text().splitlines()) if out.is_file() else ()
    found = (replace(Outcome(**line), case=Case(**line["case"])) for line in lines)
    return list({one.case: one for one in found}.values())
