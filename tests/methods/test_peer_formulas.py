"""Each peer against its formulas, solved by something independent."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import scipy.stats
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from torch.linalg import LinAlgError

from dkgzsl.errors import RunError
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.methods.base import Setup, Task
from dkgzsl.methods.peers import ale, class_norm
from dkgzsl.methods.peers.ale import ALE, ALESettings
from dkgzsl.methods.peers.class_norm import ClassNorm, ClassNormSettings
from dkgzsl.methods.peers.eszsl import ESZSL, LABELS, ESZSLSettings
from dkgzsl.methods.peers.exem import EXEMSettings
from dkgzsl.methods.peers.gfzsl import GFZSL
from dkgzsl.methods.peers.linear_model import FeatureRegression
from dkgzsl.methods.peers.ridge_prototype import RidgePrototype
from dkgzsl.methods.peers.sae import SAE
from dkgzsl.methods.registry import make_method, method_info
from dkgzsl.methods.shared.scaling import SCALINGS
from worlds import world


@pytest.fixture(scope="module")
def task() -> Task:
    """Features and descriptions in 64 bits."""
    single = final_task(world())[0]
    return Task(single.features.double(), single.labels, single.semantics.double(), single.seen, single.unseen)


@pytest.fixture(scope="module")
def held() -> torch.Tensor:
    return final_task(world())[1].features.double()


def unit(array: np.ndarray) -> np.ndarray:
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def class_columns(scores: torch.Tensor, task: Task) -> np.ndarray:
    return scores[:, task.classes].numpy()


@pytest.mark.parametrize("images", [15, 40])
def test_regression_solves_its_equations_with_one_penalty_or_one_each(images: int) -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(images, 20)), rng.normal(size=(images, 3))
    regression = FeatureRegression(torch.from_numpy(features))
    coordinates = regression.coordinates(torch.from_numpy(targets))
    gram = features.T @ features
    assert regression.scale == pytest.approx(gram.diagonal().mean())
    one, several = np.full(3, 0.7), np.array([0.1, 2.0, 30.0])
    for penalties, solved in (
        (one, regression.solve(torch.from_numpy(targets), 0.7)),
        (one, regression.solve_each(coordinates, 0.7)),
        (several, regression.solve_each(coordinates, torch.from_numpy(several))),
    ):
        for column, penalty in enumerate(penalties):
            expected = np.linalg.solve(gram + penalty * np.eye(20), features.T @ targets[:, column])
            np.testing.assert_allclose(solved[:, column].numpy(), expected, atol=1e-9)


def test_regression_in_single_precision_is_near_that_in_double() -> None:
    """Uncentred features of a decaying spectrum, as a backbone's are: one direction has most of the length."""
    rng = np.random.default_rng(0)
    features = 1 + rng.normal(size=(300, 80)) * np.geomspace(1, 0.05, 80)
    targets = np.eye(10)[rng.integers(10, size=300)]
    single, double = (
        FeatureRegression(torch.from_numpy(features.astype(dtype))) for dtype in (np.float32, np.float64)
    )
    for penalty in (1e-3 * double.scale, double.scale):
        exact = features @ double.solve(torch.from_numpy(targets), penalty).numpy()
        near = features @ single.solve(torch.from_numpy(targets).float(), penalty).double().numpy()
        assert np.abs(near - exact).max() < 2e-3 * exact.std()


def test_features_whose_products_overflow_are_an_error_and_no_scores() -> None:
    with pytest.raises(LinAlgError, match="not finite"):
        FeatureRegression(torch.full((4, 3), 1e30))


def test_regression_with_a_penalty_that_rounding_swallows_is_still_finite() -> None:
    """X^T X of rank 2 is no longer positive definite in single precision: eigenvalues below 0 count as 0."""
    rng = np.random.default_rng(0)
    features = torch.from_numpy((rng.normal(size=(60, 2)) @ rng.normal(size=(2, 40))).astype(np.float32))
    targets = torch.from_numpy(rng.normal(size=(60, 3)).astype(np.float32))
    regression = FeatureRegression(features)
    with pytest.raises(np.linalg.LinAlgError):
        scipy.linalg.cholesky((features.T @ features).numpy())
    solved = regression.solve(targets, 1e-9 * regression.scale)
    expected = np.linalg.lstsq(features.double().numpy(), targets.double().numpy(), rcond=1e-6)[0]
    fitted = (features.double() @ solved.double()).numpy()
    np.testing.assert_allclose(fitted, features.double().numpy() @ expected, atol=1e-2)


@pytest.mark.parametrize(("labels", "other"), [("signed", -1.0), ("binary", 0.0), (None, -1.0)])
def test_eszsl_is_its_closed_form(task: Task, held: torch.Tensor, labels: str | None, other: float) -> None:
    """Without labels, as runs of dkgzsl 0.2.0 name them, they are the paper's."""
    setting = {"scaling": "none", "gamma": -2, "lambda": -1} | ({"labels": labels} if labels else {})
    scores = ESZSL().fit(task, setting).scores(held)
    x, a = task.features.numpy(), unit(task.semantics.numpy())
    seen = task.seen.numpy()
    y = np.where(task.labels.numpy()[:, None] == seen, 1.0, other)
    gram, known = x.T @ x, a[seen].T @ a[seen]
    left = np.linalg.inv(gram + 1e-2 * gram.diagonal().mean() * np.eye(len(gram)))
    right = np.linalg.inv(known + 1e-1 * known.diagonal().mean() * np.eye(len(known)))
    expected = held.numpy() @ left @ x.T @ y @ a[seen] @ right @ a[task.classes].T
    np.testing.assert_allclose(class_columns(scores, task), expected, atol=1e-9)


def test_eszsl_tries_gammas_as_long_as_the_score_rises(task: Task) -> None:
    """Scores by gamma rise from 1 to the peak at 10^2 and fall after it: 10^4 is not tried, nor is 10^-1."""
    shown: list[int] = []

    def explored(settings: ESZSLSettings, peak: int) -> list[int]:
        def selector(setting: Any, model: Any, *, candidate: bool = True) -> float:
            shown.append(setting["gamma"])
            return -float(abs(setting["gamma"] - peak))

        shown.clear()
        ESZSL(settings).explore(task, selector)
        return shown

    wide = ESZSLSettings(powers=tuple(range(-5, 6)), scalings=("unit",))
    for peak, tried in ((2, {0, 1, 2, 3}), (0, {0, 1, -1}), (-2, {0, 1, -1, -2, -3}), (9, {0, 1, 2, 3, 4, 5})):
        assert set(explored(wide, peak)) == tried
        assert len(shown) == len(tried) * 11 * 2  # every lambda, both kinds of labels
    centred = ESZSLSettings(powers=(0,), scalings=("standard",))
    assert len(explored(centred, 0)) == 1, "centred features: the labels score alike"


def test_eszsl_labels_rank_alike_where_features_are_centred(task: Task, held: torch.Tensor) -> None:
    setting = {"scaling": "standard", "gamma": 0, "lambda": 0}
    signed, binary = (ESZSL().fit(task, {**setting, "labels": one}).scores(held) for one in LABELS)
    torch.testing.assert_close(signed, 2 * binary)


@pytest.mark.parametrize("direction", ["visual to semantic", "semantic to visual"])
@pytest.mark.parametrize("descriptions", ["unit", "centred", "standard"])
@pytest.mark.parametrize("reduction", [None, "none", "supervised"])
def test_sae_solves_its_sylvester_equation(
    task: Task, held: torch.Tensor, direction: str, descriptions: str, reduction: str | None
) -> None:
    """Without a reduction, as runs of dkgzsl 0.2.0 name none, features are taken as they are."""
    setting = {"scaling": "min-max", "descriptions": descriptions, "power": 1, "direction": direction}
    scores = SAE().fit(task, setting | ({"reduction": reduction} if reduction else {})).scores(held)
    features, a, seen = task.features.numpy(), unit(task.semantics.numpy()), task.seen.numpy()
    if descriptions != "unit":
        deviation = a[seen].std(0) if descriptions == "standard" else 1.0
        a = (a - a[seen].mean(0)) / deviation
    low, high = features.min(0), features.max(0)
    x, test, s = ((features - low) / (high - low)).T, (held.numpy() - low) / (high - low), a[task.labels].T
    if reduction == "supervised":
        y = np.where(task.labels.numpy()[:, None] == seen, 1.0, 0.0)
        projection = np.linalg.inv(x @ x.T + 50 * np.eye(len(x))) @ x @ y
        x, test = projection.T @ x, test @ projection
    weight = 10 * np.trace(s @ s.T) / np.trace(x @ x.T)
    w = scipy.linalg.solve_sylvester(s @ s.T, weight * x @ x.T, (1 + weight) * s @ x.T)
    known = a[task.classes]
    if direction == "visual to semantic":
        expected = unit(test @ w.T) @ unit(known).T
    else:
        expected = unit(test) @ unit(known @ w).T
    np.testing.assert_allclose(class_columns(scores, task), expected, atol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("seen_by", ["own", "predicted"])
def test_ridge_predicts_the_prototypes_of_sklearn(
    task: Task, held: torch.Tensor, metric: str, seen_by: str
) -> None:
    setting = {"scaling": "square-root", "metric": metric, "power": -1, "seen": seen_by}
    scores = class_columns(RidgePrototype().fit(task, setting).scores(held), task)
    roots, a, seen = task.features.sqrt().numpy(), unit(task.semantics.numpy()), task.seen.numpy()
    means = np.stack([roots[task.labels == c].mean(0) for c in seen])
    centered = a[seen] - a[seen].mean(0)
    prototypes = Ridge(alpha=0.1 * (centered**2).sum(1).mean()).fit(a[seen], means).predict(a)
    if seen_by == "own":
        prototypes[seen] = means
    known, test = prototypes[task.classes], held.sqrt().numpy()
    if metric == "cosine":
        np.testing.assert_allclose(scores, unit(test) @ unit(known).T, atol=1e-9)
    else:
        distances = ((test[:, None] - known[None]) ** 2).sum(-1)
        np.testing.assert_allclose(scores - (test**2).sum(1, keepdims=True), -distances, atol=1e-8)


@pytest.mark.parametrize("width", [0.0, 1.5])
@pytest.mark.parametrize("seen_by", ["own", "predicted"])
def test_gfzsl_has_kernel_ridge_parameters_and_normal_densities(
    task: Task, held: torch.Tensor, width: float, seen_by: str
) -> None:
    setting = {
        "scaling": "standard",
        "width": width,
        "power": -1,
        "variance_power": 0,
        "floor": 0.3,
        "seen": seen_by,
    }
    scores = class_columns(GFZSL().fit(task, setting).scores(held), task)
    features, a, seen = task.features.numpy(), unit(task.semantics.numpy()), task.seen.numpy()
    mean, deviation = features.mean(0), features.std(0)
    x, test = (features - mean) / deviation, (held.numpy() - mean) / deviation
    means = np.stack([x[task.labels == c].mean(0) for c in seen])
    variances = np.stack([x[task.labels == c].var(0) for c in seen])
    variances = variances + 0.3 * variances.mean()
    if width == 0:
        kernel: dict = {"kernel": "linear"}
        scale = (a[seen] ** 2).sum(1).mean()
    else:
        median = np.median(scipy.spatial.distance.pdist(a[seen]))
        kernel, scale = {"kernel": "rbf", "gamma": 0.5 / (width * median) ** 2}, 1.0

    def predict(alpha: float, targets: np.ndarray) -> np.ndarray:
        return KernelRidge(alpha=alpha, **kernel).fit(a[seen], targets).predict(a)

    mu, sigma2 = predict(0.1 * scale, means), np.exp(predict(1.0 * scale, np.log(variances)))
    if seen_by == "own":
        mu[seen], sigma2[seen] = means, variances
    classes = task.classes.numpy()
    expected = np.stack([scipy.stats.norm.logpdf(test, mu[c], np.sqrt(sigma2[c])).sum(1) for c in classes], axis=1)
    constant = 0.5 * test.shape[1] * np.log(2 * np.pi)
    np.testing.assert_allclose(scores, expected + constant, atol=1e-8)


def test_ale_counts_and_weighs_violations_like_its_formula() -> None:
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(7, 5, generator=random, dtype=torch.float64)
    scores[0] = torch.tensor([9.0, 0, 0, 0, 0])  # violates nothing
    positions = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    losses, gradient = ale.ranking_gradient(scores, positions)
    scores.requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for image, own in enumerate(positions.tolist()):
        margins = [1 + scores[image, c] - scores[image, own] for c in range(5) if c != own]
        violated = [margin for margin in margins if margin > 0]
        rank = len(violated)
        loss = sum(1 / k for k in range(1, rank + 1)) / max(rank, 1) * sum(violated)
        assert float(losses[image]) == pytest.approx(float(torch.as_tensor(loss).detach()))
        total = total + loss
    total.backward()
    assert scores.grad is not None
    torch.testing.assert_close(gradient, scores.grad)
    assert not gradient[0].any()


def test_ale_steps_as_w_itself_would(task: Task, held: torch.Tensor) -> None:
    """One epoch on W [visual, semantic], written out."""
    setting = {"scaling": "unit", "rate": 2.0, "epochs": 1}
    method = ALE(ALESettings(epochs=1, batch_size=10), Setup(seed=3))
    scores = class_columns(method.fit(task, setting).scores(held), task)
    x, a, seen = unit(task.features.numpy()), unit(task.semantics.numpy()), task.seen.numpy()
    random = ale.seeded(3, 0)
    order = torch.randperm(len(x), generator=random)
    w = np.zeros((x.shape[1], a.shape[1]))
    for start in range(0, len(x), 10):
        images = order[start : start + 10].numpy()
        step = np.zeros_like(w)
        for image in images:
            own = int(np.flatnonzero(seen == int(task.labels[image]))[0])
            margins = 1 + (x[image] @ w @ a[seen].T) - x[image] @ w @ a[seen[own]]
            violating = [c for c in range(len(seen)) if c != own and margins[c] > 0]
            weight = sum(1 / k for k in range(1, len(violating) + 1)) / max(len(violating), 1)
            for c in violating:
                step += weight * np.outer(x[image], a[seen[c]] - a[seen[own]])
        w -= 2.0 / len(images) * step
    np.testing.assert_allclose(
        scores, held.numpy() @ w @ a[task.classes].T / np.linalg.norm(held, axis=1)[:, None]
    )


def test_class_normalization_standardizes_over_classes_and_remembers() -> None:
    random = torch.Generator().manual_seed(0)
    layer = class_norm.ClassNormalization(4)
    mean, variance = np.zeros(4), np.ones(4)
    for _ in range(3):
        units = 3 * torch.randn(9, 4, generator=random) + 5
        made = layer(units).numpy()
        for j in range(4):
            column = [float(value) for value in units[:, j]]
            middle = sum(column) / 9
            spread = sum((value - middle) ** 2 for value in column) / 8
            mean[j], variance[j] = 0.9 * mean[j] + 0.1 * middle, 0.9 * variance[j] + 0.1 * spread
            expected = [(value - middle) / (spread + 1e-5) ** 0.5 for value in column]
            np.testing.assert_allclose(made[:, j], expected, atol=1e-5)
    layer.eval()
    one = torch.ones(1, 4)
    expected = (1 - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(layer(one).numpy()[0], expected, rtol=1e-4)


def test_class_norm_starts_as_its_paper_says_and_scores_by_scaled_cosine() -> None:
    torch.manual_seed(0)
    network = class_norm.prototype_network(8, 64, 50)
    last = network[6].weight.detach()
    assert float(last.var()) == pytest.approx(1 / (64 * 50), rel=0.1)
    assert float(last.abs().max()) <= (3 / (64 * 50)) ** 0.5
    task, held_out = final_task(world())
    method = ClassNorm(ClassNormSettings(epochs=2, hidden_size=32, batch_size=64, factors=(1.0, 0.9)))
    model = method.fit(task, {"scaling": "none", "epochs": 2, "factor": 0.9})
    full = method.fit(task, {"scaling": "none", "epochs": 2, "factor": 1.0})
    lengths = torch.ones(16)
    lengths[task.seen] = 0.9
    torch.testing.assert_close(model.weights.norm(dim=0), 25 * lengths)
    scores = full.scores(held_out.features)
    cosines = torch.nn.functional.cosine_similarity(held_out.features[:, None], full.weights.T[None], dim=-1)
    torch.testing.assert_close(scores, 25 * cosines, atol=1e-4, rtol=1e-4)


QUICK: dict[str, Any] = {
    "eszsl": None,
    "sae": None,
    "ridge": None,
    "exem": EXEMSettings(widths=(1.0,), costs=(10.0,), scalings=SCALINGS),
    "gfzsl": None,
    "ale": ALESettings(epochs=2),
    "class-norm": ClassNormSettings(epochs=2, hidden_size=8),
}


@pytest.fixture(scope="module")
def signed() -> Task:
    """Features above and below 0."""
    task = final_task(world())[0]
    return replace(task, features=task.features - 4)


@pytest.mark.parametrize("name", QUICK)
def test_signed_features_are_explored_without_their_square_root(name: str, signed: Task) -> None:
    tried = set()

    def selector(setting, model, *, candidate=True):
        tried.add(setting["scaling"])
        return 0.0

    make_method(name, QUICK[name]).explore(signed, selector)
    assert {"none", "min-max"} <= tried
    assert "square-root" not in tried


@pytest.mark.parametrize("name", QUICK)
def test_the_square_root_alone_is_refused_for_signed_features(name: str, signed: Task) -> None:
    info = method_info(name)
    settings = replace(QUICK[name] or info.settings(), scalings=("square-root",))
    with pytest.raises(RunError, match="no square root"):
        make_method(name, settings).explore(signed, lambda setting, model, *, candidate=True: 0.0)
