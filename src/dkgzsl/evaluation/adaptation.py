"""What adaptation to unlabelled photos is worth: half of the held-out images is the pool, the other is scored.

The figures are *transductive*: the model has seen images of the classes that it is scored on, without labels. They
are never ranked or compared with inductive ones. The halves are drawn without labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from dkgzsl.evaluation.held_out import HeldOut
from dkgzsl.evaluation.metrics import Figures, Scored
from dkgzsl.methods.base import Adaptable, Model

Pool = Literal["half", "same"]
"""half: one half of the images is the pool and the other half is scored, both ways; same: the pool is scored."""


@dataclass(frozen=True)
class AdaptationWorth:
    """Figures of a model on held-out images before and after adaptation.

    Attributes:
        before: of the model as it was.
        after: of the adapted model, each image scored by a model whose pool it was not in.
        refused: how many of the pools held nothing described, so that the model stayed as it was.
        pools: how many pools there were.
    """

    before: Figures
    after: Figures
    refused: int
    pools: int

    @property
    def gain(self) -> float | None:
        """AUSUC after less AUSUC before; None where they are undefined."""
        before, after = self.before.ausuc, self.after.ausuc
        return None if before is None or after is None else after - before


@dataclass(frozen=True)
class AdaptedScores:
    """Held-out images scored by adapted models.

    Attributes:
        scored: all of them.
        refused: how many pools held nothing described; their images were scored by the model as it was.
        pools: how many pools there were.
    """

    scored: Scored
    refused: int
    pools: int


def adapted_scores(
    held_out: HeldOut, model: Model, pool: Pool, *, seed: int = 0, refuse: bool = False
) -> AdaptedScores:
    """Score held-out images after adapting to (a part of) them.

    A pool that holds nothing described leaves the model as it was.

    Args:
        held_out: the images.
        model: that can adapt.
        pool: which images it adapts to.
        seed: draws the halves.
        refuse: refuse every pool, because adaptation is worth nothing.
    """
    assert isinstance(model, Adaptable), "the caller has checked it"
    features, number = held_out.features, len(held_out.labels)
    halves = [np.ones(number, bool)] * 2
    if pool == "half":
        drawn = np.random.default_rng([seed, number]).permutation(number) < number // 2
        halves = [drawn, ~drawn]
    refused = 0
    before = held_out.score(model)
    scores, conventional = before.scores.copy(), before.conventional.copy()
    for seen, scored in [halves, halves[::-1]] if pool == "half" else [halves]:
        found = model.adapted(_rows(features, seen)) if seen.any() and not refuse else model
        if not holds_described(found):
            refused += 1
            continue
        own = _rows(features, scored)
        scores[scored] = found.scores(own).float().cpu().numpy()
        conventional[scored] = found.conventional_scores(own).float().cpu().numpy()
    after = Scored(scores, conventional, held_out.labels, held_out.is_unseen)
    return AdaptedScores(after, refused, 2 if pool == "half" else 1)


def holds_described(model: Model) -> bool:
    """Whether the pool that a model was adapted to holds photos of described classes."""
    return isinstance(model, Adaptable) and model.adaptation is not None and model.adaptation.holds_described


def _rows(features: Tensor, chosen: Bool[np.ndarray, " images"]) -> Tensor:
    return features[torch.from_numpy(np.flatnonzero(chosen))]


def adaptation_worth(held_out: HeldOut, model: Model, *, seed: int = 0) -> AdaptationWorth | None:
    """What adaptation is worth on held-out images of validation, with half of them as the pool, both ways.

    Args:
        held_out: images of seen and pseudo-unseen classes.
        model: fitted without them.
        seed: draws the halves.

    Returns:
        None where the model cannot adapt, has no described class, or there are fewer than four images.
    """
    if not isinstance(model, Adaptable) or not len(model.unseen) or len(held_out.labels) < 4:
        return None
    found = adapted_scores(held_out, model, "half", seed=seed)
    before, after = held_out.score(model).figures(), found.scored.figures()
    return AdaptationWorth(before, after, found.refused, found.pools)


def is_worthless(worth: Mapping[str, Any] | None) -> bool:
    """Whether adaptation was measured on validation classes (`mean_worth`) and gained nothing."""
    return worth is not None and worth["gain"] <= 0 and worth["refused"] < worth["pools"]


def mean_worth(worths: list[AdaptationWorth | None]) -> dict[str, Any] | None:
    """The worth over several cuts as JSON values: mean AUSUC before and after, its gain, refused pools.

    Returns:
        `ausuc_before`, `ausuc_after`, `gain` (fractions of 1), `gain_error` (standard error over the cuts; None
        with one cut), `cuts`, `pools`, `refused`; None where no cut could tell.
    """
    known = [one for one in worths if one is not None and one.gain is not None]
    if not known:
        return None
    gains = np.array([one.gain for one in known])
    return {
        "ausuc_before": float(np.mean([one.before.ausuc for one in known])),
        "ausuc_after": float(np.mean([one.after.ausuc for one in known])),
        "gain": float(gains.mean()),
        "gain_error": float(gains.std(ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else None,
        "cuts": len(known),
        "pools": sum(one.pools for one in known),
        "refused": sum(one.refused for one in known),
    }
