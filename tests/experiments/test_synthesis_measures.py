"""Measures of synthesized features against scikit-learn's and scipy's, and against clouds with known measures."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.decomposition import PCA
from sklearn.metrics import balanced_accuracy_score, calinski_harabasz_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from dkgzsl.errors import DataError
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.methods.base import Task
from synthesis_measures import (
    Cloud,
    Gaussian,
    GroupMeasures,
    PrincipalAxes,
    frechet_distance,
    measure_group,
    measure_synthesis,
)
from worlds import world


def cloud(seed: int, *, classes: int = 4, number: int = 30, spread: float = 1.0, apart: float = 1.0) -> Cloud:
    rng = np.random.default_rng(seed)
    means = apart * np.random.default_rng(99).normal(size=(classes, 10)) * np.linspace(3, 0.3, 10)
    labels = np.repeat(np.arange(classes) * 2 + 1, number)
    features = means[labels // 2] + spread * rng.normal(size=(len(labels), 10))
    return Cloud(torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels))


TRAINING = cloud(7)
AXES = PrincipalAxes.fit(TRAINING.features, 5)


@pytest.fixture(scope="module")
def measured() -> GroupMeasures:
    return measure_group(cloud(0, spread=0.7), cloud(1), AXES)


def test_separation_is_that_of_scikit_learn(measured: GroupMeasures) -> None:
    """With as many features of each class, Calinski and Harabasz's score is B / W but for degrees of freedom."""
    for ours, made in ((measured.separation, cloud(0, spread=0.7)), (measured.separation_real, cloud(1))):
        features, labels = made.features.numpy(), made.labels.numpy()
        assert ours == pytest.approx(calinski_harabasz_score(features, labels) * 3 / (len(labels) - 4), rel=1e-4)


def test_silhouettes_are_those_of_scikit_learn(measured: GroupMeasures) -> None:
    made, real = cloud(0, spread=0.7), cloud(1)
    assert measured.silhouette == pytest.approx(silhouette_score(made.features, made.labels))
    assert measured.silhouette_real == pytest.approx(silhouette_score(real.features, real.labels))
    assert measured.silhouette > measured.silhouette_real


def test_compactness_is_the_ratio_of_variances(measured: GroupMeasures) -> None:
    assert measured.compactness == pytest.approx(0.7**2, rel=0.15)


def test_frechet_distance_is_that_of_scipy_on_scikit_learns_components(measured: GroupMeasures) -> None:
    pca = PCA(5).fit(TRAINING.features.numpy())
    gaussians = []
    for one in (cloud(0, spread=0.7), cloud(1)):
        points = pca.transform(one.features.numpy())
        gaussians.append((points.mean(0), np.cov(points.T, bias=True)))
    (m, c), (n, d) = gaussians
    expected = ((m - n) ** 2).sum() + np.trace(c + d - 2 * sqrtm(c @ d).real)
    variance = pca.explained_variance_.sum() * (len(TRAINING.labels) - 1) / len(TRAINING.labels)
    assert measured.frechet == pytest.approx(expected / variance, rel=1e-3)


def test_nearest_accuracy_is_that_of_scikit_learn() -> None:
    made, real = cloud(0, apart=0.3), cloud(1, apart=0.3)
    few = Cloud(real.features[:100], real.labels[:100])  # the last class has fewer images
    predicted = KNeighborsClassifier(1).fit(made.features, made.labels).predict(few.features)
    expected = balanced_accuracy_score(few.labels, predicted)
    assert 0.3 < expected < 0.9
    assert measure_group(made, few, AXES).nearest == pytest.approx(expected)


def test_mean_distance_is_in_units_of_the_spread_between_classes() -> None:
    real = cloud(1, number=2000)
    assert measure_group(cloud(2, number=2000), real, AXES, sample=100).mean_distance < 0.05
    centre = torch.stack([real.features[real.labels == c].mean(0) for c in real.labels.unique()]).mean(0)
    made = cloud(2, number=2000, apart=0.0)
    same_for_all = made._replace(features=made.features + centre)
    assert measure_group(same_for_all, real, AXES, sample=100).mean_distance == pytest.approx(1, abs=0.02)


def test_classes_weigh_the_same_however_many_images_they_have() -> None:
    real = cloud(1)
    often = Cloud(
        torch.cat([real.features, real.features[:30].repeat(5, 1)]),
        torch.cat([real.labels, real.labels[:30].repeat(5)]),
    )
    once, again = (measure_group(cloud(0), one, AXES) for one in (real, often))
    for name in ("compactness", "separation_real", "mean_distance", "frechet", "nearest"):
        assert getattr(again, name) == pytest.approx(getattr(once, name), rel=1e-5), name


def test_equal_gaussians_have_distance_zero_and_shifted_ones_their_shift() -> None:
    root = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one = Gaussian(torch.zeros(3, dtype=torch.float64), root @ root.T)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, one._replace(mean=one.mean + 2)) == pytest.approx(12)
    assert frechet_distance(one, one._replace(covariance=4 * one.covariance)) == pytest.approx(
        float(one.covariance.trace())
    )


class Copier:
    """Synthesizes the true mean of a class, and noise."""

    def __init__(self, means: torch.Tensor, semantics: torch.Tensor, noise: float) -> None:
        self.means, self.semantics, self.noise = means, semantics, noise

    def synthesize(self, semantics: torch.Tensor, number: int, generator: torch.Generator) -> torch.Tensor:
        rows = torch.cdist(semantics, self.semantics).argmin(1)
        shape = (len(rows), number, self.means.shape[1])
        return self.means[rows][:, None] + self.noise * torch.randn(shape, generator=generator)


@pytest.fixture(scope="module")
def copier() -> Copier:
    problem = world()
    features, labels = torch.from_numpy(problem.features), torch.from_numpy(problem.labels)
    means = torch.stack([features[labels == c].mean(0) for c in range(16)])
    return Copier(means, torch.from_numpy(problem.semantics).float(), 0.5)


def test_a_generator_of_the_true_classes_has_the_measures_of_one(copier: Copier) -> None:
    measures = measure_synthesis(copier, *final_task(world()), per_class=40)
    for group in (measures.seen, measures.unseen):
        assert group.nearest > 0.9
        assert group.mean_distance < 0.3
        assert group.compactness == pytest.approx(1, abs=0.35)
    worse = measure_synthesis(
        Copier(copier.means.flip(0), copier.semantics, 0.5), *final_task(world()), per_class=40
    )
    assert worse.unseen.nearest < 0.3
    assert worse.unseen.mean_distance > 1
    assert worse.seen.frechet > measures.seen.frechet


def test_nothing_of_the_training_features_but_their_components_is_used(copier: Copier) -> None:
    task, held_out = final_task(world())
    turned = Task(**{**vars(task), "labels": task.labels.flip(0)})
    assert measure_synthesis(copier, turned, held_out) == measure_synthesis(copier, task, held_out)


def test_one_class_cannot_be_measured(copier: Copier) -> None:
    task, held_out = final_task(world())
    with pytest.raises(DataError, match="fewer than two unseen"):
        measure_synthesis(copier, Task(**{**vars(task), "unseen": task.unseen[:1]}), held_out)
