"""What peers can do besides scoring, against formulas: photos, draws, further classes; and old files."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.spatial
import torch

from dkgzsl.errors import DataError, RunError
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.methods.base import SavedModel, Task
from dkgzsl.methods.peers.ale import ALESettings
from dkgzsl.methods.peers.class_norm import ClassNormSettings
from dkgzsl.methods.peers.f_clswgan import FCLSWGANSettings
from dkgzsl.methods.peers.gfzsl import GFZSL
from dkgzsl.methods.peers.ridge_prototype import RidgePrototype
from dkgzsl.methods.peers.sae import DESCRIPTIONS, DIRECTIONS, REDUCTIONS, SAE
from dkgzsl.methods.registry import load_model, make_method
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


def left_out_errors(regular: np.ndarray, gram: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Of each seen class, predicted from all the others by solving again without it."""
    errors = np.empty_like(means)
    for i in range(len(means)):
        others = np.arange(len(means)) != i
        solved = np.linalg.solve(regular[np.ix_(others, others)], means[others])
        errors[i] = means[i] - gram[i, others] @ solved
    return errors


def posterior(prior, photos, kernel, own, gram, noise, means, within) -> np.ndarray:
    """By the joint normal distribution of the process, its scale taken from the errors by leaving out."""
    regular = gram + noise * np.eye(len(gram))
    errors = left_out_errors(regular, gram, means)
    spread = np.array(
        [
            regular[i, i]
            - regular[i, o := np.arange(len(gram)) != i] @ np.linalg.solve(regular[np.ix_(o, o)], regular[o, i])
            for i in range(len(gram))
        ]
    )
    unit = (errors**2).mean(0) / spread.mean()
    unknown = (own - kernel @ np.linalg.solve(regular, kernel) + noise) * unit
    precision = 1 / unknown + len(photos) / within
    return (prior / unknown + photos.sum(0) / within) / precision


def test_ridge_moves_a_prototype_to_the_posterior_mean(task: Task, held: torch.Tensor) -> None:
    model = RidgePrototype().fit(task, {"scaling": "none", "metric": "euclidean", "power": -1, "seen": "own"})
    x, a, seen = task.features.numpy(), unit(task.semantics.numpy()), task.seen.numpy()
    means = np.stack([x[task.labels == c].mean(0) for c in seen])
    within = sum(((x[task.labels == c] - means[i]) ** 2).sum(0) for i, c in enumerate(seen)) / (len(x) - len(seen))
    a = a - a[seen].mean(0)
    gram, number = a[seen] @ a[seen].T, int(task.unseen[1])
    noise = 0.1 * gram.diagonal().mean()
    prior = model.prototypes(task.semantics[[number]])[0].numpy()
    photos = held[:3]
    centre = means.mean(0)
    moved = centre + posterior(
        prior - centre,
        photos.numpy() - centre,
        a[seen] @ a[number],
        a[number] @ a[number],
        gram,
        noise,
        means - centre,
        within,
    )
    scores = model.with_photos(number, photos).scores(held).numpy()[:, number]
    expected = 2 * held.numpy() @ moved - moved @ moved
    np.testing.assert_allclose(scores, expected, rtol=1e-7)


@pytest.mark.parametrize("width", [0.0, 1.5])
def test_gfzsl_moves_a_mean_to_the_posterior_mean(task: Task, held: torch.Tensor, width: float) -> None:
    setting = {"scaling": "none", "width": width, "power": -1, "variance_power": 0, "floor": 0.3, "seen": "own"}
    model, number, photos = GFZSL().fit(task, setting), int(task.unseen[0]), held[5:9]
    a, seen = unit(task.semantics.numpy()), task.seen.numpy()
    if width == 0:
        kernel = a @ a.T
    else:
        scale = width * np.median(scipy.spatial.distance.pdist(a[seen]))
        kernel = np.exp(-0.5 * (scipy.spatial.distance.cdist(a, a) / scale) ** 2)
    gram = kernel[np.ix_(seen, seen)]
    means = np.stack([task.features[task.labels == c].mean(0).numpy() for c in seen])
    noise = 0.1 * gram.diagonal().mean()
    moved = posterior(
        model.means[number].numpy(),
        photos.numpy(),
        kernel[number, seen],
        kernel[number, number],
        gram,
        noise,
        means,
        model.variances[number].numpy(),
    )
    np.testing.assert_allclose(model.with_photos(number, photos).located[number].numpy(), moved, rtol=1e-7)


def test_drawn_features_have_the_moments_of_their_density(task: Task) -> None:
    ridge = RidgePrototype().fit(task, {"scaling": "none", "metric": "cosine", "power": -1, "seen": "own"})
    setting = {"scaling": "none", "width": 0.0, "power": -1, "variance_power": 0, "floor": 0.3, "seen": "own"}
    gfzsl, described = GFZSL().fit(task, setting), task.semantics[task.unseen]
    for model, means, variances in (
        (ridge, ridge.prototypes(described), ridge.parameters["within"].expand(4, -1)),
        (gfzsl, gfzsl.means[task.unseen], gfzsl.variances[task.unseen]),
    ):
        made = model.synthesize(described, 4000, torch.Generator().manual_seed(0))
        torch.testing.assert_close(made.mean(1), means, rtol=0, atol=0.1)
        torch.testing.assert_close(made.var(1), variances, rtol=0.1, atol=0)


@pytest.mark.parametrize("scaling", ["none", "min-max", "unit", "square-root", "standard"])
def test_drawn_features_come_back_to_the_scale_of_the_features(task: Task, scaling: str) -> None:
    model = RidgePrototype().fit(task, {"scaling": scaling, "metric": "euclidean", "power": -3, "seen": "own"})
    made = model.synthesize(task.semantics[task.seen], 200, torch.Generator().manual_seed(0))
    real = torch.stack([task.features[task.labels == c].mean(0) for c in task.seen])
    assert (made.mean(1) - real).norm(dim=1).mean() < 0.1 * real.norm(dim=1).mean()


QUICK: dict[str, Any] = {
    "ale": ALESettings(epochs=2),
    "class-norm": ClassNormSettings(epochs=2, hidden_size=8),
}


@pytest.mark.parametrize("name", ["eszsl", "sae", "ridge", "exem", "gfzsl", "ale", "class-norm"])
def test_parameters_of_known_classes_stay_to_the_last_bit(name: str) -> None:
    task = final_task(world())[0]
    shown: list[Any] = []

    def selector(setting, model, *, candidate=True):
        shown.append(model)
        return 0.0

    make_method(name, QUICK.get(name)).explore(task, selector)
    model = shown[-1]
    further = torch.cat([task.semantics, task.semantics[:1].flip(1)])
    grown = model.with_classes(further, torch.tensor([16, 13]))
    for part, axis in (("means", 0), ("variances", 0)) if name == "gfzsl" else (("weights", 1), ("bias", 0)):
        before, after = getattr(model, part), getattr(grown, part)
        assert after.shape[axis] == 17
        assert torch.equal(after.narrow(axis, 0, 16), before)
    assert grown.unseen.tolist() == [13, 16]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("descriptions", DESCRIPTIONS)
def test_sae_adds_classes_and_is_read_and_exported_with_every_reduction(
    task: Task, held: torch.Tensor, reduction: str, direction: str, descriptions: str
) -> None:
    setting = {
        "scaling": "square-root", "reduction": reduction, "descriptions": descriptions, "power": 0,
        "direction": direction,
    }  # fmt: skip
    whole = SAE().fit(task, setting)
    fewer = SAE().fit(replace(task, semantics=task.semantics[:14], unseen=task.unseen[:2]), setting)
    again: Any = load_model(fewer.save())
    expected = whole.scores(held)
    torch.testing.assert_close(again.with_classes(task.semantics, task.unseen).scores(held), expected)
    exported = whole.scores_module()(held.float()).double()
    assert (
        exported - exported.mean(1, keepdim=True) - expected + expected.mean(1, keepdim=True)
    ).abs().max() < 1e-4


def test_photos_that_make_no_sense_are_refused() -> None:
    task, held_out = final_task(world())
    setting = {"scaling": "none", "width": 0.0, "power": -1, "variance_power": 0, "floor": 0.3, "seen": "own"}
    model = GFZSL().fit(task, setting)
    with pytest.raises(DataError, match="no photo"):
        model.with_photos(12, held_out.features[:0])
    with pytest.raises(DataError, match="class 3 is not a described one"):
        model.with_photos(3, held_out.features[:2])


GONE = {
    "eszsl": {"semantics"},
    "gfzsl": {"semantics", "seen_means", "seen_variances"},
    "f-clswgan": {"training.features", "training.labels"},
}
"""What files of dkgzsl 0.1 do not have."""


@pytest.mark.parametrize("name", GONE)
def test_a_file_of_0_1_scores_as_before_and_takes_no_new_classes(name: str) -> None:
    task, held_out = final_task(world())
    settings = FCLSWGANSettings(hidden_size=8, per_class=5, softmax_epochs=1) if name == "f-clswgan" else None
    setting = {
        "eszsl": {"scaling": "unit", "gamma": 0, "lambda": -1},
        "gfzsl": {"scaling": "unit", "width": 1.0, "power": -1, "variance_power": 0, "floor": 0.3, "seen": "own"},
        "f-clswgan": {"epochs": 1, "classifier_epochs": 1},
    }[name]
    model = make_method(name, settings).fit(task, setting)
    saved = model.save()
    old = SavedModel(
        saved.kind,
        {n: tensor for n, tensor in saved.tensors.items() if n not in GONE[name]},
        {n: value for n, value in saved.values.items() if n not in ("columns", "regression", "last_step")},
    )
    again: Any = load_model(old)
    torch.testing.assert_close(again.scores(held_out.features), model.scores(held_out.features))
    with pytest.raises(RunError, match=r"dkgzsl 0\.1"):
        again.with_classes(task.semantics, task.unseen)
    load_model(again.save())
