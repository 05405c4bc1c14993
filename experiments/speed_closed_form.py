"""Stages of `speed.py`: the closed form's statistics, exploration, fit and scoring, and one prediction."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dkgzsl import ZeroShotClassifier
from dkgzsl.methods.base import Model, Task
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.closed_form.whitening import PrincipalSpace
from dkgzsl.methods.shared.class_statistics import class_means
from speed_stages import Sizes, Stage, products

SHRINKAGE, RIDGE = 0.6, 0.1


@dataclass(frozen=True)
class World:
    """Classes whose means depend linearly on their descriptions: training images and held-out ones."""

    task: Task
    held_out: Tensor
    held_labels: Tensor

    @classmethod
    def of(cls, images: int, visual: int, sizes: Sizes) -> World:
        """Float32, the same at every call."""
        random, classes = torch.Generator().manual_seed(0), sizes.seen + sizes.unseen
        semantics = torch.randn(classes, sizes.semantic, generator=random)
        means = semantics @ torch.randn(sizes.semantic, visual, generator=random) / sizes.semantic**0.5
        labels, held = torch.arange(images) % sizes.seen, torch.arange(images // 5) % classes
        features, held_out = (means[y] + torch.randn(len(y), visual, generator=random) + 8 for y in (labels, held))
        seen, unseen = torch.arange(sizes.seen), torch.arange(sizes.seen, classes)
        return cls(Task(features, labels, semantics, seen, unseen), held_out, held)


class Scorer:
    """A selector that scores the held-out images of one world, and keeps the settings."""

    def __init__(self, world: World) -> None:
        self.world, self.settings = world, list[Mapping[str, Any]]()

    def __call__(self, setting: Mapping[str, Any], model: Model, *, candidate: bool = True) -> float:
        """Accuracy on the held-out images."""
        del candidate
        self.settings.append(dict(setting))
        return float((model.scores(self.world.held_out).argmax(dim=1) == self.world.held_labels).float().mean())


def _single(components: int) -> ClosedFormSettings:
    """One value for each constant."""
    return ClosedFormSettings(
        components=(components,),
        shrinkage=(SHRINKAGE,),
        kernel_width=(0.0,),
        feature_kernel_width=(0.0,),
        ridge=(RIDGE,),
        episodes="off",
        unit_length="on",
    )


@cache
def _setting(sizes: Sizes) -> Mapping[str, Any]:
    world = World.of(sizes.solved[0], sizes.solved[1], sizes)
    scorer = Scorer(world)
    ClosedForm(_single(min(512, sizes.visual))).explore(world.task, scorer)
    return scorer.settings[0] | {"components": min(512, sizes.visual)}


@dataclass(frozen=True)
class Plain:
    """The closed form's steps 1 and 2 in plain numpy: principal axes, whitening, unit length, kernel ridge."""

    mean: np.ndarray
    whitener: np.ndarray
    prototypes: np.ndarray
    variance: float

    @classmethod
    def fit(cls, task: Task, components: int) -> Plain:
        """Class after class, every image more than once."""
        x, y, a = (part.numpy() for part in (task.features, task.labels, task.semantics))
        seen, unseen = task.seen.numpy(), task.unseen.numpy()
        mean = x.mean(0)
        axes = np.linalg.eigh(np.cov((x - mean).T))[1][:, ::-1][:, :components]
        points = (x - mean) @ axes
        deviations = np.concatenate([points[y == c] - points[y == c].mean(0) for c in seen])
        values, vectors = np.linalg.eigh(deviations.T @ deviations / len(x))
        scales = (1 - SHRINKAGE) * values + SHRINKAGE * values.mean()
        whitener = axes @ vectors / np.sqrt(scales)
        points = (x - mean) @ whitener
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        means = np.stack([points[y == c].mean(0) for c in seen])
        a = a - a[seen].mean(0)
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        kernel = a[seen] @ a[seen].T
        kernel += RIDGE * kernel.diagonal().mean() * np.eye(len(seen))
        described = means.mean(0) + a[unseen] @ a[seen].T @ np.linalg.solve(kernel, means - means.mean(0))
        deviations = points - means[np.searchsorted(seen, y)]
        return cls(mean, whitener, np.concatenate([means, described]), float((deviations**2).mean()))

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Log densities, class after class."""
        points = (x - self.mean) @ self.whitener
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        by_class = [-((points - one) ** 2).sum(1) / (2 * self.variance) for one in self.prototypes]
        return np.stack(by_class, axis=1)


def _covariance(images: int, visual: int) -> Callable[[], object]:
    values = torch.rand(images, visual)
    return lambda: values.T @ values


def _solved(images: int, visual: int, classes: int, components: int, scorings: int = 0) -> Callable[[], object]:
    """Two covariances, their eigenvectors, and the products of projecting and scoring."""
    values, few = torch.rand(images, visual), torch.rand(images, components)
    matrix, inner = torch.rand(visual, visual), torch.rand(components, components)
    shapes = Counter({(images, visual, components): 1})
    shapes[(images // 5, components, classes)] += scorings
    run = products(shapes)

    def all_of_it() -> None:
        torch.linalg.eigh(matrix + matrix.T)
        torch.linalg.eigh(inner + inner.T)
        torch.mm(values.T, values)
        torch.mm(few.T, few)
        run()

    return all_of_it


def _statistics(sizes: Sizes) -> Stage:
    task, components = World.of(sizes.images, sizes.visual, sizes).task, min(512, sizes.visual)

    def ours() -> object:
        means = class_means(task.features, task.labels, sizes.seen)
        return means, PrincipalSpace.fit(task.features, components, square_root=False)

    def plain() -> object:
        x, y = task.features.numpy(), task.labels.numpy()
        means = np.stack([x[y == c].mean(0) for c in range(sizes.seen)])
        return means, np.linalg.eigh(np.cov(x.T))

    matrix = torch.rand(sizes.visual, sizes.visual)

    def limit() -> None:
        torch.linalg.eigh(matrix + matrix.T)
        covariance()

    covariance = _covariance(sizes.images, sizes.visual)
    return Stage(
        size=f"{sizes.images} x {sizes.visual}, {sizes.seen} classes",
        package=ours,
        reference=plain,
        reference_is="numpy",
        limits={"covariance, eigenvectors": limit, "copy of the data": task.features.clone},
    )


def _exploration(sizes: Sizes) -> Stage:
    images, visual = sizes.solved
    world = World.of(images, visual, sizes)
    settings = ClosedFormSettings(feature_kernel_width=(0.0,))
    first = Scorer(world)
    ClosedForm(settings).explore(world.task, first)

    def plain() -> None:
        scorer = Scorer(world)
        for setting in first.settings:
            scorer(setting, ClosedForm(settings).fit(world.task, setting))

    classes, number = sizes.seen + sizes.unseen, len(first.settings)
    return Stage(
        size=f"{images} x {visual}, {classes} classes, {number} settings, no kernel between images",
        package=lambda: ClosedForm(settings).explore(world.task, Scorer(world)),
        reference=plain,
        reference_is="a fresh fit for each setting",
        limits={"one fit, a scoring product a setting": _solved(images, visual, classes, visual, number)},
    )


def _fit(sizes: Sizes) -> Stage:
    task, setting = World.of(sizes.images, sizes.visual, sizes).task, _setting(sizes)
    components, classes = setting["components"], sizes.seen + sizes.unseen
    return Stage(
        size=f"{sizes.images} x {sizes.visual}, {classes} classes, one setting",
        package=lambda: ClosedForm(_single(components)).fit(task, setting),
        reference=lambda: Plain.fit(task, components),
        reference_is="numpy",
        limits={"covariances, eigenvectors": _solved(sizes.images, sizes.visual, classes, components)},
    )


def _scoring(sizes: Sizes) -> Stage:
    task, setting = World.of(sizes.images, sizes.visual, sizes).task, _setting(sizes)
    components, classes = setting["components"], sizes.seen + sizes.unseen
    model, plain = ClosedForm(_single(components)).fit(task, setting), Plain.fit(task, components)
    shapes = {(sizes.images, sizes.visual, components): 1, (sizes.images, components, classes): 1}
    return Stage(
        size=f"{sizes.images} x {sizes.visual}, {classes} classes",
        package=lambda: model.scores(task.features[:]),  # another tensor: the model knows the last ones again
        reference=lambda: plain.scores(task.features.numpy()),
        reference_is="numpy, a class at a time",
        limits={"products": products(shapes)},
    )


def _prediction(sizes: Sizes) -> Stage:
    world = World.of(*sizes.solved, sizes)
    task, components = world.task, min(512, sizes.solved[1])
    classes = sizes.seen + sizes.unseen
    semantics = {number: task.semantics[number].numpy() for number in range(classes)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        classifier = ZeroShotClassifier(settings=vars(_single(components)), random_state=0)
        classifier.fit(task.features.numpy(), task.labels.numpy(), semantics=semantics)
    plain = Plain.fit(task, components)
    one = world.held_out[:1].numpy()
    return Stage(
        size=f"one vector of {sizes.solved[1]}, {classes} classes",
        package=lambda: classifier.predict(one),
        reference=lambda: plain.scores(one).argmax(axis=1),
        reference_is="numpy, a class at a time",
        limits={"products": products({(1, sizes.solved[1], components): 1, (1, components, classes): 1})},
    )


def closed_form_stages(sizes: Sizes) -> dict[str, Callable[[], Stage]]:
    """From statistics to a prediction."""
    return {
        "statistics": partial(_statistics, sizes),
        "exploration": partial(_exploration, sizes),
        "final-fit": partial(_fit, sizes),
        "scoring": partial(_scoring, sizes),
        "prediction": partial(_prediction, sizes),
    }
