"""EXEM against scikit-learn's principal components and support vectors, and distances in plain loops."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.spatial
import torch
from sklearn.decomposition import PCA
from sklearn.svm import NuSVR

from dkgzsl.errors import ConfigError
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.methods.base import Task
from dkgzsl.methods.peers.exem import DESCRIPTIONS, DIVISORS, EXEM, SEEN, EXEMSettings
from dkgzsl.methods.registry import load_model
from worlds import world

SETTING = {
    "scaling": "square-root", "descriptions": "unit", "width": 1.5, "cost": 4.0, "nu": 0.4, "divisor": "variance",
    "seen": "predicted",
}  # fmt: skip


@pytest.fixture(scope="module")
def task() -> Task:
    """Features and descriptions in 64 bits."""
    single = final_task(world())[0]
    semantics = single.semantics.double() - min(0.0, float(single.semantics.min()))
    return Task(single.features.double(), single.labels, semantics, single.seen, single.unseen)


@pytest.fixture(scope="module")
def held() -> torch.Tensor:
    return final_task(world())[1].features.double()


def distances(task: Task, held: torch.Tensor, setting: dict, components: int) -> np.ndarray:
    """Of each image to the exemplar of each class of the task."""
    a, seen = task.semantics.numpy(), task.seen.numpy()
    a = np.sqrt(a) if setting["descriptions"] == "root" else a
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    reduction = PCA(components, svd_solver="full").fit(task.features.sqrt().numpy())
    x, test = reduction.transform(task.features.sqrt().numpy()), reduction.transform(held.sqrt().numpy())
    means = np.stack([x[task.labels == c].mean(0) for c in seen])
    deviation = np.stack([x[task.labels == c].std(0) for c in seen]).mean(0)
    width = setting["width"] * np.median(scipy.spatial.distance.pdist(a[seen]))
    exemplars = np.empty((len(a), components))
    for j in range(components):
        cost = setting["cost"] * deviation[j]
        machine = NuSVR(kernel="rbf", gamma=0.5 / width**2, C=cost, nu=setting["nu"], tol=1e-9)
        exemplars[:, j] = machine.fit(a[seen], means[:, j]).predict(a)
    if setting["seen"] == "own":
        exemplars[seen] = means
    power = 2 if setting["divisor"] == "variance" else 1
    found = np.zeros((len(test), len(task.classes)))
    for i, image in enumerate(test):
        for k, c in enumerate(task.classes):
            found[i, k] = sum((image[j] - exemplars[c, j]) ** 2 / deviation[j] ** power for j in range(components))
    return found


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("descriptions", DESCRIPTIONS)
def test_the_nearest_exemplar_is_that_of_sklearn(
    task: Task, held: torch.Tensor, divisor: str, seen: str, descriptions: str
) -> None:
    setting = {**SETTING, "divisor": divisor, "seen": seen, "descriptions": descriptions}
    images = held[::6]
    scores = EXEM(EXEMSettings(components=12)).fit(task, setting).scores(images)[:, task.classes].numpy()
    expected = -distances(task, images, setting, 12)
    shared = (expected - scores).mean(axis=1, keepdims=True)  # the image's own square
    spread = (expected - expected.mean(axis=1, keepdims=True)).std()
    assert np.abs(scores + shared - expected).max() < 5e-3 * spread  # the machine stops at a tolerance


@pytest.mark.parametrize("images", [30, 150])
def test_axes_are_the_principal_ones_with_more_dimensions_than_images_and_with_fewer(images: int) -> None:
    from dkgzsl.methods.peers.exem import _principal_axes

    features = np.random.default_rng(0).normal(size=(images, 60)) * np.geomspace(1, 0.1, 60)
    centred = features - features.mean(0)
    for number in (7, 500):
        axes = _principal_axes(torch.from_numpy(centred), number).numpy()
        expected = PCA(min(number, 60, images - 1), svd_solver="full").fit(features).components_
        assert axes.shape == expected.T.shape
        np.testing.assert_allclose(np.abs(np.einsum("vc,cv->c", axes, expected)), 1, rtol=1e-6)


def test_a_root_is_not_tried_where_a_description_is_negative(task: Task) -> None:
    tried: list[str] = []

    def selector(setting, model, *, candidate=True):
        tried.append(setting["descriptions"])
        return 0.0

    method = EXEM(EXEMSettings(components=5, widths=(1.0,), costs=(10.0,), scalings=("none",)))
    method.explore(task, selector)
    assert set(tried) == {"unit", "root"}
    tried.clear()
    method.explore(replace(task, semantics=task.semantics - 0.5), selector)
    assert set(tried) == {"unit"}


def test_widths_and_costs_are_tried_on_the_best_scales_alone(task: Task) -> None:
    tried = []

    def selector(setting, model, *, candidate=True):
        tried.append((setting["scaling"], setting["descriptions"], setting["width"], setting["cost"]))
        return float(setting["scaling"] == "unit" and setting["descriptions"] == "root")

    settings = EXEMSettings(components=5, widths=(1.0, 2.0), costs=(1.0, 2.0, 3.0), scalings=("none", "unit"))
    EXEM(settings).explore(task, selector)
    first = [(one, two, 1.0, 2.0) for one in ("none", "unit") for two in ("unit", "root")]
    then = [("unit", "root", w, c) for w in (1.0, 2.0) for c in (1.0, 2.0, 3.0) if (w, c) != (1.0, 2.0)]
    assert list(dict.fromkeys(tried)) == first + then


def test_classes_of_one_image_and_equal_descriptions_still_have_exemplars(task: Task, held: torch.Tensor) -> None:
    """Nothing varies within a class, or descriptions do not differ: scores are finite."""
    first = torch.stack([torch.nonzero(task.labels == c)[0, 0] for c in task.seen])
    alone = replace(task, features=task.features[first], labels=task.labels[first])
    same = replace(task, semantics=torch.ones_like(task.semantics))
    for odd in (alone, same):
        for divisor in DIVISORS:
            model = EXEM().fit(odd, {**SETTING, "divisor": divisor})
            assert model.scores(held)[:, task.classes].isfinite().all()


def test_a_description_below_zero_counts_as_zero_under_the_root(task: Task, held: torch.Tensor) -> None:
    model = EXEM().fit(task, {**SETTING, "descriptions": "root"})
    below, zero = task.semantics[:1].clone(), task.semantics[:1].clone()
    below[0, 0], zero[0, 0] = -1.0, 0.0
    grown = load_model(model.save()).with_classes(torch.cat([task.semantics, below, zero]), torch.tensor([16, 17]))
    scores = grown.scores(held)
    torch.testing.assert_close(scores[:, 16], scores[:, 17])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"nus": (1.5,)}, "exem.nus must be at most 1"),
        ({"costs": (0.0,)}, "exem.costs must be above 0"),
        ({"divisors": ("deviations",)}, "exem.divisors cannot be"),
        ({"components": 0}, "exem.components must be at least 1"),
    ],
)
def test_settings_out_of_range_are_named(values: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EXEMSettings(**values)
