"""Temperature, threshold and reliability against searches and counts done another way."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax

from dkgzsl.evaluation.calibration import Calibration, calibrate
from dkgzsl.evaluation.metrics import Scored, balanced_weights


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


def test_the_temperature_is_for_the_scores_of_the_final_model() -> None:
    cuts = [scored(seed=0), scored(seed=1)]
    small = [replace(cuts[0], scores=cuts[0].scores / 4), replace(cuts[1], scores=cuts[1].scores * 3)]
    constant = 0.7
    found = calibrate(small, constant, scales=[4.0, 1 / 3])
    assert found.temperature == pytest.approx(calibrate(cuts, constant).temperature)
    assert found.constant == constant


def test_what_lies_below_the_threshold_is_none_of_the_classes() -> None:
    held = scored(200)
    fit = np.linspace(0, 2, 200)
    calibration = Calibration(threshold=1.0)
    assert (calibration.accepts(fit) == (fit >= 1)).all()
    assert Calibration().accepts(fit).all()
    confidence = calibration.probabilities(held.scores).max(1)
    found = calibration.reliability_of(held.decisions, confidence, fit)
    unseen = held.is_unseen[held.labels]
    weights = balanced_weights(held)
    for kind, share in ((unseen, found.kept_unseen), (~unseen, found.kept_seen)):
        assert share == pytest.approx(weights[kind & (fit >= 1)].sum() / weights[kind].sum())
    assert calibration.reliability(held).kept_seen is None
    assert calibration.reliability_of(held.decisions, confidence).kept_seen is None


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
    assert calibration.reliability_of(held.decisions, shares.max(1)) == found, "as of images decided in blocks"
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
