"""One cell of a benchmark: a method on a data set under one description, representation and seed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from dkgzsl.benchmark.transductive import transductive_record
from dkgzsl.compatibility import FORMAT
from dkgzsl.config import Protocol, RefinementConfig
from dkgzsl.data.problem import Problem
from dkgzsl.errors import RunError
from dkgzsl.evaluation.adaptation import Pool
from dkgzsl.evaluation.bootstrap import resampled
from dkgzsl.evaluation.protocols import run_protocol
from dkgzsl.evaluation.selection import evaluated
from dkgzsl.files import whole_file, write_whole
from dkgzsl.methods.base import Clock, Method, Setting, Setup
from dkgzsl.methods.registry import make_method, method_info
from dkgzsl.reading import check_schema, load_npz, read_json
from dkgzsl.representation.representation import Representation
from dkgzsl.runs.environment import split_hash
from dkgzsl.runs.schema import FigureValues
from dkgzsl.runs.summary import backbone_of

DRAWN = ("h", "h_calibrated", "ausuc")
"""Figures whose draws over classes are kept, for paired comparisons."""

CHOSEN_BY: Final[Mapping[str, str]] = {"validated": "AUSUC on validation images", "oracle": "raw H on test images"}
"""What chooses the settings of every method of a benchmark, by protocol.

`train` adds a tenth of raw H, which suits the default; methods that do not balance seen and unseen classes by
themselves lose AUSUC by it.
"""


@dataclass(frozen=True)
class Cell:
    """What a cell is, and so what its figures depend on.

    Attributes:
        dataset: name or folder.
        features: feature file or store; None: the data set's default.
        semantics: class descriptions by name.
        representation: how features become a vector.
        method: by its name in the registry.
        seed: of the method, of validation's held-out images, and of the test images where no split fixes them.
        protocol: how choices are made.
        minutes: cap of one exploration; None: no cap, or a method that is not trained by epochs.
        refinement: SOVR's training, where the representation needs it.
        settings: of the method; None: its defaults, or what was published for the data set.
        clock: what the minutes count; None where there are none.
        adapt: which test images the model adapts to for a transductive row after its own; None: there is none.
    """

    dataset: str
    features: str | None
    semantics: str
    representation: str
    method: str
    seed: int
    protocol: Protocol
    minutes: float | None
    refinement: RefinementConfig
    settings: Any = None
    clock: Clock | None = None
    adapt: Pool | None = None

    @property
    def column(self) -> tuple[str, str | None, str, str]:
        """The table's column: all that methods are compared under."""
        return self.dataset, self.features, self.semantics, self.representation

    @property
    def slug(self) -> str:
        """File name: readable, and different for cells that differ in anything."""
        words = [Path(self.dataset).name, self.semantics, self.representation, self.method, f"seed{self.seed}"]
        plain = "-".join(re.sub(r"[^A-Za-z0-9+]+", "_", word) for word in words)
        content = {"format": FORMAT, "chosen_by": CHOSEN_BY[self.protocol], **asdict(self)}
        if self.adapt is None:  # so that cells from before there was adaptation are still found
            del content["adapt"]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"{plain}-{digest[:10]}"


def run_cell(
    cell: Cell, problem: Problem, representation: Representation, *, device: str, checkpoints: Path | None = None
) -> dict[str, Any]:
    """Explore, choose, fit, score: the record of a cell, JSON values but for `draws` (arrays by figure).

    Args:
        cell: what to do.
        problem: its data, with its semantics.
        representation: its representation.
        device: where to compute.
        checkpoints: folder in which a method that trains by epochs keeps how far it is, and from which it goes on
            where the cell was interrupted; None: nothing is kept.
    """
    start, info = perf_counter(), method_info(cell.method)
    kept, shown = checkpoints if info.iterative else None, list[Setting]()
    outcome = run_protocol(
        cell.protocol,
        _method_of(cell, device, kept),
        problem,
        seed=cell.seed,
        representations=[representation],
        watch=lambda setting, *_: shown.append(setting),
        memory=kept,
        raw_share=0.0,
    )
    if kept is not None:
        shown = evaluated(kept)
    seconds = perf_counter() - start
    adapted = None if cell.adapt is None else transductive_record(outcome, problem, cell.adapt, seed=cell.seed)
    drawn = resampled(outcome.scored, outcome.constant)
    return {
        "format": FORMAT,
        "cell": asdict(cell),
        "name": problem.name,
        "backbone": backbone_of(problem),
        "title": info.title,
        "paper": info.paper,
        "balance": "solved" if info.balance is not None and info.balance(outcome.setting) else "none",
        "figures": asdict(outcome.figures),
        "validation": None if outcome.validation is None else asdict(outcome.validation),
        "setting": dict(outcome.setting),
        "chosen_by": CHOSEN_BY[cell.protocol],
        **(epochs_of(cell, outcome.setting, shown) if info.iterative else NO_EPOCHS),
        "constant": outcome.constant,
        "evaluations": outcome.evaluations,
        "split_sha256": split_hash(problem),
        "seconds": round(seconds, 2),
        "transductive": adapted,
        "draws": {name: drawn[name] for name in DRAWN if name in drawn},
    }


NO_EPOCHS: Final[Mapping[str, None]] = {"epoch": None, "epochs_trained": None, "schedule": None}


def epochs_of(cell: Cell, chosen: Setting, shown: Sequence[Setting]) -> dict[str, int | None]:
    """How far a training came: the epoch that was taken, the last that was reached, those of the own schedule.

    Args:
        cell: its data set decides the schedule that was published, where one was.
        chosen: the setting that was taken.
        shown: all settings that were evaluated. A training is evaluated at its end: it came as far as the last of
            those that differ from the chosen one in nothing but the epoch.
    """
    if "epochs" not in chosen:  # a method from outside may call its epochs otherwise
        return dict(NO_EPOCHS)
    same = [one["epochs"] for one in shown if {**one, "epochs": 0} == {**chosen, "epochs": 0}]
    settings = _published(cell, None, capped=False)
    return {
        "epoch": int(chosen["epochs"]),
        "epochs_trained": int(max(same, default=chosen["epochs"])),
        "schedule": getattr(settings, "epochs", None),
    }


def _published(cell: Cell, settings: Any, *, capped: bool) -> Any:
    info = method_info(cell.method)
    settings = info.settings() if settings is None else settings
    if info.published is not None:
        settings = info.published(settings, Path(cell.dataset).name, capped).settings
    return settings


def _method_of(cell: Cell, device: str, checkpoints: Path | None) -> Method:
    settings = _published(cell, cell.settings, capped=cell.minutes is not None)
    clock = cell.clock or "wall"
    setup = Setup(cell.seed, device, minutes=cell.minutes, clock=clock, checkpoints=checkpoints)
    return make_method(cell.method, settings, setup)


def checkpoints_of(folder: Path, cell: Cell) -> Path:
    """Where a cell that is being done keeps how far it is, in the folder of the records."""
    return folder / "checkpoints" / cell.slug


def write_cell(folder: Path, cell: Cell, record: Mapping[str, Any]) -> None:
    """Keep a record and its draws: the record last, so that a record on disk is whole.

    Raises:
        RunError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = dict(record)
        draws = content.pop("draws", None)
        if draws is not None:
            with whole_file(folder / f"{cell.slug}.npz") as draft, draft.open("wb") as file:
                np.savez_compressed(file, **{name: values.astype(np.float32) for name, values in draws.items()})
        write_whole(folder / f"{cell.slug}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RunError(
            f"cannot keep a cell: {error.strerror or error}",
            where=str(folder),
            fix="make room or give the rights; the same command goes on from here",
        ) from error


class CellRecord(BaseModel):
    """What the record of a cell that was done holds; its draws lie in a file of their own."""

    model_config = ConfigDict(strict=True, extra="allow")
    name: str
    backbone: str | None
    title: str
    paper: str | None
    balance: str
    figures: FigureValues
    validation: FigureValues | None = None
    setting: dict[str, Any]
    chosen_by: str
    constant: float | None
    evaluations: int
    split_sha256: str
    seconds: float
    epoch: int | None
    epochs_trained: int | None
    schedule: int | None
    transductive: dict[str, Any] | None = None


def read_cell(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """The record of a cell that is done, with its draws; None where it is not, or failed.

    Raises:
        RunError: what is there is damaged.
    """
    file = folder / f"{cell.slug}.json"
    if not file.is_file():
        return None
    damaged, again = "a cell is damaged", "delete the file; the same command does it again"
    record: dict[str, Any] = read_json(file, dict[str, Any], damaged, error=RunError, fix=again)
    if "error" in record:
        return record
    check_schema(record, CellRecord, damaged, file, error=RunError, fix=again)
    draws = load_npz(file.with_suffix(".npz"), damaged, error=RunError, fix=again)
    for name, values in draws.items():
        if values is None or values.dtype.kind != "f" or values.ndim != 1:
            raise RunError(f"{damaged}: {name} is no row of numbers", where=str(file), fix=again)
    return {**record, "draws": draws}
