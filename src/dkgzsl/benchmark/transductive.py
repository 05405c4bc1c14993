"""Rows of models that were adapted to unlabelled photos: after the inductive rows, never among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from time import perf_counter
from typing import Any, Final

import numpy as np

from dkgzsl.data.problem import Problem
from dkgzsl.evaluation.adaptation import Pool, adapted_scores, is_worthless
from dkgzsl.evaluation.held_out import test_images
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.evaluation.protocols import Outcome
from dkgzsl.methods.base import Adaptable
from dkgzsl.runs.summary import over_seeds

POOLS: Final[Mapping[Pool, str]] = {
    "half": "adapted to one half of the test images without labels, scored on the other half, both ways",
    "same": "adapted to the scored test images themselves, without labels",
}
"""What the pool was, as a table's title says it."""


def transductive_record(outcome: Outcome, problem: Problem, pool: Pool, *, seed: int) -> dict[str, Any] | None:
    """Figures of the adapted model on the test images, JSON values; None where the model cannot adapt.

    A refused pool leaves the model as it was: one that holds nothing described, or any, where adaptation was
    worth nothing on validation classes.

    Args:
        outcome: of the protocol; its constant is used.
        problem: the data.
        pool: which test images the model adapts to.
        seed: draws the halves; labels decide nothing.
    """
    if not isinstance(outcome.model, Adaptable):
        return None
    start = perf_counter()
    held_out, refuse = test_images(problem, outcome.fitted), is_worthless(outcome.adaptation)
    found = adapted_scores(held_out, outcome.model, pool, seed=seed, refuse=refuse)
    return {
        "adapted": pool,
        "figures": asdict(found.scored.figures(outcome.constant)),
        "refused": found.refused,
        "pools": found.pools,
        "seconds": round(perf_counter() - start, 2),
    }


def transductive_row(row: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The transductive row of an inductive one; None where no cell of it was adapted.

    It is compared with no other row: `lead` and `compared_with` are None.

    Args:
        row: the inductive one.
        records: the same cells', of which each is adapted or none is.
    """
    found = [record["transductive"] for record in records if record.get("transductive")]
    if not found:
        return None
    refused, pools = (sum(one[name] for one in found) for name in ("refused", "pools"))
    return {
        **row,
        "title": f"{row['title']}, transductive",
        "adapted": found[0]["adapted"],
        "metrics": over_seeds([Figures(**one["figures"]) for one in found]),
        "refused": refused,
        "pools": pools,
        "seconds": round(float(row["seconds"]) + float(np.mean([one["seconds"] for one in found])), 2),
        "compared_with": None,
        "lead": None,
    }
