"""Which images are none of the classes: against scikit-learn's components, loops, planted images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from dkgzsl.evaluation.in_distribution import (
    FAR,
    LOST,
    FeatureDistribution,
    InDistribution,
    clearness,
    in_distribution_of,
    least_clearness,
    level_of,
)
from dkgzsl.evaluation.metrics import Scored, balanced_weights

CLASSES, CHANNELS = 12, 90


def features(images: int, *, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Classes around means of their own, in a few directions much wider than in the others."""
    shape = np.random.default_rng(1)
    means, mixing = shape.normal(size=(CLASSES, CHANNELS)), shape.normal(size=(8, CHANNELS))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, images)
    values = means[labels] + 2 * rng.normal(size=(images, 8)) @ mixing + 0.5 * rng.normal(size=(images, CHANNELS))
    return torch.from_numpy(values).float(), labels


def test_the_distance_is_that_of_probabilistic_components() -> None:
    train, _ = features(600)
    test, _ = features(50, seed=2)
    ours = FeatureDistribution.fit(train, root=False).distance(test).numpy()
    theirs = PCA(64, svd_solver="full").fit(train.double().numpy())
    likelihood = theirs.score_samples(test.double().numpy())
    _, determinant = np.linalg.slogdet(theirs.get_covariance())
    expected = (-2 * likelihood - determinant - CHANNELS * np.log(2 * np.pi)) / CHANNELS
    np.testing.assert_allclose(ours, expected, rtol=0.15)  # among variances that are alike, axes are rough
    assert np.corrcoef(ours, expected)[0, 1] > 0.95
    assert FeatureDistribution.fit(train, root=False).distance(train).mean() == pytest.approx(1, abs=0.1)


def test_with_all_axes_it_is_the_mahalanobis_distance() -> None:
    train = features(500)[0][:, :20].abs()
    root = train.sqrt().double().numpy()
    solved = np.linalg.solve(np.cov(root.T), (root - root.mean(0)).T).T
    expected = ((root - root.mean(0)) * solved).sum(1) / 20
    found = FeatureDistribution.fit(train, root=True).distance(train).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("images", [60, 500, 5000])
def test_new_images_are_kept_and_noise_is_not(images: int) -> None:
    train, labels = features(images)
    new, _ = features(4000, seed=3)
    needed = in_distribution_of(train, labels)
    assert needed is not None
    scores = np.zeros((4000, 2))
    kept = (needed.score(scores, np.array([False, True]), new) >= 1).mean()
    assert kept > (0.97 if images > 100 else 0.9)
    rng = np.random.default_rng(0)
    shuffled = np.stack([rng.permutation(row) for row in new.numpy()[:200]])
    far = [rng.normal(size=(200, CHANNELS)) * train.std().item(), np.zeros((1, CHANNELS)) + 5, shuffled]
    for values in far:
        unlike = torch.from_numpy(values).float()
        found = needed.score(np.zeros((len(values), 2)), np.array([False, True]), unlike)
        assert (found < 1).mean() > 0.9


def test_described_classes_get_the_limit_of_classes_that_no_fit_has_seen() -> None:
    train, labels = features(1000)
    needed = in_distribution_of(train, labels)
    assert needed is not None
    assert needed.distance[1] >= needed.distance[0]
    scores = np.eye(2)[[0, 1]]
    found = needed.score(scores, np.array([False, True]), train[:1].expand(2, -1))
    assert found[1] / found[0] == pytest.approx(needed.distance[1] / needed.distance[0])


def cut(images: int = 3000, *, sharpness: float = 1.0, seed: int = 0) -> Scored:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, images)
    scores = sharpness * (rng.normal(size=(images, 6)) + 3 * np.eye(6)[labels])
    is_unseen = np.arange(6) >= 4
    return Scored(scores, np.where(is_unseen, scores, -np.inf), labels, is_unseen)


def test_what_scores_have_in_common_and_classes_outside_say_nothing() -> None:
    scores = cut(50).scores
    shifted = scores + np.linspace(-1e3, 1e3, 50)[:, None]
    np.testing.assert_allclose(clearness(shifted), clearness(scores))
    outside = np.concatenate([scores, np.full((50, 2), -np.inf)], axis=1)
    np.testing.assert_allclose(clearness(outside), clearness(scores))
    np.testing.assert_allclose(clearness(scores), [max(row) - sum(row) / 6 for row in scores])
    assert clearness(np.zeros((1, 6)))[0] == 0
    described = np.arange(6) >= 4
    np.testing.assert_allclose(clearness(scores, described), [max(row) - sum(row[:4]) / 4 for row in scores])
    more = np.concatenate([scores, scores[:, 4:] - 10], axis=1)  # described classes that are far away
    np.testing.assert_allclose(clearness(more, np.arange(8) >= 4), clearness(scores, described))
    np.testing.assert_allclose(clearness(scores, np.ones(6, dtype=bool)), clearness(scores))


def test_the_least_clearness_loses_its_share_of_each_kind_in_units_of_the_level() -> None:
    cuts = [cut(sharpness=2.0), cut(sharpness=5.0, seed=1)]
    levels = [level_of(one.scores, one.is_unseen) for one in cuts]
    assert levels[1] / levels[0] == pytest.approx(2.5, rel=0.05)
    least = least_clearness(cuts, 0.0, levels)
    assert least is not None
    lost, whole = np.zeros(2), np.zeros(2)
    for one, level in zip(cuts, levels, strict=True):
        values, weights = clearness(one.scores, one.is_unseen) / level, balanced_weights(one)
        for value, weight, best in zip(values, weights, one.scores.argmax(1), strict=True):
            kind = int(one.is_unseen[best])
            whole[kind] += weight
            lost[kind] += weight * (value < least[kind])
    np.testing.assert_allclose(lost / whole, LOST - FAR, atol=1e-3)
    alike = Scored(np.zeros((4, 6)), np.zeros((4, 6)), np.arange(4), cuts[0].is_unseen)
    assert least_clearness([alike], 0.0, [1.0]) is None


def test_an_image_that_no_class_stands_out_for_is_none_of_them() -> None:
    train, labels = features(500)
    needed = in_distribution_of(train, labels, level=2.0, least=(0.5, 0.25))
    assert needed is not None
    described = np.array([False, False, True])
    scores = np.array([[1.4, 0.0, 1.0], [1.6, 0.0, 1.0], [0.0, 0.0, 0.7], [0.0, 0.0, 0.8]])
    found = needed.score(scores, described, train[:4])
    assert (found >= 1).tolist() == [False, False, True, True]
    np.testing.assert_allclose(found, [0.7, 0.8, 1.4, 1.6])


def test_a_file_brings_it_back_and_few_images_tell_nothing(tmp_path: Path) -> None:
    train, labels = features(200)
    for least in (None, (0.4, 0.3)):
        needed = in_distribution_of(train, labels, level=3.0, least=least)
        assert needed is not None
        needed.write(tmp_path / "it.safetensors")
        again = InDistribution.read(tmp_path / "it.safetensors")
        assert again is not None
        scores = np.random.default_rng(0).normal(size=(200, 4))
        kind = np.arange(4) > 1
        np.testing.assert_array_equal(again.score(scores, kind, train), needed.score(scores, kind, train))
    assert InDistribution.read(tmp_path / "other.safetensors") is None
    assert in_distribution_of(train[:19], labels[:19]) is None


def test_features_that_never_vary_are_near_themselves_alone() -> None:
    still = torch.ones(40, 5)
    needed = in_distribution_of(still, np.arange(40) % 8)
    assert needed is not None
    found = needed.score(np.zeros((2, 2)), np.zeros(2, dtype=bool), torch.stack([torch.ones(5), torch.zeros(5)]))
    assert found[0] >= 1 > found[1]
