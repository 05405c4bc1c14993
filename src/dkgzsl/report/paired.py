"""Differences between two models on the same test images, with the interval that the choice of classes leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

from dkgzsl.evaluation.bootstrap import FIGURES, resampled
from dkgzsl.report.record.predictions import Answers

_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Difference:
    """A figure of one model less that of another; fractions of 1.

    Attributes:
        value: the difference of the figures.
        low: lower end of its 95 % interval over classes drawn again with replacement.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


Pair = tuple[Answers, float | None]
"""A model's answers and its calibration constant."""


def same_images(first: Answers, second: Answers) -> bool:
    """Whether two models answered to the same images with the same division of classes."""
    return (
        np.array_equal(first.images, second.images)
        and np.array_equal(first.labels, second.labels)
        and np.array_equal(first.is_unseen, second.is_unseen)
    )


def paired_differences(pairs: Sequence[tuple[Pair, Pair]]) -> dict[str, Difference]:
    """Differences, first less second, averaged over seeds; every draw of classes meets both models.

    Args:
        pairs: a seed each, of models that answered to the same images. Figures that one of them lacks are left
            out.
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


def _resampled(answers: Answers, constant: float | None) -> tuple[dict[str, float | None], dict[str, np.ndarray]]:
    scored = answers.scored()
    return asdict(scored.figures(constant)), resampled(scored, constant)
