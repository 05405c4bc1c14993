"""Principal components of a kernel between images, beside scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import KernelPCA

from dkgzsl.methods.closed_form.kernel_components import KernelPrincipalSpace
from dkgzsl.methods.closed_form.whitening import PrincipalSpace


def features(images=90, channels=7, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).gamma(2.0, size=(images, channels)).astype(np.float32))


def median_squared_distance(x):
    squared = ((x[:, None] - x) ** 2).sum(-1)
    return np.median(squared[~np.eye(len(x), dtype=bool)])


@pytest.mark.parametrize("square_root", [False, True])
def test_where_every_image_is_a_landmark_it_is_kernel_pca(square_root) -> None:
    train, test = features(), features(20, seed=1)
    space = KernelPrincipalSpace.of_training(train, 12, square_root=square_root, width=1.5)
    x, y = [(t.sqrt() if square_root else t).double().numpy() for t in (train, test)]
    theirs = KernelPCA(12, kernel="rbf", gamma=1 / (2 * 1.5 * median_squared_distance(x))).fit(x)
    for ours, expected in ((space(train), theirs.transform(x)), (space(test), theirs.transform(y))):
        signs = np.sign((space(train).numpy() * theirs.transform(x)).sum(0))
        np.testing.assert_allclose(ours.numpy(), expected * signs, atol=3e-4)


def test_the_way_back_is_least_squares_on_the_training_images() -> None:
    train, test = features(), features(20, seed=1)
    space = KernelPrincipalSpace.of_training(train, 10, square_root=False, width=2.0)
    design = np.column_stack([space(train).double().numpy(), np.ones(len(train))])
    solved = np.linalg.lstsq(design, train.double().numpy(), rcond=None)[0]
    expected = np.column_stack([space(test).double().numpy(), np.ones(20)]) @ solved
    np.testing.assert_allclose(space.restore(space(test)).numpy(), expected, rtol=2e-3, atol=2e-3)


def test_more_images_than_landmarks_keep_components_uncorrelated() -> None:
    train = features(2300, 5)
    space = KernelPrincipalSpace.of_training(train, 8, square_root=True, width=2.0)
    assert space.landmarks.shape == (1024, 5)
    covariance = np.cov(space(train).double().numpy().T)
    away = covariance - np.diag(covariance.diagonal())
    assert abs(away).max() < 1e-3 * covariance.diagonal().min()
    np.testing.assert_allclose(space(train).double().mean(0).numpy(), 0, atol=1e-4)


def test_images_that_are_all_alike_are_told() -> None:
    for images in (torch.ones(30, 4), torch.full((30, 4), 1e25) * torch.rand(30, 1)):
        with pytest.raises(torch.linalg.LinAlgError, match="alike"):
            KernelPrincipalSpace.of_training(images, 8, square_root=False, width=2.0)


def test_an_offset_of_all_features_changes_nothing() -> None:
    train, test = features(), features(20, seed=1)
    near = KernelPrincipalSpace.of_training(train, 12, square_root=False, width=1.5)
    far = KernelPrincipalSpace.of_training(train + 1000, 12, square_root=False, width=1.5)
    assert far.width == pytest.approx(near.width, rel=1e-3)
    moved = far(test + 1000)
    signs = (moved * near(test)).sum(0).sign()
    torch.testing.assert_close(moved * signs, near(test), atol=2e-3, rtol=0)


def test_a_very_wide_kernel_is_the_linear_one() -> None:
    """exp(-d / 2w) is 1 - d / 2w then: up to their scale, components are the features' own."""
    train, test = features(), features(20, seed=1)
    wide = KernelPrincipalSpace.of_training(train, 7, square_root=False, width=1000.0)
    linear = PrincipalSpace.fit(train, 7, square_root=False)
    for ours, theirs in zip(wide(test).T, linear(test).T, strict=True):
        assert abs(np.corrcoef(ours, theirs)[0, 1]) > 0.999


def test_more_images_than_are_looked_at(monkeypatch) -> None:
    monkeypatch.setattr("dkgzsl.methods.closed_form.kernel_components._IMAGES", 60)
    train = features()
    some = KernelPrincipalSpace.of_training(train, 8, square_root=True, width=2.0)
    assert len(some.landmarks) == 60
    assert some(train).isfinite().all()
    assert some(train).std(0).min() > 0
