"""One fit for use: settings chosen on held-out images where there are enough, then fitted on all images."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dkgzsl.data.problem import ImageIndices, Parts, Problem
from dkgzsl.data.splits import HELD_SHARE, hold_out_seen, validation_cut
from dkgzsl.errors import InputError
from dkgzsl.evaluation.examination import Examination, final_of
from dkgzsl.evaluation.metrics import per_class_accuracy
from dkgzsl.evaluation.protocols import Outcome, validated
from dkgzsl.learning.representation import Representation
from dkgzsl.methods.base import Method, Model, Setting
from dkgzsl.runs.plan import Plan
from dkgzsl.runs.training import make_method

T = TypeVar("T")

FEWEST_CLASSES = 5
"""Seen classes from which on validation classes are cut: two are then pseudo-unseen and three stay seen."""

_MIDDLE = {"components": 512, "shrinkage": 0.6, "kernel_width": 0.0, "ridge": 0.1, "seen_blend": 0.0}
"""What serves where nothing can be chosen, or the offered value that is nearest to it."""


def fit_described(plan: Plan) -> Outcome:
    """Fit a plan whose problem has no test images, seen classes described, unseen ones or none.

    Settings, representation and constant are chosen by the validated protocol. Where there are fewer than
    `FEWEST_CLASSES` seen classes, or no class has images enough to hold some out, the middle settings serve, the
    constant is 0 and a UserWarning says so.

    Raises:
        InputError: no class has two images, or no solution is finite.
        ConfigError: settings that clash.
    """
    seed, problem = plan.seeds[0], plan.problem
    method, ways = make_method(plan, seed), plan.representations(seed)
    if _can_validate(problem, seed):
        return _solved(lambda: validated(method, problem, seed=seed, representations=ways))
    _tell(f"{len(problem.seen_classes)} seen classes are too few to choose settings on some of them")
    return _solved(lambda: _last(method, problem, middle_setting(plan), ways[0]))


def fit_seen(plan: Plan) -> Outcome:
    """Fit the seen classes alone: their densities in the whitened space, by no description.

    Components, shrinkage, unit length and representation are those that tell held-out images best: a fifth of each
    class's, by mean accuracy over classes, then by the mean logarithm of the right class's share.

    Raises:
        InputError: no class has two images, or no solution is finite.
    """
    seed, problem = plan.seeds[0], plan.problem
    knowledge = replace(
        plan.config.knowledge,
        kernel_width=(0.0,),
        ridge=(_MIDDLE["ridge"],),
        seen_blend=(0.0,),
        uncertainty="off",
        episodes="off",
        fusion="off",
    )
    plan = replace(plan, config=replace(plan.config, knowledge=knowledge))
    method, ways = make_method(plan, seed), plan.representations(seed)
    images = np.arange(len(problem.labels))
    held = hold_out_seen(problem.labels, problem.seen_classes, fraction=HELD_SHARE, seed=seed)
    training = np.setdiff1d(images, held)
    if not _varies(problem, training):
        _tell("the classes have too few images to choose settings by holding some out")
        return _solved(lambda: _last(method, problem, middle_setting(plan), ways[0]))
    divided = replace(problem, parts=Parts(training, held, images[:0]))
    best: tuple[_HeldOut, Representation] | None = None
    for way in ways:
        task, examination = final_of(divided, way)
        judge = _HeldOut(examination)
        _solved(lambda: method.explore(task, judge))  # noqa: B023 (called at once)
        if best is None or judge.rank > best[0].rank:
            best = judge, way
    assert best is not None, "a plan has a representation"
    setting = best[0].setting
    return _solved(lambda: _last(method, problem, setting, best[1]))


class _HeldOut:
    """Judges by held-out images of the same classes, and remembers the best setting."""

    def __init__(self, examination: Examination) -> None:
        self.examination = examination
        self.setting: Setting = {}
        self.rank = (-1.0, -np.inf)

    def __call__(self, setting: Setting, model: Model, *, candidate: bool = True) -> float:
        scores, labels = model.scores(self.examination.features), self.examination.labels
        classes = np.unique(labels)
        accuracy = float(per_class_accuracy(scores.argmax(1).cpu().numpy(), labels, classes).mean())
        right = torch.from_numpy(labels)[:, None].to(scores.device)
        share = float(scores.log_softmax(1).gather(1, right).mean())
        rank = accuracy, share if np.isfinite(share) else -np.inf
        if candidate and rank > self.rank:
            self.setting, self.rank = dict(setting), rank
        return accuracy


def middle_setting(plan: Plan) -> dict[str, Any]:
    """The setting that serves where nothing can be chosen; each value the offered one nearest to the middle."""
    config = plan.config
    if plan.variant == "paper":
        return {"epochs": config.epochs, "classifier_epochs": config.softmax.epochs}
    knowledge = config.knowledge
    setting: dict[str, Any] = {
        name: min(getattr(knowledge, name), key=lambda value: abs(value - middle))
        for name, middle in _MIDDLE.items()
    }
    setting |= {
        "uncertainty": knowledge.uncertainty == "on",
        "episodes": "off" if knowledge.episodes == "auto" else knowledge.episodes,
        "fusion": knowledge.fusion == "on",
    }
    if knowledge.unit_length == "auto":
        features = plan.problem.features
        setting["unit_length"] = "on" if features.shape[-1] > _MANY_DIMENSIONS else "off"
    return setting


_MANY_DIMENSIONS = 64


def _last(method: Method, problem: Problem, setting: Setting, way: Representation) -> Outcome:
    """The final fit, with nothing validated."""
    task, examination = final_of(problem, way)
    model = method.fit(task, setting)
    scored = examination.score(model)
    return Outcome(
        protocol="validated",
        figures=scored.figures(),
        scored=scored,
        model=model,
        setting=setting,
        constant=0.0,
        validation=None,
        looks=0,
        representation=way.name,
        fitted=examination.fitted,
    )


def _can_validate(problem: Problem, seed: int) -> bool:
    if len(problem.seen_classes) < FEWEST_CLASSES:
        return False
    cut = validation_cut(problem, seed)
    return len(cut.held_seen) > 0 and _varies(problem, cut.train)


def _varies(problem: Problem, training: ImageIndices) -> bool:
    """Whether any class has two images here: without, the spread within classes is not known."""
    return bool(np.bincount(problem.labels[training]).max(initial=0) > 1)


def _solved(fit: Callable[[], T]) -> T:
    try:
        return fit()
    except LinAlgError as error:
        raise InputError(
            f"no solution for these features and settings: {str(error).splitlines()[0]}",
            fix="look at the features' range, or leave extreme settings out",
        ) from error


def _tell(why: str) -> None:
    warnings.warn(f"{why}: middle settings are taken, and no calibration constant", UserWarning, stacklevel=4)
