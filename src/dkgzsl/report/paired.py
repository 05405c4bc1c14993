"""Differences between two models on the same test images, with bootstrap intervals over the test classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

from dkgzsl.evaluation.bootstrap import FIGURES, resampled
from dkgzsl.report.record.predictions import Predictions

_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Difference:
    """A figure of one model minus the same figure of another; all numbers are fractions of 1.

    Attributes:
        value: the difference of the figures.
        low: lower end of its 95 % interval (bootstrap: classes are drawn with replacement).
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


Pair = tuple[Predictions, float | None]
"""The predictions of a model and its calibration constant."""


def same_images(first: Predictions, second: Predictions) -> bool:
    """Whether two models have the same test images and the same seen and unseen classes."""
    return (
        np.array_equal(first.images, second.images)
        and np.array_equal(first.labels, second.labels)
        and np.array_equal(first.is_unseen, second.is_unseen)
    )


def paired_differences(pairs: Sequence[tuple[Pair, Pair]]) -> dict[str, Difference]:
    """Differences, first minus second, averaged over seeds; each bootstrap draw of classes is the same for both.

    Args:
        pairs: one pair for each seed; both models have the same test images (see `same_images`).

    Returns:
        Differences by name of the figure; a figure that one of the models lacks is left out.
    """
    drawn: dict[str, list[Float[np.ndarray, " resamples"]]] = {name: [] for name in FIGURES}
    found: dict[str, list[float]] = {name: [] for name in FIGURES}
    for one, other in pairs:
        (figures, draws), (figures_2, draws_2) = _resampled(*one), _resampled(*other)
        for name in FIGURES:
            a, b = figures.get(name), figures_2.get(name)
            if a is not None and b is not None:
                found[name].append(a - b)
                drawn[name].append(draws[name] - draws_2[name])
    differences = {}
    for name, values in found.items():
        if len(values) == len(pairs) and values:
            low, high = np.percentile(np.mean(drawn[name], axis=0), _INTERVAL)
            differences[name] = Difference(float(np.mean(values)), float(low), float(high))
    return differences


def _resampled(
    predictions: Predictions, constant: float | None
) -> tuple[dict[str, float | None], dict[str, np.ndarray]]:
    scored = predictions.decisions()
    return asdict(scored.figures(constant)), resampled(scored, constant)
