"""Bootstrap over classes: the spread of figures when the test classes are drawn again with replacement.

It is the spread to quote where the official split leaves nothing for a seed to change. Seen and unseen classes are
drawn apart. Two methods with the same seed get the same draws, so that their differences are paired.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from jaxtyping import Float

from dkgzsl.evaluation.metrics import Decisions, curve_of, harmonic_mean

RESAMPLES = 1000
FIGURES = ("t1", "u", "s", "h", "h_calibrated", "ausuc")


def resampled(
    scored: Decisions, constant: float | None, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """Each figure for each draw of classes.

    Args:
        scored: the test images.
        constant: calibration constant; None leaves `h_calibrated` out.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        Values by figure (`FIGURES`), fractions of 1, NaN where undefined; `ausuc` for the first 200 draws only.
    """
    rng = np.random.default_rng(seed)
    present = np.bincount(scored.labels, minlength=len(scored.is_unseen)) > 0
    unseen = np.flatnonzero(present & scored.is_unseen)
    seen = np.flatnonzero(present & ~scored.is_unseen)
    counts = np.zeros((resamples, len(scored.is_unseen)))
    for classes in (unseen, seen):
        drawn = rng.choice(classes, (resamples, len(classes)))
        for row, one in zip(counts, drawn, strict=True):
            row += np.bincount(one, minlength=counts.shape[1])

    def average(accuracies: np.ndarray, classes: np.ndarray) -> np.ndarray:
        if not len(classes):
            return np.full(resamples, np.nan)
        weights = counts[:, classes]
        result: np.ndarray = weights @ accuracies[classes] / weights.sum(1)
        return result

    figures = {"t1": average(scored.conventional_accuracies(), unseen)}
    accuracies = scored.class_accuracies()
    figures["u"], figures["s"] = average(accuracies, unseen), average(accuracies, seen)
    figures["h"] = harmonic_mean(figures["u"], figures["s"])
    if constant is not None:
        calibrated = scored.class_accuracies(constant)
        figures["h_calibrated"] = harmonic_mean(average(calibrated, unseen), average(calibrated, seen))
    figures["ausuc"] = np.array(
        [
            curve_of(scored.margins, scored.labels, scored.is_unseen, class_weights=row).area
            for row in counts[: min(resamples, 200)]
        ]
    )
    return figures


def deviations(scored: Decisions, constant: float | None) -> dict[str, float]:
    """Standard deviation over the draws of classes, for each figure that is defined."""
    defined = asdict(scored.figures(constant))
    figures = resampled(scored, constant).items()
    return {name: float(values.std(ddof=1)) for name, values in figures if defined[name] is not None}
