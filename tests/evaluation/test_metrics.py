"""Figures against scikit-learn and against counting by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from dkgzsl.evaluation.bootstrap import deviations, resampled
from dkgzsl.evaluation.metrics import Scored, harmonic_mean, per_class_accuracy, seen_unseen_curve

IS_UNSEEN = np.array([False, False, True, True, False])


def _case(seed: int, images: int = 60, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(5), rng.integers(0, 5, images)])
    scores = rng.normal(size=(len(labels), 5)) + 1.2 * np.eye(5)[labels] - 0.7 * IS_UNSEEN
    return (np.round(scores, 1) if ties else scores), labels


def _by_counting(scores: np.ndarray, labels: np.ndarray, constant: float) -> tuple[float, float]:
    shifted = scores + constant * IS_UNSEEN
    u = [np.mean(shifted[labels == c].argmax(1) == c) for c in np.flatnonzero(IS_UNSEEN)]
    s = [np.mean(shifted[labels == c].argmax(1) == c) for c in np.flatnonzero(~IS_UNSEEN)]
    return float(np.mean(u)), float(np.mean(s))


def test_per_class_accuracy_is_balanced_accuracy() -> None:
    scores, labels = _case(0)
    mine = per_class_accuracy(scores.argmax(1), labels, np.arange(5)).mean()
    assert mine == pytest.approx(balanced_accuracy_score(labels, scores.argmax(1)))


def test_a_class_without_images_is_undefined() -> None:
    accuracies = per_class_accuracy(np.array([0, 1]), np.array([0, 0]), np.arange(3))
    assert accuracies[0] == 0.5
    assert np.isnan(accuracies[1:]).all()


def test_harmonic_mean_of_nothing_is_nothing() -> None:
    assert harmonic_mean(np.array([0.0, 0.5]), np.array([0.0, 0.25])).tolist() == pytest.approx([0.0, 1 / 3])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_the_curve_is_what_counting_gives_at_every_constant(seed: int, ties: bool) -> None:
    scores, labels = _case(seed, ties=ties)
    curve = seen_unseen_curve(scores, labels, IS_UNSEEN)
    ends = [curve.constants[0] - 1, *curve.constants, curve.constants[-1] + 1]
    for i in range(len(curve.unseen)):
        middle = (ends[i] + ends[i + 1]) / 2
        if ends[i + 1] - ends[i] < 1e-9:  # rounding decides between nearly equal constants
            continue
        u, s = _by_counting(scores, labels, middle)
        assert (curve.unseen[i], curve.seen[i]) == pytest.approx((u, s))


def test_area_is_the_integral_of_the_counted_points() -> None:
    scores, labels = _case(3)
    points = [_by_counting(scores, labels, c) for c in np.linspace(-12, 12, 24_001)]
    u, s = np.array(points).T
    area = float(np.sum(np.diff(u) * (s[1:] + s[:-1]) / 2))
    assert seen_unseen_curve(scores, labels, IS_UNSEEN).area == pytest.approx(area, abs=2e-3)


def test_the_best_constant_is_the_best_of_a_fine_grid() -> None:
    scores, labels = _case(4)
    curve = seen_unseen_curve(scores, labels, IS_UNSEEN)

    def h(constant: float) -> float:
        u, s = _by_counting(scores, labels, constant)
        return 2 * u * s / (u + s)

    assert h(curve.best_constant()) >= max(h(c) for c in np.linspace(-5, 5, 4001)) - 1e-12


def _scored(seed: int) -> Scored:
    scores, labels = _case(seed, images=400)
    return Scored(scores, np.where(IS_UNSEEN, scores, -np.inf), labels, IS_UNSEEN)


def test_figures_agree_with_counting() -> None:
    scored = _scored(5)
    figures = scored.figures(constant=0.6)
    u, s = _by_counting(scored.scores, scored.labels, 0.0)
    assert (figures.u, figures.s, figures.h) == pytest.approx((u, s, 2 * u * s / (u + s)))
    u, s = _by_counting(scored.scores, scored.labels, 0.6)
    assert figures.h_calibrated == pytest.approx(2 * u * s / (u + s))
    unseen = IS_UNSEEN[scored.labels]
    among = np.where(IS_UNSEEN, scored.scores[unseen], -np.inf).argmax(1)
    assert figures.t1 == pytest.approx(balanced_accuracy_score(scored.labels[unseen], among))


def test_without_a_constant_nothing_is_calibrated() -> None:
    assert _scored(6).figures().h_calibrated is None


def test_without_unseen_images_their_figures_are_undefined() -> None:
    whole = _scored(7)
    seen = ~IS_UNSEEN[whole.labels]
    figures = Scored(whole.scores[seen], whole.conventional[seen], whole.labels[seen], IS_UNSEEN).figures()
    assert figures.s is not None
    assert [figures.t1, figures.u, figures.h, figures.ausuc] == [None] * 4


def test_the_bootstrap_is_centred_on_the_figures_and_paired_by_its_seed() -> None:
    scored = _scored(8)
    figures = scored.figures(0.6)
    draws = resampled(scored.decisions, 0.6)
    for name in ("t1", "u", "s", "h_calibrated"):
        assert draws[name].mean() == pytest.approx(getattr(figures, name), abs=0.02)
    # with two unseen classes, each draw is one of them, the other, or both
    u = scored.class_accuracies()[IS_UNSEEN]
    assert np.unique(draws["u"].round(9)).tolist() == pytest.approx(sorted({*u, u.mean()}))
    assert (resampled(scored.decisions, 0.6)["h"] == draws["h"]).all()
    assert deviations(scored.decisions, 0.6)["u"] == pytest.approx(draws["u"].std(ddof=1))


def test_no_constant_is_taken_where_none_does_better() -> None:
    """All images are classified correctly without one; any other would lie in the middle of a wide interval."""
    labels = np.arange(5)
    scores = np.where(np.eye(5, dtype=bool), 10.0, 0.0)
    assert seen_unseen_curve(scores, labels, IS_UNSEEN).best_constant() == 0.0
