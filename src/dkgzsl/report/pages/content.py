"""A finished run as the page needs it: what its folder holds, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dkgzsl.evaluation.metrics import Scored
from dkgzsl.report.record.record import Record


@dataclass(frozen=True)
class RunContent:
    """What the folder of a finished run holds.

    Attributes:
        folder: where it lies.
        result: the object of `result.json`.
        environment: the object of `environment.json`.
        config: the settings of `config.yaml`.
        log: the lines of `metrics.jsonl`.
        records: what each seed kept for the page; None where the folder is older than that.
        baseline: what the baseline kept; None where there was none.
        default: what the default form kept beside the published one; None elsewhere.
        classes: rows of `per_class.csv`, by column.
        files: name and size in bytes of each file.
        versions: how many times classes were added or taken away since.
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

    @property
    def first(self) -> Record | None:
        """What the first seed kept."""
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
    def detail(self) -> Mapping[str, Any]:
        """Figures, setting and constant of the first seed."""
        found: Mapping[str, Any] = self.result["seeds_detail"][0]
        return found

    @property
    def on_test(self) -> bool:
        """Whether the run was chosen on the test images."""
        return bool(self.result["protocol"] == "oracle")

    def events(self, kind: str) -> list[Mapping[str, Any]]:
        """Log lines of a kind of the first seed."""
        seed = self.seeds[0]
        return [line for line in self.log if line.get("event") == kind and line.get("seed") == seed]

    @cached_property
    def scored(self) -> Scored | None:
        """Scores of the first seed that lead to its figures; None where nothing was kept."""
        return None if self.first is None else self.first.answers.scored()
