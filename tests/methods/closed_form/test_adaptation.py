"""Adaptation to unlabelled photos against independent computations: scikit-learn, scipy, plain loops."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct

from dkgzsl.errors import DataError
from dkgzsl.methods.closed_form import adaptation
from dkgzsl.methods.closed_form.adaptation import (
    ALIKE,
    ITERATIONS,
    TEMPERATURE,
    ClassPrior,
    PoolMeans,
    adapt_to_pool,
    as_adaptation,
    evident_classes,
    prior_covariance,
    prior_of,
    uncertain_pairs,
)
from dkgzsl.methods.closed_form.experts import seen_unseen_balance
from dkgzsl.methods.closed_form.kernel_ridge import KernelRidge, kernel
from dkgzsl.methods.closed_form.whitening import SeenStatistics

SEEN, UNSEEN, SEMANTIC, DIM, WIDTH, RIDGE = 9, 4, 6, 12, 2.0, 0.05


@pytest.fixture
def case():
    """Descriptions, statistics of the seen classes, and photos of the classes, in double precision."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    descriptions = torch.nn.functional.normalize(normal(SEEN + UNSEEN, SEMANTIC), dim=1)
    truth = descriptions @ normal(SEMANTIC, DIM) + 0.4 * normal(SEEN + UNSEEN, DIM)
    truth = truth - truth[:SEEN].mean(0)
    counts = torch.randint(5, 30, (SEEN,), generator=generator)
    variance = 0.09
    statistics = SeenStatistics(
        truth[:SEEN], counts, variance, 1.0, variance * torch.eye(DIM, dtype=torch.float64)
    )
    photos = torch.cat([truth[k] + variance**0.5 * normal(8, DIM) for k in range(3, SEEN + 3)])
    return descriptions, statistics, photos


def prior_for(case) -> ClassPrior:
    descriptions, statistics, _ = case
    regression = KernelRidge.fit(descriptions[:SEEN], statistics.means, width=WIDTH, ridge=RIDGE)
    return prior_of(regression, descriptions[SEEN:], statistics)


def as_features(gram: np.ndarray) -> np.ndarray:
    """Rows whose inner products are a kernel matrix, so that scikit-learn's linear kernel is that matrix."""
    return np.linalg.cholesky(gram)


def test_the_prior_is_the_posterior_of_scikit_learns_gaussian_process(case) -> None:
    descriptions, statistics, _ = case
    prior = prior_for(case)
    gram = kernel(descriptions, descriptions, WIDTH).numpy()
    noise = RIDGE * gram[:SEEN, :SEEN].diagonal().mean()
    rows = as_features(prior.unit * (gram + noise * np.eye(len(gram))))
    observed = statistics.variance / statistics.counts.numpy()
    process = GaussianProcessRegressor(DotProduct(0.0, "fixed"), alpha=observed, optimizer=None)
    process.fit(rows[:SEEN], statistics.means[:, 0].numpy())
    _, covariance = process.predict(rows[SEEN:], return_cov=True)
    np.testing.assert_allclose(prior.unit * prior.covariance.numpy(), covariance, rtol=1e-6, atol=1e-10)


def test_without_noise_of_the_seen_means_the_prediction_is_the_processs_own_mean(case) -> None:
    descriptions, statistics, _ = case
    gram = kernel(descriptions, descriptions, WIDTH)
    noise = RIDGE * float(gram[:SEEN, :SEEN].diagonal().mean())
    rows = as_features((gram + noise * torch.eye(len(gram))).numpy())
    process = GaussianProcessRegressor(DotProduct(0.0, "fixed"), alpha=1e-12, optimizer=None)
    process.fit(rows[:SEEN], statistics.means.numpy())
    np.testing.assert_allclose(
        process.predict(rows[SEEN:]), prior_for(case).predicted.numpy(), rtol=1e-6, atol=1e-8
    )
    covariance = prior_covariance(gram, SEEN, noise, torch.zeros(SEEN))
    _, theirs = process.predict(rows[SEEN:], return_cov=True)
    np.testing.assert_allclose(covariance.numpy(), theirs[..., 0] if theirs.ndim == 3 else theirs, rtol=1e-6)


def test_prototypes_after_photos_are_those_of_scikit_learns_gaussian_process(case) -> None:
    prior = prior_for(case)
    means, counts = case[1].means[:UNSEEN] + 0.3, torch.tensor([3.0, 0.5, 20.0, 7.0], dtype=torch.float64)
    found, left = prior.posterior(means, counts)
    rows = as_features(prior.unit * prior.covariance.numpy())
    noise = ALIKE * prior.variance / counts.numpy()
    process = GaussianProcessRegressor(DotProduct(0.0, "fixed"), alpha=noise, optimizer=None)
    process.fit(rows, (means - prior.predicted).numpy())
    expected, deviation = process.predict(rows, return_std=True)
    np.testing.assert_allclose(found.numpy(), prior.predicted.numpy() + expected, rtol=1e-6, atol=1e-8)
    variances = deviation[:, 0] ** 2 if deviation.ndim == 2 else deviation**2
    own = prior.unit * prior.covariance.diagonal().numpy()
    np.testing.assert_allclose(left.numpy(), variances / own, rtol=1e-6)


def test_a_class_without_photos_moves_with_its_neighbours_alone(case) -> None:
    prior = prior_for(case)
    counts = torch.tensor([10.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    wild = torch.full((UNSEEN, DIM), 50.0, dtype=torch.float64)  # what a class without photos has is not read
    wild[0] = prior.predicted[0] + 1
    found, left = prior.posterior(wild, counts)
    shares = (prior.covariance[:, 0] / prior.covariance[0, 0])[:, None]
    torch.testing.assert_close(
        found - prior.predicted, shares * (found[0] - prior.predicted[0]), rtol=1e-4, atol=1e-5
    )
    assert left[0] < 0.5
    assert (left[1:] > left[0]).all()


def test_the_iterations_are_those_of_a_plain_loop(case) -> None:
    _, statistics, photos = case
    prior = prior_for(case)
    classes = torch.arange(SEEN, SEEN + UNSEEN)
    found = adapt_to_pool(photos, prior, classes)
    seen, guess = statistics.means.numpy(), prior.predicted.numpy().copy()
    covariance, left = prior.covariance.numpy(), 1.0
    for _ in range(ITERATIONS):
        shares = np.zeros((len(photos), UNSEEN))
        for row, photo in enumerate(photos.numpy()):
            scores = [photo @ mean - mean @ mean / 2 for mean in seen]
            scores += [photo @ mean - mean @ mean / 2 + prior.balance * left for mean in guess]
            shares[row] = softmax(np.array(scores) / (prior.variance * TEMPERATURE))[SEEN:]
        counts = shares.sum(0)
        means = np.array([sum(s * z for s, z in zip(column, photos.numpy(), strict=True)) for column in shares.T])
        means /= counts[:, None]
        gain = covariance @ np.linalg.inv(covariance + np.diag(ALIKE * prior.variance / (prior.unit * counts)))
        guess = prior.predicted.numpy() + gain @ (means - prior.predicted.numpy())
        left = np.mean((covariance - gain @ covariance).diagonal() / covariance.diagonal())
    np.testing.assert_allclose(found.counts.numpy(), counts, rtol=1e-6)
    np.testing.assert_allclose(found.means.numpy(), means, rtol=1e-6, atol=1e-9)
    moved, rest = prior.posterior(found.means, found.counts)
    np.testing.assert_allclose(moved.numpy(), guess, rtol=1e-6, atol=1e-9)
    assert float(rest.mean()) == pytest.approx(left, rel=1e-6)


def test_the_prior_takes_error_and_balance_from_predictions_of_left_out_classes(case) -> None:
    descriptions, statistics, _ = case
    prior, errors = prior_for(case), []
    noise = RIDGE * float(kernel(descriptions[:SEEN], descriptions[:SEEN], WIDTH).diagonal().mean())
    open_ = []
    for k in range(SEEN):
        kept = [i for i in range(SEEN) if i != k]
        gram = kernel(descriptions[kept], descriptions[kept], WIDTH) + noise * torch.eye(SEEN - 1)
        cross = kernel(descriptions[[k]], descriptions[kept], WIDTH)
        errors.append((statistics.means[k] - cross @ torch.linalg.solve(gram, statistics.means[kept]))[0])
        own = kernel(descriptions[[k]], descriptions[[k]], WIDTH) + noise
        open_.append(float(own - cross @ torch.linalg.solve(gram, cross.mT)))
    left_out = torch.stack(errors)
    unit = float(left_out.square().sum(1).mean()) / np.mean(open_) / DIM
    assert prior.unit == pytest.approx(unit, rel=1e-6)
    means = statistics.means
    balance = seen_unseen_balance(means, means, means - left_out, statistics.variance)
    assert prior.balance == pytest.approx(balance * statistics.variance, rel=1e-6)


def test_a_second_pool_adds_to_the_first(case) -> None:
    _, _, photos = case
    prior, classes = prior_for(case), torch.arange(SEEN, SEEN + UNSEEN)
    first = adapt_to_pool(photos[::2], prior, classes)
    both = adapt_to_pool(photos[1::2], prior, classes, first)
    assert (both.counts > first.counts).all()
    torch.testing.assert_close(both.counts, first.counts + both.latest)
    assert both.photos == len(photos[1::2])


def blobs(prior: ClassPrior, centres: torch.Tensor, each: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(len(centres), each, DIM, generator=generator, dtype=torch.float64)
    return (centres[:, None] + prior.variance**0.5 * noise).flatten(0, 1)


def test_new_classes_are_evident_and_stray_photos_of_seen_classes_are_not(case) -> None:
    prior = prior_for(case)
    new = blobs(prior, prior.predicted + 0.3, 10)
    old = blobs(prior, prior.seen, 5)
    shares = torch.zeros(len(new) + len(old), UNSEEN, dtype=torch.float64)
    for k in range(UNSEEN):
        shares[10 * k : 10 * (k + 1), k] = 1
    assert evident_classes(torch.cat([new, old]), shares, prior).all()
    strayed = shares.roll(len(old), 0)[: len(new) + len(old)]
    strayed[:] = 0
    for k in range(UNSEEN):  # each described class took two photos of each of two seen classes
        for seen in (k, k + 4):
            strayed[len(new) + 5 * seen : len(new) + 5 * seen + 2, k] = 1
    assert not evident_classes(torch.cat([new, old]), strayed, prior).any()
    few = shares.clone()
    few[2:10] = 0
    assert not evident_classes(torch.cat([new, old]), few, prior)[0], "two photos show nothing"


def test_what_makes_a_class_evident_is_that_of_a_plain_loop(case, monkeypatch) -> None:
    prior = prior_for(case)
    photos = blobs(prior, torch.cat([prior.predicted + 0.3, prior.seen[:2]]), 6)
    shares = prior.shares(photos, prior.predicted, 1.0)
    spread, closer = DIM * prior.variance, []
    for column in shares.T:
        total = 0.0
        for row, photo in enumerate(photos):
            others = [k for k in range(len(photos)) if k != row]
            mean = sum(column[k] * photos[k] for k in others) / sum(column[k] for k in others)
            own = float((photo - mean).square().sum()) - spread / float(sum(column[k] for k in others))
            to_seen = min(
                float((photo - m).square().sum()) - spread / int(n)
                for m, n in zip(prior.seen, prior.counts, strict=True)
            )
            total += float(column[row]) * (to_seen - own)
        closer.append(total / float(column.sum()))
    noise = [spread / int(n) for n in prior.counts]
    apart = [
        min(
            float((one - other).square().sum()) - noise[i] - noise[j]
            for j, other in enumerate(prior.seen)
            if i != j
        )
        for i, one in enumerate(prior.seen)
    ]
    for value in closer:
        for factor, expected in ((0.999, True), (1.001, False)):
            monkeypatch.setattr(adaptation, "APART", factor * value / float(torch.tensor(apart).median()))
            assert bool(evident_classes(photos, shares, prior)[closer.index(value)]) == expected


def test_a_pool_of_seen_classes_alone_does_not_hold_described_ones(case) -> None:
    prior, classes = prior_for(case), torch.arange(SEEN, SEEN + UNSEEN)
    seen = adapt_to_pool(blobs(prior, prior.seen, 10), prior, classes)
    mixed = adapt_to_pool(blobs(prior, torch.cat([prior.seen, prior.predicted + 0.3]), 10), prior, classes)
    assert not as_adaptation(seen, prior).holds_described
    assert as_adaptation(mixed, prior).holds_described
    shown = as_adaptation(mixed, prior)
    clear = sum(taken for taken, evident in zip(shown.taken, shown.evident, strict=True) if evident)
    assert shown.evident_share == pytest.approx(clear / shown.photos)


def pool_of(means: torch.Tensor, counts: torch.Tensor) -> PoolMeans:
    classes = torch.arange(SEEN, SEEN + len(means))
    return PoolMeans(classes, means, counts, counts, counts > 0, 10, 1.0)


def test_what_an_exchange_of_two_classes_is_worth_is_the_ratio_of_two_normal_densities(case) -> None:
    prior = prior_for(case)
    counts = torch.full((UNSEEN,), 6.0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(11)
    noise = torch.randn(UNSEEN, DIM, generator=generator, dtype=torch.float64)
    covariance = prior.unit * (prior.covariance + torch.diag(prior.noise(counts))).numpy()

    def likelihood(means):
        return sum(
            multivariate_normal(prior.predicted[:, j].numpy(), covariance).logpdf(means[:, j]) for j in range(DIM)
        )

    for spread in (0.2, 1.0, 3.0):
        means = prior.predicted + spread * noise
        expected = {}
        for one in range(UNSEEN):
            for other in range(one + 1, UNSEEN):
                exchanged = means.clone()
                exchanged[[one, other]] = means[[other, one]]
                gain = likelihood(exchanged.numpy()) - likelihood(means.numpy())
                if gain >= 0:
                    expected[SEEN + one, SEEN + other] = gain
        found = uncertain_pairs(pool_of(means, counts), prior)
        assert found == sorted(expected, key=lambda pair: -expected[pair])


def test_exchanged_photos_are_noticed_and_classes_with_few_photos_are_not_compared(case) -> None:
    prior = prior_for(case)
    order = [1, 0, 2, 3]
    counts = torch.full((UNSEEN,), 30.0, dtype=torch.float64)
    assert uncertain_pairs(pool_of(prior.predicted.clone(), counts), prior) == []
    exchanged = pool_of(prior.predicted[order], counts)
    assert (SEEN, SEEN + 1) in uncertain_pairs(exchanged, prior)
    counts[0] = 1.0
    assert uncertain_pairs(pool_of(prior.predicted[order], counts), prior) == []


def test_a_pool_without_photos_or_without_described_classes_is_named(case) -> None:
    prior = prior_for(case)
    with pytest.raises(DataError, match="no photo"):
        adapt_to_pool(torch.zeros(0, DIM), prior, torch.arange(SEEN, SEEN + UNSEEN))
    with pytest.raises(DataError, match="no class is described"):
        adapt_to_pool(torch.zeros(2, DIM), prior, torch.arange(0))


def test_what_is_kept_of_a_pool_follows_its_classes(case) -> None:
    prior = prior_for(case)
    pool = adapt_to_pool(case[2], prior, torch.arange(SEEN, SEEN + UNSEEN))
    other = pool.of(torch.tensor([SEEN + 2, 40, SEEN]))
    assert other.classes.tolist() == [SEEN + 2, 40, SEEN]
    torch.testing.assert_close(
        other.counts, torch.stack([pool.counts[2], pool.counts.new_tensor(0), pool.counts[0]])
    )
    torch.testing.assert_close(other.means[2], pool.means[0])
    assert other.of(torch.arange(0)).of(torch.tensor([SEEN])).counts.tolist() == [0.0]
    again = PoolMeans.load(pool.tensors())
    assert again is not None
    assert (again.photos, again.share) == (pool.photos, pool.share)
    torch.testing.assert_close(again.means, pool.means)
    assert PoolMeans.load({}) is None
    assert math.isclose(sum(as_adaptation(pool, prior).taken), float(pool.counts.sum()), rel_tol=1e-9)
