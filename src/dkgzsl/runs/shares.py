"""The trainings of a run as shares of a cluster: every seed, and the methods that the run is compared with.

A worker trains in a folder of its own, which it removes, and gives back what it has written there. So a run folder
has the files that one process writes, and only the command writes them.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from dkgzsl.checksums import FILE as CHECKSUMS
from dkgzsl.cluster.shares import map_shares
from dkgzsl.config import TrainConfig
from dkgzsl.errors import DataError, RunError
from dkgzsl.reading import read_json_lines, read_text
from dkgzsl.runs.environment import split_hash
from dkgzsl.runs.event_log import LOG
from dkgzsl.runs.folder import RunFolder
from dkgzsl.runs.plan import Plan, load_problem
from dkgzsl.runs.progress import Reporter
from dkgzsl.runs.schema import Event
from dkgzsl.runs.seed import comparisons_of, run_baseline, run_default, run_seed


@dataclass(frozen=True)
class SentPlan:
    """A plan without its data: each worker loads them.

    Attributes:
        config: with nothing left open.
        method: name of the method.
        seeds: of the run.
        device: where a worker computes.
        split: checksum of the split that the command has.
    """

    config: TrainConfig
    method: str
    seeds: tuple[int, ...]
    device: str
    split: str

    @classmethod
    def of(cls, plan: Plan) -> SentPlan:
        """What of a plan is sent."""
        config = replace(plan.config, on=None, out=None, resume=False, overwrite=False)
        return cls(config, plan.method, plan.seeds, str(plan.device), split_hash(plan.problem))

    def plan(self) -> Plan:
        """The plan on this machine.

        Raises:
            DataError: this machine lacks the data, or has other data than the command.
        """
        problem = load_problem(self.config, test_seed=self.config.first_seed or 0)
        if split_hash(problem) != self.split:
            raise DataError(
                f"{problem.name} has another split on this machine than where the command was given",
                where=platform.node(),
                fix="give all machines of the cluster the same data under the same paths",
            )
        return Plan(self.config, problem, self.method, self.seeds, torch.device(self.device), ())


@dataclass(frozen=True)
class Left:
    """What a training leaves.

    Attributes:
        record: its figures; None where it could not be trained, which a message says.
        files: content by name.
        log: its lines of `metrics.jsonl`.
        messages: what it has to say to the user.
    """

    record: dict[str, Any] | None
    files: Mapping[str, bytes]
    log: str
    messages: tuple[str, ...]


class _Messages(Reporter):
    """Keeps messages for the command to print, and shows nothing."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.kept: list[str] = []

    def log(self, message: str) -> None:
        self.kept.append(message)


def run_on_workers(plan: Plan, folder: RunFolder, reporter: Reporter) -> None:
    """Do the trainings that are not done yet, and write what each leaves as soon as it is there.

    Args:
        plan: the run; its `config.on` is the place.
        folder: of the run.
        reporter: shows how many trainings are done.

    Raises:
        ConfigError: the cluster cannot be used.
        RunError: a share was lost each time, or a file cannot be written.
        Exception: what a training raises, as in this process.
    """
    every: tuple[int | str, ...] = (*plan.seeds, *comparisons_of(plan))
    names = [name for name in every if folder.read_seed(name) is None]
    reporter.stage("trainings", len(names))
    gpu, sent = plan.device.type == "cuda", SentPlan.of(plan)
    done = map_shares(training_of_share, sent, names, on=plan.config.on, gpu=gpu, in_order=False)
    for position, left in done:
        name = names[position]
        _take(folder, name, left, reporter)
        reporter.advance(note=f"{name} is done" if isinstance(name, str) else f"seed {name} is done")
    folder.write_text(LOG, _in_order(folder.file(LOG), plan.seeds))


def _take(folder: RunFolder, name: int | str, left: Left, reporter: Reporter) -> None:
    """Write what a training leaves: its record last, so that a record on disk is of a training that is done."""
    for message in left.messages:
        reporter.log(message.replace(_PLACE, str(folder.path)))
    for file, content in left.files.items():
        folder.write_bytes(file, content)
    folder.log_lines(left.log)
    if left.record is not None:
        folder.write_seed(name, left.record)
        folder.seal(finished=False)
    if isinstance(name, int):  # a command without --on that was broken off has left some
        checkpoints = folder.checkpoints(name)
        shutil.rmtree(checkpoints, ignore_errors=True)
        with suppress(OSError):  # other seeds have some, too
            checkpoints.parent.rmdir()


def _in_order(log: Path, seeds: Sequence[int]) -> str:
    """The lines of each seed in the order of the seeds, as one process writes them; the others follow.

    Raises:
        RunError: the file cannot be read, or is damaged.
    """
    places = {seed: position for position, seed in enumerate(seeds)}
    damaged = f"{LOG} is damaged"
    events = read_json_lines(log, Event, damaged, error=RunError)
    lines = read_text(log, damaged, error=RunError).split("\n")
    numbers = sorted(range(len(events)), key=lambda number: places.get(events[number].get("seed"), len(places)))
    return "".join(f"{lines[number]}\n" for number in numbers)


_PLACE = "THE-RUN-FOLDER"
"""Stands for the run folder in the messages of a worker, which does not know it."""


def training_of_share(sent: SentPlan, name: int | str) -> Left:
    """One training, in a folder that is removed again.

    Args:
        sent: the run.
        name: a seed, or what the run is compared with.

    Raises:
        DataError: this machine lacks the data, or has other data.
    """
    plan, reporter = sent.plan(), _Messages()
    with TemporaryDirectory(prefix="dkgzsl-") as place:
        folder = RunFolder(Path(place))
        if isinstance(name, int):
            record: dict[str, Any] | None = run_seed(plan, folder, plan.seeds.index(name), name, reporter)
        else:
            record = (run_baseline if name == "baseline" else run_default)(plan, folder, reporter)
        paths = [path for path in sorted(folder.path.iterdir()) if path.is_file() and path.name != CHECKSUMS]
        files = {path.name: path.read_bytes() for path in paths}
        messages = tuple(one.replace(place, _PLACE) for one in reporter.kept)
    return Left(record, files, files.pop(LOG, b"").decode("utf-8"), messages)
