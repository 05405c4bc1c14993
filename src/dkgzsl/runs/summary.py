"""From outcomes of several seeds to the one object that people and machines read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import mean, stdev
from typing import Any

from dkgzsl.data.problem import Problem
from dkgzsl.evaluation.metrics import Figures

METRICS = ("t1", "u", "s", "h", "h_calibrated", "ausuc")
"""The figures that tables show, in their order; fractions of 1."""
_FURTHER = ("u_calibrated", "s_calibrated")


def backbone_of(problem: Problem) -> str | None:
    """The backbone on record, or else the name of the features, which is all that is known of it."""
    return problem.provenance.get("backbone") or problem.provenance.get("features")


def over_seeds(figures: Sequence[Figures]) -> dict[str, dict[str, float] | None]:
    """Mean and sample deviation of each figure over the seeds; None where a figure is undefined.

    The deviation of one seed is 0.
    """
    table: dict[str, dict[str, float] | None] = {}
    for name in (*METRICS, *_FURTHER):
        values = [asdict(one)[name] for one in figures]
        if any(value is None for value in values):
            table[name] = None
        else:
            table[name] = {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0}
    return table


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
