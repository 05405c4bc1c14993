"""The result of a run over its seeds: the object that `--json` prints, and `Trained` for Python."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from dkgzsl.data.problem import Problem
from dkgzsl.display import FIGURE_NAMES, data_frame, figures_line, html_card, html_table, percent
from dkgzsl.errors import RunError
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.reading import reading

_FURTHER = ("u_calibrated", "s_calibrated")


def backbone_of(problem: Problem) -> str | None:
    """The backbone on record, or else the name of the features, which is all that is known of it."""
    return problem.provenance.get("backbone") or problem.provenance.get("features")


def over_seeds(figures: Sequence[Figures]) -> dict[str, dict[str, float] | None]:
    """Mean and sample deviation of each figure over the seeds; None where a figure is undefined.

    The deviation of one seed is 0.
    """
    table: dict[str, dict[str, float] | None] = {}
    for name in (*FIGURE_NAMES, *_FURTHER):
        values = [asdict(one)[name] for one in figures]
        if any(value is None for value in values):
            table[name] = None
        else:
            table[name] = {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0}
    return table


def chance(*, unseen: int, classes: int) -> dict[str, float]:
    """Per-class accuracy of guessing: among unseen classes, and among all; no figure where there is no class."""
    among = {"t1": unseen, "u": classes, "s": classes}
    return {name: 1 / number for name, number in among.items() if number}


def result_object(
    *,
    run: str,
    dataset: str,
    method: str,
    protocol: str,
    semantics: str,
    backbone: str | None,
    seeds: Sequence[int],
    figures: Sequence[Figures],
    seconds: float,
) -> dict[str, Any]:
    """The object that `--json` prints."""
    return {
        "run": run,
        "dataset": dataset,
        "method": method,
        "protocol": protocol,
        "semantics": semantics,
        "backbone": backbone,
        "seeds": list(seeds),
        "metrics": over_seeds(figures),
        "seconds": round(seconds, 3),
    }


def read_per_class(path: Path) -> list[dict[str, str]]:
    """Rows of `per_class.csv`, by column.

    Raises:
        RunError: it cannot be read, or is damaged.
    """
    with reading("cannot read the figures of the classes", path, error=RunError):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            if None in row or None in row.values() or not row["class"] or not row["role"]:
                raise ValueError(f"the row of {row.get('class')!r} is not whole")
            int(row["test_images"])
            accuracies = [float(row[name]) for name in row if name.startswith("accuracy") and row[name]]
            if not all(0 <= one <= 1 for one in accuracies):
                raise ValueError(f"an accuracy of {row['class']!r} is not between 0 and 1")
        if not rows:
            raise ValueError("it has no rows")
        return rows


@dataclass(frozen=True)
class Trained:
    """A finished run. All figures are fractions of 1, None where undefined.

    Attributes:
        folder: the run folder.
        result: the object that `train --json` prints. `metrics` has `mean` and `std` over the seeds for `t1`, `u`,
            `s`, `h`, `h_calibrated` and `ausuc`; `seconds` is the wall time.
        details: the other content of `result.json`. `seeds_detail` has an object for each seed: `figures` (see
            `dkgzsl.evaluation.metrics.Figures`), `setting`, `constant` (calibration constant), numbers of
            evaluations. `baseline` and `default` have the figures of the methods that the run is compared with,
            `chance` those of guessing.
    """

    folder: Path
    result: dict[str, Any]
    details: dict[str, Any]

    def __repr__(self) -> str:
        figures = figures_line(self._means())
        return f"Trained({self._about()}: {figures}; in %; folder {self.folder})"

    def _repr_html_(self) -> str:
        several = len(self.result["seeds"]) > 1
        rows = [[f"seed {one['seed']}", *_in_percent(one["figures"])] for one in self.details["seeds_detail"]]
        rows += [["mean", *_in_percent(self._means())]] if several else []
        rows += [
            [other["method"], *_in_percent(other["figures"])]
            for other in (self.details.get("baseline"), self.details.get("default"))
            if other
        ]
        table = html_table(["%", *FIGURE_NAMES.values()], rows)
        return html_card(self._about(), [("folder", self.folder)], table)

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` with a row for each seed: `seed`, and each figure as a fraction of 1 or NaN.

        Raises:
            ConfigError: pandas is not installed.
        """
        seeds = self.details["seeds_detail"]
        figures = {key.name: [one["figures"].get(key.name) for one in seeds] for key in fields(Figures)}
        return data_frame({"seed": [one["seed"] for one in seeds], **figures})

    def per_class(self) -> Any:
        """A `pandas.DataFrame` with a row for each class of the first seed: the columns of `per_class.csv`.

        Returns:
            Columns `class`, `role` (`seen` or `unseen`), `test_images` (a count), and `accuracy`,
            `accuracy_calibrated`, `accuracy_among_unseen`: fractions of 1 with 4 decimals, NaN where undefined.

        Raises:
            ConfigError: pandas is not installed.
            RunError: the file cannot be read.
        """
        path = self.folder / "per_class.csv"
        rows = read_per_class(path)
        columns: dict[str, list[Any]] = {key: [row[key] for row in rows] for key in rows[0]}
        for key, values in columns.items():
            if key.startswith("accuracy"):
                columns[key] = [float(value) if value else None for value in values]
        return data_frame({**columns, "test_images": [int(value) for value in columns["test_images"]]})

    def _about(self) -> str:
        seeds = ", ".join(map(str, self.result["seeds"]))
        return f"{self.result['dataset']}, {self.result['method']}, {'seeds' if ',' in seeds else 'seed'} {seeds}"

    def _means(self) -> dict[str, float | None]:
        return {key: None if value is None else value["mean"] for key, value in self.result["metrics"].items()}


def _in_percent(figures: Mapping[str, float | None]) -> list[str]:
    return [percent(figures.get(key)) for key in FIGURE_NAMES]
