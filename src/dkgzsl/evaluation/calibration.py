"""From scores to probabilities that mean what they say, and to "none of these": all of it from validation images.

One constant on the unseen scores (calibrated stacking, see `metrics`) decides; one temperature (Guo et al., 2017,
arXiv 1706.04599) makes probabilities of the scores and changes no decision; one threshold says whether an image is
any of the classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq

from dkgzsl.evaluation.metrics import Scored

KEPT = 0.95
"""Share of validation images that the threshold keeps."""
_BINS = 15
_SHARPEST, _FLATTEST = 1e4, 1e-4  # bounds of 1 / temperature, in units of 1 / deviation of the scores

Scores = Float[np.ndarray, "images classes"]


@dataclass(frozen=True)
class Reliability:
    """Whether probabilities mean what they say, on held-out images.

    Seen and unseen classes count the same, and classes within them, as in H.

    Attributes:
        ece: expected calibration error, the mean of |accuracy - confidence| over bins of equal width, weighted by
            the images in them; 0 to 1.
        confidence: mean probability of the decision, by bin; bins without images are left out.
        accuracy: share of right decisions, by bin.
        weight: share of the images, by bin.
        kept_seen: share of the images of seen classes that the threshold keeps; None without either.
        kept_unseen: the same of unseen classes.
    """

    ece: float
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    weight: tuple[float, ...]
    kept_seen: float | None
    kept_unseen: float | None


@dataclass(frozen=True)
class Calibration:
    """What validation says of a model's scores.

    Attributes:
        constant: added to the scores of unseen classes.
        temperature: scores are divided by it, the constant included, before the softmax; above 0.
        threshold: an image whose in-distribution score is below it is none of the classes; None: no image is.
        validation: reliability on the validation images that all this was chosen on; None where there were none.
    """

    constant: float = 0.0
    temperature: float = 1.0
    threshold: float | None = None
    validation: Reliability | None = None

    def probabilities(self, scores: Scores) -> Scores:
        """Softmax of scores that hold the constant already; rows sum to 1, 0 where a score is -inf."""
        scaled = (scores - scores.max(1, keepdims=True)) / self.temperature
        shares = np.exp(scaled.astype(np.float64))
        return np.asarray(shares / shares.sum(1, keepdims=True))

    def accepts(self, scores: Scores) -> Bool[np.ndarray, " images"]:
        """Which images are any of the classes, by scores that hold the constant already."""
        return np.asarray(in_distribution_score(scores) >= (-np.inf if self.threshold is None else self.threshold))

    def reliability(self, scored: Scored) -> Reliability | None:
        """Reliability on held-out images; None where there are none."""
        if not len(scored.labels):
            return None
        scores = _stacked(scored, self.constant)
        probabilities = self.probabilities(scores)
        decided = probabilities.argmax(1)
        confidence, right = probabilities.max(1), decided == scored.labels
        weights = balanced_weights(scored)
        edges = np.linspace(0, 1, _BINS + 1)
        bins = np.clip(np.digitize(confidence, edges) - 1, 0, _BINS - 1)
        share = np.bincount(bins, weights, minlength=_BINS)
        filled = share > 0
        mean_confidence = np.bincount(bins, weights * confidence, minlength=_BINS)[filled] / share[filled]
        accuracy = np.bincount(bins, weights * right, minlength=_BINS)[filled] / share[filled]
        keeps, unseen = self.accepts(scores), scored.is_unseen[scored.labels]

        def kept(kind: Bool[np.ndarray, " images"]) -> float | None:
            known = self.threshold is not None and kind.any()
            return float(np.average(keeps[kind], weights=weights[kind])) if known else None

        return Reliability(
            ece=float((share[filled] * np.abs(accuracy - mean_confidence)).sum()),
            confidence=tuple(mean_confidence.tolist()),
            accuracy=tuple(accuracy.tolist()),
            weight=tuple(share[filled].tolist()),
            kept_seen=kept(~unseen),
            kept_unseen=kept(unseen),
        )

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Calibration:
        """The calibration that `record` was made from."""
        validation = record["validation"]
        return cls(**{**record, "validation": None if validation is None else _reliability(validation)})


def calibrate(scored: Scored, constant: float) -> Calibration:
    """Temperature and threshold for validation scores and a constant that was chosen on them.

    The temperature has the highest log likelihood, seen and pseudo-unseen images weighing the same; the likelihood
    is concave in 1 / temperature, so it is the root of its derivative. The threshold is the quantile of the
    in-distribution score that keeps `KEPT` of the images.
    """
    scores, weights = _stacked(scored, constant), balanced_weights(scored)
    own = scores[np.arange(len(scores)), scored.labels]
    finite = np.where(np.isfinite(scores), scores, 0.0)

    def slope(sharpness: float) -> float:
        """Minus the derivative of the log likelihood: expected score minus the own class's."""
        expected = (Calibration(temperature=1 / sharpness).probabilities(scores) * finite).sum(1)
        return float(weights @ (expected - own))

    unit = 1 / max(float(finite.std()), np.finfo(float).tiny)
    low, high = _FLATTEST * unit, _SHARPEST * unit
    if slope(low) >= 0:  # the scores know nothing
        sharpness = low
    elif slope(high) <= 0:  # every decision is right, by any margin
        sharpness = high
    else:
        sharpness = float(np.exp(brentq(lambda log: slope(np.exp(log)), np.log(low), np.log(high), xtol=1e-4)))
    values = in_distribution_score(scores)
    order = np.argsort(values, kind="stable")
    below = np.searchsorted(np.cumsum(weights[order]), 1 - KEPT, side="left")
    threshold = float(values[order][min(int(below), len(order) - 1)])
    found = Calibration(constant, 1 / sharpness, threshold)
    return Calibration(constant, 1 / sharpness, threshold, found.reliability(scored))


def in_distribution_score(scores: Scores) -> Float[np.ndarray, " images"]:
    """How clearly an image belongs to the classes: its best score less the mean of its scores over all of them.

    The difference cancels what an image's scores have in common. For the default it is the log likelihood ratio
    of the best class to the geometric mean of all: large where the features point towards one class, near 0 where
    they lie across the axes that separate classes, as photos of other things do. The largest density would better
    detect a class that is missing from a list of similar ones (a bird among birds), and hardly detect other things
    (docs/lab-notes.md).

    Args:
        scores: the constant included; -inf for a class outside the task.
    """
    return np.asarray(scores.max(1) - np.nanmean(np.where(np.isfinite(scores), scores, np.nan), axis=1))


def balanced_weights(scored: Scored) -> Float[np.ndarray, " images"]:
    """A weight an image, of sum 1: both kinds of classes weigh the same, and the classes of a kind, too."""
    counts = np.bincount(scored.labels, minlength=len(scored.is_unseen))
    weights = np.zeros(len(scored.is_unseen))
    kinds = [kind & (counts > 0) for kind in (scored.is_unseen, ~scored.is_unseen)]
    kinds = [kind for kind in kinds if kind.any()]
    for kind in kinds:
        weights[kind] = 1 / (len(kinds) * kind.sum() * counts[kind])
    return np.asarray(weights[scored.labels])


def _stacked(scored: Scored, constant: float) -> Scores:
    return np.asarray(scored.scores + constant * scored.is_unseen, dtype=np.float64)


def _reliability(record: Mapping[str, Any]) -> Reliability:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
    return Reliability(**values)
