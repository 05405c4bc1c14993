"""The content of a finished run's folder, as the page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dkgzsl.evaluation.metrics import Decisions
from dkgzsl.methods.registry import method_title
from dkgzsl.report.record.record import Record

ORACLE: Final = "oracle"


@dataclass(frozen=True)
class RunContent:
    """The content of the folder of a finished run.

    Attributes:
        folder: path of the folder.
        result: the object of `result.json`.
        environment: the object of `environment.json`.
        config: the settings of `config.yaml`.
        log: the lines of `metrics.jsonl`; see `events`.
        records: the record of each seed; None where the folder has none.
        baseline: the record of the baseline; None where there is none.
        default: the record of the default method, which a run of `dkgzsl` is compared with; None elsewhere.
        classes: rows of `per_class.csv`, by column.
        files: name and size in bytes of each file.
        versions: number of times that classes were added or removed after the training.
        added: name and kind (`unseen`, `described + 3 photos`) of the classes that were added and are still known.
    """

    folder: Path
    result: Mapping[str, Any]
    environment: Mapping[str, Any]
    config: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    records: tuple[Record | None, ...]
    baseline: Record | None
    default: Record | None
    classes: Sequence[Mapping[str, str]]
    files: tuple[tuple[str, int], ...]
    versions: int
    added: Sequence[tuple[str, str]] = ()

    @property
    def first(self) -> Record | None:
        """The record of the first seed."""
        return self.records[0]

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return list(self.result["seeds"])

    @property
    def several(self) -> bool:
        """Whether there are several seeds."""
        return len(self.result["seeds"]) > 1

    @property
    def method(self) -> str:
        """Name of the method, `closed-form` or `dkgzsl` for instance."""
        return str(self.result["method"])

    @property
    def protocol(self) -> str:
        """`validated` or `oracle`."""
        return str(self.result["protocol"])

    @property
    def on_test(self) -> bool:
        """Whether the settings were chosen on the test images."""
        return self.protocol == ORACLE

    @property
    def baseline_name(self) -> str | None:
        """Name of the baseline in tables; None where there is none."""
        baseline = self.result.get("baseline")
        if not baseline:
            return None
        return method_title(baseline["method"])

    @property
    def details(self) -> list[dict[str, Any]]:
        """Figures, setting, constant and counts of each seed."""
        return list(self.result["seeds_detail"])

    @property
    def detail(self) -> Mapping[str, Any]:
        """Figures, setting, constant and counts of the first seed."""
        return self.details[0]

    def events(self, kind: str) -> list[Mapping[str, Any]]:
        """Lines of the log of one kind (`evaluation`, `epoch`, `refinement`) for the first seed."""
        seed = self.seeds[0]
        return [line for line in self.log if line.get("event") == kind and line.get("seed") == seed]

    @cached_property
    def scored(self) -> Decisions | None:
        """What the first seed decided, which gives its figures; None where no predictions were saved."""
        return None if self.first is None else self.first.predictions.decisions()
