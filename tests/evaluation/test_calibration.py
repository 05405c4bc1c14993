"""Temperature, threshold and reliability against searches and counts done another way."""

import json

import numpy as np
import pytest
from scipy.special import log_softmax

from dkgzsl.evaluation.calibration import KEPT, Calibration, balanced_weights, calibrate, in_distribution_score
from dkgzsl.evaluation.metrics import Scored


def scored(images: int = 400, sharpness: float = 3.0, seed: int = 0) -> Scored:
    """Labels drawn from the softmax of `scores / sharpness`: that temperature is the right one."""
    rng = np.random.default_rng(seed)
    scores = sharpness * rng.normal(size=(images, 6)) * 2
    shares = np.exp(log_softmax(scores / sharpness, axis=1))
    labels = np.array([rng.choice(6, p=row) for row in shares])
    is_unseen = np.arange(6) >= 4
    return Scored(scores, np.where(is_unseen, scores, -np.inf), labels, is_unseen)


def likelihood(held: Scored, constant: float, temperature: float) -> float:
    logs = log_softmax((held.scores + constant * held.is_unseen) / temperature, axis=1)
    own = logs[np.arange(len(logs)), held.labels]
    unseen = held.is_unseen[held.labels]
    kinds = [
        np.mean([own[held.labels == c].mean() for c in np.unique(held.labels[kind])]) for kind in (unseen, ~unseen)
    ]
    return float(np.mean(kinds))


def test_the_temperature_is_the_most_likely_one() -> None:
    held = scored()
    found = calibrate([held], 0.7)
    grid = np.geomspace(0.2, 40, 4000)
    best = grid[np.argmax([likelihood(held, 0.7, t) for t in grid])]
    assert found.temperature == pytest.approx(best, rel=0.01)
    assert calibrate([scored(20000)], 0.0).temperature == pytest.approx(3.0, rel=0.05)


def test_probabilities_keep_the_decision_and_the_constant_lets_unseen_classes_win() -> None:
    held = scored()
    calibration = calibrate([held], 5.0)
    stacked = held.scores + 5.0 * held.is_unseen
    shares = calibration.probabilities(stacked)
    assert np.allclose(shares.sum(1), 1)
    assert (shares.argmax(1) == stacked.argmax(1)).all()
    assert np.allclose(np.log(shares), log_softmax(stacked / calibration.temperature, axis=1))
    plain = calibration.probabilities(held.scores)
    assert shares[:, held.is_unseen].sum() > plain[:, held.is_unseen].sum()


def test_the_threshold_keeps_its_share_and_ignores_what_scores_have_in_common() -> None:
    held = scored(4000)
    calibration = calibrate([held], 0.0)
    kept = calibration.accepts(held.scores)
    assert balanced_weights(held)[kept].sum() == pytest.approx(KEPT, abs=0.005)
    shifted = held.scores + np.linspace(-1e3, 1e3, len(held.scores))[:, None]
    assert (calibration.accepts(shifted) == kept).mean() > 0.999
    assert not calibration.accepts(np.zeros((1, 6)))[0]
    outside = np.concatenate([held.scores, np.full((len(held.scores), 2), -np.inf)], axis=1)
    assert np.allclose(in_distribution_score(outside), in_distribution_score(held.scores))
    assert calibration.probabilities(outside)[:, 6:].max() == 0


def test_reliability_counts_what_a_loop_counts() -> None:
    held = scored(300, sharpness=1.0)
    calibration = Calibration(constant=0.3, temperature=0.5, threshold=1.0)
    found = calibration.reliability(held)
    shares = calibration.probabilities(held.scores + 0.3 * held.is_unseen)
    weights, error = balanced_weights(held), 0.0
    for low in np.arange(15) / 15:
        inside = (shares.max(1) >= low) & (shares.max(1) < low + 1 / 15 + (1e-9 if low > 0.9 else 0))
        if inside.any():
            right = (shares.argmax(1) == held.labels)[inside]
            error += abs((weights[inside] * (right - shares.max(1)[inside])).sum())
    assert found.ece == pytest.approx(error, abs=1e-9)
    assert sum(found.weight) == pytest.approx(1)
    overconfident = calibrate([held], 0.3).validation
    assert overconfident.ece < found.ece


def test_seen_and_unseen_images_weigh_the_same() -> None:
    held = scored()
    weights, unseen = balanced_weights(held), held.is_unseen[held.labels]
    assert weights[unseen].sum() == pytest.approx(0.5)
    assert weights[held.labels == 4].sum() == pytest.approx(0.25)


def test_scores_that_know_nothing_or_everything() -> None:
    held = scored()
    wrong = Scored(-held.scores, -held.scores, held.scores.argmax(1), held.is_unseen)
    assert calibrate([wrong], 0.0).probabilities(wrong.scores).max() < 0.2
    right = Scored(held.scores, held.scores, held.scores.argmax(1), held.is_unseen)
    assert calibrate([right], 0.0).validation.ece < 0.01


def test_a_record_brings_it_back() -> None:
    calibration = calibrate([scored()], 0.4)
    assert Calibration.of_record(json.loads(json.dumps(calibration.record()))) == calibration
    empty = Scored(np.zeros((0, 6)), np.zeros((0, 6)), np.zeros(0, np.int64), np.arange(6) >= 4)
    assert calibration.reliability(empty) is None
