"""Calibration on validation images: from scores to decisions and probabilities.

Two numbers, both chosen on validation images: a constant added to the scores of unseen classes (calibrated
stacking, see `metrics`), which changes decisions, and a temperature (Guo et al., 2017, arXiv 1706.04599), which
turns scores into probabilities and changes no decision. When an image is none of the classes, `in_distribution`
says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from scipy.optimize import brentq

from dkgzsl.evaluation.metrics import Decisions, Scored, balanced_weights

THRESHOLD: Final = 1.0
"""Of the in-distribution score."""
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
        kept_seen: share of the images of seen classes that the threshold keeps; None where that was not measured,
            there is no threshold, or no such image.
        kept_unseen: the same for unseen classes.
    """

    ece: float
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    weight: tuple[float, ...]
    kept_seen: float | None = None
    kept_unseen: float | None = None


@dataclass(frozen=True)
class Calibration:
    """How a model's scores become decisions and probabilities, chosen on validation images.

    Attributes:
        constant: added to the scores of unseen classes.
        temperature: the scores, constant included, are divided by it before the softmax; above 0.
        threshold: an image whose in-distribution score is below it is none of the classes; None: no image is.
            1, but in runs of before there was `in_distribution`, whose score is the clearness.
        validation: reliability on the validation images that all this was chosen on; None where there were none.
        found: the constant that was best on the validation images, before it was shrunk; None: not known.
        spread: deviation of the constants that were best on each validation cut; None with one cut, or none.
    """

    constant: float = 0.0
    temperature: float = 1.0
    threshold: float | None = None
    validation: Reliability | None = None
    found: float | None = None
    spread: float | None = None

    @property
    def in_words(self) -> str | None:
        """How sure the constant is, in one sentence; None where nothing was chosen."""
        if self.validation is None or self.found is None:
            return None
        kept = f"{self.constant:+.2f} is added to the scores of described classes"
        if self.spread is None:
            return f"{kept}: the best constant on one validation cut, so how sure it is is not known"
        sure = "sure" if abs(self.found) > 2 * self.spread else "unsure"
        why = f"the cuts found {self.found:+.2f} with a deviation of {self.spread:.2f}"
        return f"{kept}: {why}, so it is {sure}" + ("" if sure == "sure" else " and was kept small")

    def probabilities(self, scores: Scores) -> Scores:
        """Probabilities of scores that include the constant: rows sum to 1; 0 where a score is -inf."""
        scaled = (scores - scores.max(1, keepdims=True)) / self.temperature
        shares = np.exp(scaled.astype(np.float64))
        return np.asarray(shares / shares.sum(1, keepdims=True))

    def confidence(self, scores: Scores) -> Float[np.ndarray, " images"]:
        """The highest probability of each row, without the others: one pass over the scores."""
        values = torch.from_numpy(np.ascontiguousarray(scores))
        lead = values.sub(values.amax(1, keepdim=True)).div_(self.temperature)
        # Below e^-80 a share changes no sum that begins with 1, and the denormal numbers of float32 are slow.
        lead = lead.clamp_(min=-80).exp_()
        return np.asarray(1 / lead.sum(1, dtype=torch.float64).numpy())

    def accepts(self, fit: Float[np.ndarray, " images"]) -> Bool[np.ndarray, " images"]:
        """Which images belong to some class: those whose in-distribution score reaches the threshold.

        Args:
            fit: the in-distribution scores.
        """
        return np.asarray(fit >= (-np.inf if self.threshold is None else self.threshold))

    def reliability(self, *scored: Scored) -> Reliability | None:
        """Reliability on held-out images, of one or more cuts with the same weight; None where there are none.

        Args:
            scored: the images of each cut.
        """
        found = [one for one in scored if len(one.labels)]
        if not found:
            return None
        scores, labels, weights = _together(found, self.constant)
        probabilities = self.probabilities(scores)
        return _reliability(probabilities.max(1), probabilities.argmax(1) == labels, weights)

    def reliability_of(
        self,
        decisions: Decisions,
        confidence: Float[np.ndarray, " images"],
        fit: Float[np.ndarray, " images"] | None = None,
    ) -> Reliability | None:
        """Reliability on images that are decided already; None where there are none.

        Args:
            decisions: of the images.
            confidence: probability of each image's decision, the constant included.
            fit: in-distribution scores; None: they are not known.
        """
        if not len(decisions.labels):
            return None
        weights = balanced_weights(decisions)
        found = _reliability(confidence, decisions.predicted(self.constant) == decisions.labels, weights)
        unseen = decisions.is_unseen[decisions.labels]

        def kept(kind: Bool[np.ndarray, " images"]) -> float | None:
            if self.threshold is None or fit is None or not kind.any():
                return None
            return float(np.average(self.accepts(fit)[kind], weights=weights[kind]))

        return replace(found, kept_seen=kept(~unseen), kept_unseen=kept(unseen))

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Calibration:
        """The calibration whose `record` returned this."""
        validation = record["validation"]
        return cls(**{**record, "validation": None if validation is None else _read_reliability(validation)})


def calibrate(
    scored: Sequence[Scored],
    constant: float,
    *,
    scales: Sequence[float] | None = None,
    threshold: float | None = None,
) -> Calibration:
    """Choose the temperature on validation images.

    It has the highest log likelihood, with the same weight for seen and pseudo-unseen images. The likelihood is
    concave in 1 / temperature, so the temperature is the root of its derivative.

    Args:
        scored: scores of the validation images, of one or more cuts; each cut has the same weight.
        constant: the calibration constant, chosen on the same images.
        scales: of each cut, the scores of the final model, in units of those of the cut's. With other
            classes and more of them its scores have another spread; the temperature is for them (None: 1).
        threshold: of the in-distribution score.
    """
    if scales is not None:
        scored = [_scaled(one, scale) for one, scale in zip(scored, scales, strict=True)]
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
    found = Calibration(constant, 1 / inverse, threshold)
    return replace(found, validation=found.reliability(*scored))


def _scaled(scored: Scored, scale: float) -> Scored:
    return replace(scored, scores=scored.scores * scale, conventional=scored.conventional * scale)


def _together(
    scored: Sequence[Scored], constant: float
) -> tuple[Scores, Integer[np.ndarray, " images"], Float[np.ndarray, " images"]]:
    """Scores with the constant, labels and weights of all cuts, one below the other; the weights sum to 1."""
    scores = [np.asarray(one.scores + constant * one.is_unseen, dtype=np.float64) for one in scored]
    weights = [balanced_weights(one) / len(scored) for one in scored]
    labels = [one.labels for one in scored]
    return np.concatenate(scores), np.concatenate(labels), np.concatenate(weights)


def _reliability(
    confidence: Float[np.ndarray, " images"],
    correct: Bool[np.ndarray, " images"],
    weights: Float[np.ndarray, " images"],
) -> Reliability:
    edges = np.linspace(0, 1, _BINS + 1)
    bins = np.clip(np.digitize(confidence, edges) - 1, 0, _BINS - 1)
    share = np.bincount(bins, weights, minlength=_BINS)
    filled = share > 0
    mean_confidence = np.bincount(bins, weights * confidence, minlength=_BINS)[filled] / share[filled]
    accuracy = np.bincount(bins, weights * correct, minlength=_BINS)[filled] / share[filled]
    return Reliability(
        ece=float((share[filled] * np.abs(accuracy - mean_confidence)).sum()),
        confidence=tuple(mean_confidence.tolist()),
        accuracy=tuple(accuracy.tolist()),
        weight=tuple(share[filled].tolist()),
    )


def _read_reliability(record: Mapping[str, Any]) -> Reliability:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
    return Reliability(**values)
