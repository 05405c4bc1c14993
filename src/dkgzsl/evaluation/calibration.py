"""Calibration on validation images: from scores to probabilities, and to the decision "none of these".

Three numbers, all chosen on validation images: a constant added to the scores of unseen classes (calibrated
stacking, see `metrics`), which changes decisions; a temperature (Guo et al., 2017, arXiv 1706.04599), which turns
scores into probabilities and changes no decision; a threshold of the in-distribution score, below which an image
is none of the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.optimize import brentq

from dkgzsl.evaluation.metrics import Scored

KEPT = 0.95
"""Share of validation images that the threshold keeps."""
_BINS = 15
_LARGEST, _SMALLEST = 1e4, 1e-4  # bounds of 1 / temperature, in units of 1 / deviation of the scores

Scores = Float[np.ndarray, "images classes"]


@dataclass(frozen=True)
class Reliability:
    """How reliable the probabilities are on held-out images.

    Seen and unseen classes have the same weight, and so have the classes within each, as in H.

    Attributes:
        ece: expected calibration error, the mean of |accuracy - confidence| over bins of equal width, weighted by
            the images in them; 0 to 1.
        confidence: mean probability of the decision, by bin; bins without images are left out.
        accuracy: share of correct decisions, by bin.
        weight: share of the images, by bin.
        kept_seen: share of the images of seen classes that the threshold keeps; None where there is no threshold,
            or no such image.
        kept_unseen: the same for unseen classes.
    """

    ece: float
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    weight: tuple[float, ...]
    kept_seen: float | None
    kept_unseen: float | None


@dataclass(frozen=True)
class Calibration:
    """How a model's scores become decisions and probabilities, chosen on validation images.

    Attributes:
        constant: added to the scores of unseen classes.
        temperature: the scores, constant included, are divided by it before the softmax; above 0.
        threshold: an image whose in-distribution score is below it is none of the classes; None: no image is.
        validation: reliability on the validation images that all this was chosen on; None where there were none.
    """

    constant: float = 0.0
    temperature: float = 1.0
    threshold: float | None = None
    validation: Reliability | None = None

    def probabilities(self, scores: Scores) -> Scores:
        """Probabilities of scores that include the constant: rows sum to 1; 0 where a score is -inf."""
        scaled = (scores - scores.max(1, keepdims=True)) / self.temperature
        shares = np.exp(scaled.astype(np.float64))
        return np.asarray(shares / shares.sum(1, keepdims=True))

    def accepts(self, scores: Scores) -> Bool[np.ndarray, " images"]:
        """Which images belong to some class: those whose in-distribution score reaches the threshold.

        Args:
            scores: with the constant included.
        """
        return np.asarray(in_distribution_score(scores) >= (-np.inf if self.threshold is None else self.threshold))

    def reliability(self, *scored: Scored) -> Reliability | None:
        """Reliability on held-out images, of one or more cuts with the same weight; None where there are none."""
        found = [one for one in scored if len(one.labels)]
        if not found:
            return None
        scores, labels, weights = _together(found, self.constant)
        unseen = np.concatenate([one.is_unseen[one.labels] for one in found])
        probabilities = self.probabilities(scores)
        decided = probabilities.argmax(1)
        confidence, correct = probabilities.max(1), decided == labels
        edges = np.linspace(0, 1, _BINS + 1)
        bins = np.clip(np.digitize(confidence, edges) - 1, 0, _BINS - 1)
        share = np.bincount(bins, weights, minlength=_BINS)
        filled = share > 0
        mean_confidence = np.bincount(bins, weights * confidence, minlength=_BINS)[filled] / share[filled]
        accuracy = np.bincount(bins, weights * correct, minlength=_BINS)[filled] / share[filled]
        keeps = self.accepts(scores)

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
        """The calibration whose `record` returned this."""
        validation = record["validation"]
        return cls(**{**record, "validation": None if validation is None else _reliability(validation)})


def calibrate(scored: Sequence[Scored], constant: float) -> Calibration:
    """Choose temperature and threshold on validation images.

    The temperature has the highest log likelihood, with the same weight for seen and pseudo-unseen images. The
    likelihood is concave in 1 / temperature, so the temperature is the root of its derivative. The threshold is
    the quantile of the in-distribution score that keeps `KEPT` of the images.

    Args:
        scored: scores of the validation images, of one or more cuts; each cut has the same weight.
        constant: the calibration constant, chosen on the same images.
    """
    scores, labels, weights = _together(scored, constant)
    own = scores[np.arange(len(scores)), labels]
    finite = np.where(np.isfinite(scores), scores, 0.0)

    def slope(inverse: float) -> float:
        """Minus the derivative of the log likelihood: expected score less the score of the image's class."""
        expected = (Calibration(temperature=1 / inverse).probabilities(scores) * finite).sum(1)
        return float(weights @ (expected - own))

    unit = 1 / max(float(finite.std()), np.finfo(float).tiny)
    low, high = _SMALLEST * unit, _LARGEST * unit
    if slope(low) >= 0:  # the scores say nothing about the class
        inverse = low
    elif slope(high) <= 0:  # every decision is correct: the likelihood grows without end
        inverse = high
    else:
        inverse = float(np.exp(brentq(lambda log: slope(np.exp(log)), np.log(low), np.log(high), xtol=1e-9)))
    values = in_distribution_score(scores)
    order = np.argsort(values, kind="stable")
    below = np.searchsorted(np.cumsum(weights[order]), 1 - KEPT, side="left")
    threshold = float(values[order][min(int(below), len(order) - 1)])
    found = Calibration(constant, 1 / inverse, threshold)
    return Calibration(constant, 1 / inverse, threshold, found.reliability(*scored))


def in_distribution_score(scores: Scores) -> Float[np.ndarray, " images"]:
    """In-distribution score of an image: its best score less the mean of its scores over all classes of the task.

    What the scores of an image have in common cancels out. For the default method it is the log likelihood ratio
    of the best class to the geometric mean of all classes: large where the features point towards one class, near
    0 where they lie across the axes that separate the classes, as those of other photos do. The largest density
    would be better at finding a class that is missing from a list of similar ones (a bird among birds), and
    hardly finds photos of other things at all (docs/lab-notes.md).

    Args:
        scores: with the calibration constant included; -inf for classes outside the task.
    """
    return np.asarray(scores.max(1) - np.nanmean(np.where(np.isfinite(scores), scores, np.nan), axis=1))


def balanced_weights(scored: Scored) -> Float[np.ndarray, " images"]:
    """A weight for each image, of sum 1: seen and unseen classes weigh the same, and so do the classes of each."""
    counts = np.bincount(scored.labels, minlength=len(scored.is_unseen))
    weights = np.zeros(len(scored.is_unseen))
    kinds = [kind & (counts > 0) for kind in (scored.is_unseen, ~scored.is_unseen)]
    kinds = [kind for kind in kinds if kind.any()]
    for kind in kinds:
        weights[kind] = 1 / (len(kinds) * kind.sum() * counts[kind])
    return np.asarray(weights[scored.labels])


def _together(
    scored: Sequence[Scored], constant: float
) -> tuple[Scores, Integer[np.ndarray, " images"], Float[np.ndarray, " images"]]:
    """Scores with the constant, labels and weights of all cuts, one below the other; the weights sum to 1."""
    scores = [np.asarray(one.scores + constant * one.is_unseen, dtype=np.float64) for one in scored]
    weights = [balanced_weights(one) / len(scored) for one in scored]
    labels = [one.labels for one in scored]
    return np.concatenate(scores), np.concatenate(labels), np.concatenate(weights)


def _reliability(record: Mapping[str, Any]) -> Reliability:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
    return Reliability(**values)
