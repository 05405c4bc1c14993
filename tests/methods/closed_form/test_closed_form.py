"""Knowledge in closed form against independent computations: scikit-learn, scipy, refitting."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge as SklearnKernelRidge

from dkgzsl.methods.closed_form import kernel_ridge
from dkgzsl.methods.closed_form.experts import seen_unseen_balance
from dkgzsl.methods.closed_form.kernel_ridge import DescriptionSpace, KernelRidge, kernel
from dkgzsl.methods.closed_form.model import ClassDensities
from dkgzsl.methods.closed_form.whitening import (
    PrincipalSpace,
    TurnedSpace,
    WhitenedSpace,
    WithinClassSpectrum,
    seen_statistics,
)
from dkgzsl.methods.shared.class_statistics import ClassStatistics, class_means

SEEN, UNSEEN, SEMANTIC, DIM = 12, 4, 9, 6


def statistics_of(points, positions, classes) -> ClassStatistics:
    known = ClassStatistics.empty(classes, points[:5].mean(0))
    known.add(points, positions)
    return known


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    descriptions = torch.nn.functional.normalize(torch.randn(SEEN + UNSEEN, SEMANTIC, generator=generator), dim=1)
    means = torch.randn(SEEN, DIM, generator=generator)
    return descriptions[:SEEN].double(), descriptions[SEEN:].double(), means.double()


@pytest.mark.parametrize("width", [0.0, 1.0, 4.0])
def test_prototypes_are_those_of_scikit_learns_kernel_ridge(case, width) -> None:
    seen, unseen, means = case
    ours = KernelRidge.fit(seen, means, width=width, ridge=0.1)
    theirs = (
        SklearnKernelRidge(alpha=ours.noise, kernel="linear")
        if width == 0
        else SklearnKernelRidge(alpha=ours.noise, kernel="rbf", gamma=1 / (2 * width))
    )
    theirs.fit(seen.numpy(), (means - means.mean(0)).numpy())
    expected = theirs.predict(unseen.numpy()) + means.mean(0).numpy()
    np.testing.assert_allclose(ours(unseen).numpy(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("width", [0.0, 2.0])
def test_leave_one_class_out_errors_are_those_of_refitting_without_the_class(case, width) -> None:
    seen, _, means = case
    whole = KernelRidge.fit(seen, means, width=width, ridge=0.05)
    errors = whole.leave_one_out_errors()
    for left_out in range(SEEN):
        kept = [i for i in range(SEEN) if i != left_out]
        gram = kernel(seen[kept], seen[kept], width) + whole.noise * torch.eye(SEEN - 1, dtype=torch.float64)
        weights = torch.linalg.solve(gram, means[kept] - whole.mean)
        predicted = whole.mean + kernel(seen[[left_out]], seen[kept], width) @ weights
        torch.testing.assert_close(errors[[left_out]], means[[left_out]] - predicted, rtol=1e-8, atol=1e-10)


def test_predictive_variance_is_that_of_a_gaussian_process(case) -> None:
    seen, unseen, means = case
    ours = KernelRidge.fit(seen, means, width=1.5, ridge=0.1)
    process = GaussianProcessRegressor(RBF(1.5**0.5), alpha=ours.noise, optimizer=None)
    process.fit(seen.numpy(), (means[:, 0] - means[:, 0].mean()).numpy())
    _, deviation = process.predict(unseen.numpy(), return_std=True)
    expected = deviation**2 + ours.noise
    np.testing.assert_allclose(ours.predictive_variance(unseen).numpy(), expected, rtol=1e-6)


def test_error_covariance_follows_its_formula(case) -> None:
    seen, _, means = case
    ours = KernelRidge.fit(seen, means, width=1.0, ridge=0.1)
    gram = torch.exp(-torch.cdist(seen, seen).square() / 2)
    inverse = torch.linalg.inv(gram + 0.1 * torch.eye(SEEN, dtype=torch.float64))
    errors = [(inverse @ (means - means.mean(0)))[i] / inverse[i, i] for i in range(SEEN)]
    expected = sum(torch.outer(r, r) for r in errors) / SEEN / (1 / inverse.diagonal()).mean()
    torch.testing.assert_close(ours.error_covariance(), expected, rtol=1e-8, atol=1e-10)


def test_descriptions_are_centred_on_the_seen_mean_and_of_unit_length(case) -> None:
    seen, unseen, _ = case
    prepared = DescriptionSpace.fit(7 * seen)(3 * unseen)
    shifted = unseen - seen.mean(0)
    torch.testing.assert_close(prepared, shifted / shifted.norm(dim=1, keepdim=True))


def test_the_root_of_descriptions_keeps_their_signs_and_comes_before_everything(case) -> None:
    seen, unseen, _ = case
    prepared = DescriptionSpace.fit(seen.sign() * seen.square(), root=True)(unseen.sign() * unseen.square())
    torch.testing.assert_close(prepared, DescriptionSpace.fit(seen)(unseen))


def test_scores_are_scipys_log_densities_up_to_a_constant() -> None:
    generator = torch.Generator().manual_seed(2)
    means = torch.randn(5, DIM, generator=generator).double()
    variance = 0.37
    points = torch.randn(20, DIM, generator=generator).double()
    scores = ClassDensities(means, variance).scores(points)
    for c in range(5):
        covariance = variance * np.eye(DIM)
        expected = multivariate_normal(means[c].numpy(), covariance).logpdf(points.numpy())
        np.testing.assert_allclose(scores[:, c].numpy() - DIM * np.log(2 * np.pi) / 2, expected, rtol=1e-9)


def test_draws_have_the_mean_and_the_variance_of_their_class() -> None:
    densities = ClassDensities(torch.tensor([[1.0, -2.0]]), 0.25)
    drawn = densities.draw(40_000, torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(drawn.mean(0), densities.means[0], atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.var(0), torch.full((2,), 0.25), rtol=0.03, atol=0)


def _images(signed: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    positions = torch.arange(8).repeat_interleave(30)
    mixing = torch.randn(20, 20, generator=generator)
    values = (
        torch.randn(8, 20, generator=generator)[positions] + torch.randn(240, 20, generator=generator) @ mixing
    )
    return (values if signed else values.abs()), positions


def test_without_shrinkage_the_within_class_covariance_becomes_the_identity() -> None:
    features, positions = _images(signed=True)
    principal = PrincipalSpace.fit(features, 20, square_root=False)
    spectrum = WithinClassSpectrum.of(statistics_of(principal(features), positions, 8), principal.components)
    whitened = WhitenedSpace(TurnedSpace(principal, spectrum.vectors), spectrum.scales(0.0), unit_length=False)(
        features
    )
    deviations = whitened - class_means(whitened, positions, 8)[positions]
    torch.testing.assert_close(deviations.T @ deviations / 240, torch.eye(20), atol=1e-3, rtol=0)


def test_principal_components_span_what_scikit_learns_do() -> None:
    from sklearn.decomposition import PCA

    features, _ = _images(signed=True)
    wide = torch.cat(
        [features, 0.01 * features @ torch.randn(20, 180, generator=torch.Generator().manual_seed(0))], 1
    )
    ours = PrincipalSpace.fit(wide, 10, square_root=False)  # few of many: by subspace iteration
    theirs = PCA(10).fit(wide.numpy())
    ours_variance = ours(wide).var(0, correction=1).numpy()
    np.testing.assert_allclose(ours_variance, theirs.explained_variance_, rtol=1e-4)


def test_the_span_of_the_means_loses_nothing_that_tells_classes_apart() -> None:
    features, positions = _images()
    principal = PrincipalSpace.fit(features, 15, square_root=True)
    spectrum = WithinClassSpectrum.of(statistics_of(principal(features), positions, 8), principal.components)
    space = WhitenedSpace(TurnedSpace(principal, spectrum.vectors), spectrum.scales(0.5), unit_length=True)
    span, statistics = seen_statistics(space, features, positions, 8)
    assert span.axes.shape == (15, 7)
    whitened = space(features)
    full = ClassDensities(class_means(whitened, positions, 8), statistics.variance)
    within = ClassDensities(statistics.means, statistics.variance)
    difference = full.scores(whitened) - within.scores(span(features))
    torch.testing.assert_close(difference, difference[:, :1].expand(-1, 8), atol=2e-3, rtol=0)
    assert statistics.variance == pytest.approx(
        float((whitened - class_means(whitened, positions, 8)[positions]).square().mean())
    )


def test_restoring_whitened_features_gives_them_back() -> None:
    features, positions = _images()
    principal = PrincipalSpace.fit(features, 20, square_root=True)
    spectrum = WithinClassSpectrum.of(statistics_of(principal(features), positions, 8), principal.components)
    space = WhitenedSpace(TurnedSpace(principal, spectrum.vectors), spectrum.scales(0.3), unit_length=False)
    torch.testing.assert_close(space.restore(space(features), length=1.0), features, atol=1e-3, rtol=1e-3)


def test_balance_is_half_way_between_the_two_thresholds(case) -> None:
    """Class by class, in plain loops: from where on each side finds its own class."""
    _, _, means = case
    generator = torch.Generator().manual_seed(2)
    predicted = means + 0.4 * torch.randn(means.shape, generator=generator, dtype=means.dtype)
    placed = means + 0.1 * torch.randn(means.shape, generator=generator, dtype=means.dtype)
    variance = 0.3

    def log_density(x, mean):
        return -float((x - mean).square().sum()) / (2 * variance)

    above, below = [], []
    for own, mean in enumerate(means):
        others = [i for i in range(SEEN) if i != own]
        above.append(max(log_density(mean, placed[i]) for i in others) - log_density(mean, predicted[own]))
        below.append(log_density(mean, placed[own]) - max(log_density(mean, predicted[i]) for i in others))
    expected = (np.mean(above) + np.mean(below)) / 2
    assert seen_unseen_balance(means, placed, predicted, variance) == pytest.approx(expected, rel=1e-9)


def test_who_predicts_without_error_needs_no_balance(case) -> None:
    _, _, means = case
    assert seen_unseen_balance(means, means, means, 0.2) == pytest.approx(0, abs=1e-9)
    assert seen_unseen_balance(means[:1], means[:1], means[:1], 0.2) == 0


@pytest.mark.parametrize("width", [0.0, 2.0])
def test_thousands_of_classes_are_solved_in_place_to_the_same_inverse(case, width, monkeypatch) -> None:
    seen, unseen, means = case
    expected = KernelRidge.fit(seen, means, width=width, ridge=0.1)
    monkeypatch.setattr(kernel_ridge, "_LARGE", 5)
    monkeypatch.setattr(kernel_ridge, "_ROWS", 5)  # blocks that do not divide the classes
    found = KernelRidge.fit(seen, means, width=width, ridge=0.1)
    gram = kernel_ridge.kernel(seen, seen, width) + expected.noise * torch.eye(len(seen)).double()
    torch.testing.assert_close(found.inverse @ gram, torch.eye(len(seen), dtype=gram.dtype), atol=1e-9, rtol=0)
    assert torch.equal(found.inverse, found.inverse.T)
    torch.testing.assert_close(found(unseen), expected(unseen))
    torch.testing.assert_close(found.predictive_variance(unseen), expected.predictive_variance(unseen))
    narrow = KernelRidge.fit(seen.float(), means.float(), width=width, ridge=0.1).inverse
    assert narrow.dtype == torch.float32
    assert narrow.untyped_storage().nbytes() <= 4 * (len(seen) ** 2 + 1)  # the rest of the float64 matrix is free
    torch.testing.assert_close(narrow, found.inverse.float(), atol=1e-5, rtol=1e-5)
