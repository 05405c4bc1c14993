"""One fit for use: settings chosen on held-out images where there are enough, then fitted on all images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from scipy.special import log_softmax
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dkgzsl.data.problem import ImageIndices, Parts, Problem
from dkgzsl.data.samples import bounded_sample
from dkgzsl.data.splits import HELD_SHARE, hold_out_seen, validation_cut
from dkgzsl.errors import InputError
from dkgzsl.evaluation.calibration import THRESHOLD, Calibration, calibrate
from dkgzsl.evaluation.held_out import HeldOut, final_task
from dkgzsl.evaluation.in_distribution import InDistribution, in_distribution_of, least_clearness, level_of
from dkgzsl.evaluation.metrics import Scored, per_class_accuracy
from dkgzsl.evaluation.protocols import Outcome, validated
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.methods.base import Method, Model, Setting, Task
from dkgzsl.methods.closed_form.settings import settled
from dkgzsl.methods.registry import DEFAULT, PUBLISHED, load_model
from dkgzsl.representation.evidence import AttributeEvidence
from dkgzsl.representation.representation import FittedBlocks, Representation
from dkgzsl.runs.model_record import RecognitionRecord
from dkgzsl.runs.plan import Plan

T = TypeVar("T")

FEWEST_CLASSES = 5
"""Seen classes from which on validation classes are cut: two are then pseudo-unseen and three stay seen."""


def fit_described(plan: Plan, *, calibrated: bool = True) -> Outcome:
    """Fit a plan whose problem has no test images, seen classes described, unseen ones or none.

    Settings, representation and constant are chosen by the validated protocol. Where there are fewer than
    `FEWEST_CLASSES` seen classes, or no class has images enough to hold some out, settings in the middle serve,
    the constant is 0 and a UserWarning says so.

    Args:
        plan: what to fit.
        calibrated: whether a constant is added to the scores of unseen classes.

    Raises:
        InputError: no class has two images, or no solution is finite.
        ConfigError: settings that clash.
    """
    seed, problem = plan.seeds[0], plan.problem
    method, ways = plan.make_method(seed), plan.representations(seed)
    if _can_validate(problem, seed):
        return _solved(lambda: validated(method, problem, seed=seed, representations=ways, calibrated=calibrated))
    _warn(f"{len(problem.seen_classes)} classes with {len(problem.labels)} images are too few to validate on some")
    return _solved(lambda: _without_choice(plan, ways[0]))


def fit_seen(plan: Plan) -> Outcome:
    """Fit the seen classes alone: their densities in the whitened space, by no description.

    Components, shrinkage, kernel between images, square root, unit length and representation are those with the
    best accuracy on held-out images, a fifth of each class's: by mean accuracy over classes, then by the mean
    logarithm of the right class's share.

    Raises:
        InputError: no class has two images, or no solution is finite.
    """
    seed, problem = plan.seeds[0], plan.problem
    ways = plan.representations(seed)
    sample, _ = bounded_sample(problem, seed)
    images = np.sort(sample.parts.trainval)
    held = hold_out_seen(sample.labels, sample.seen_classes, fraction=HELD_SHARE, seed=seed, among=images)
    training = np.setdiff1d(images, held)
    if not _varies(sample, training):
        _warn("the classes have too few images to choose settings by holding some out")
        return _solved(lambda: _without_choice(plan, ways[0]))
    divided = replace(sample, parts=Parts(training, held, images[:0]))
    parted = [(way, *final_task(divided, way)) for way in ways]
    best: _Found | None = None
    for width in plan.config.settings.feature_kernel_width:
        found = _best_of_width(plan, parted, width)
        # A kernel keeps features of images: its accuracy has to be better by more than chance.
        if best is None or found.selector.is_better_than(best.selector):
            best = found
    assert best is not None, "a plan has a width"
    if best.selector.scored is None:
        raise unsolved("nothing finite came of any setting")
    task, held_out = final_task(problem, best.way)
    model = _solved(partial(best.method.fit, task, best.selector.setting))
    scored, usual = best.selector.scored, held_out.training_scores(model)
    level = 1.0 if usual is None else level_of(usual, held_out.is_unseen)
    known, before = best.selector.training, level
    if known is not None:
        before = level_of(known, best.selector.held_out.is_unseen)
    least = least_clearness([scored], 0.0, [before])
    needed = in_distribution_of(task.features, task.labels.numpy(), level=level, least=least)
    threshold = None if needed is None else THRESHOLD
    calibration = calibrate([scored], 0.0, scales=[level / before], threshold=threshold)
    return _outcome(held_out, model, best.selector.setting, best.way, calibration, needed)


class _Found(NamedTuple):
    """The best setting of some, with the method and the representation that it belongs to."""

    selector: _HeldOut
    way: Representation
    method: Method


def _best_of_width(plan: Plan, parted: Sequence[tuple[Representation, Task, HeldOut]], width: float) -> _Found:
    settings = plan.config.settings
    best: _Found | None = None
    for way, task, held_out in parted:
        open_root = settings.square_root == "auto" and bool((task.features >= 0).all())
        # auto, not on: an image that was held out may have the only negative feature.
        for root in ("auto", "off") if open_root else (settings.square_root,):
            tried = replace(settings, square_root=root, feature_kernel_width=(width,))
            method = _with(plan, tried).make_method(plan.seeds[0])
            selector = _HeldOut(held_out)
            _solved(partial(method.explore, task, selector))
            if best is None or selector.rank > best.selector.rank:
                best = _Found(selector, way, method)
    assert best is not None, "a plan has a representation"
    return best


def _with(plan: Plan, settings: Any) -> Plan:
    return replace(plan, config=replace(plan.config, settings=settings))


def recognizer_of(problem: Problem, outcome: Outcome) -> Recognizer:
    """What a fit is used by, on the CPU; it keeps no training image, and no tensor larger than it must be.

    A kernel between images keeps the features of up to 1,024 of them.
    """
    saved = outcome.model.save()
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in saved.tensors.items()
    }
    return Recognizer(
        model=load_model(replace(saved, tensors=tensors)),
        visual=outcome.fitted.visual if isinstance(outcome.fitted, FittedBlocks) else None,
        record=RecognitionRecord.of(problem, outcome.calibration, outcome.adaptation),
        evidence=AttributeEvidence.of(problem, outcome.fitted),
        in_distribution=outcome.in_distribution,
    )


class _HeldOut:
    """Selects by the accuracy on held-out images of the same classes, and remembers the best setting."""

    def __init__(self, held_out: HeldOut) -> None:
        self.held_out = held_out
        self.setting: Setting = {}
        self.scored: Scored | None = None
        self.training: np.ndarray | None = None
        self.rank = (-1.0, -np.inf)

    def is_better_than(self, other: _HeldOut) -> bool:
        """Whether its accuracy is higher, by more than the standard error of the difference."""
        if self.scored is None or other.scored is None:
            return self.scored is not None
        right, before = (s.scores.argmax(1) == s.labels for s in (self.scored, other.scored))
        gained = right.astype(np.float64) - before
        return bool(gained.mean() > gained.std() / len(gained) ** 0.5)

    def __call__(self, setting: Setting, model: Model, *, candidate: bool = True) -> float:
        scored = self.held_out.score(model)
        classes = np.unique(scored.labels)
        accuracy = float(per_class_accuracy(scored.scores.argmax(1), scored.labels, classes).mean())
        shares = log_softmax(scored.scores.astype(np.float64), axis=1)
        share = float(shares[np.arange(len(shares)), scored.labels].mean())
        if candidate and np.isfinite(share) and (accuracy, share) > self.rank:
            self.setting, self.scored, self.rank = dict(setting), scored, (accuracy, share)
            self.training = self.held_out.training_scores(model)
        return accuracy


def _without_choice(plan: Plan, way: Representation) -> Outcome:
    """Settings in the middle for what is open, no option that only validation could ask for, no calibration."""
    task, held_out = final_task(plan.problem, way)
    settings = plan.config.settings
    if plan.method == DEFAULT:
        settings = settled(settings, dimensions=task.features.shape[1])
    elif plan.method == PUBLISHED:
        settings = replace(settings, evaluate_every=plan.epochs)
    method, tried = _with(plan, settings).make_method(plan.seeds[0]), _Tried()
    method.explore(task, tried)
    assert tried.model is not None, "a method shows at least one candidate"
    model, setting = tried.model, tried.settings[-1]
    if not plan.info.iterative and len(tried.settings) > 1:  # of a grid the middle, of a training its end
        setting = tried.settings[len(tried.settings) // 2]
        model = method.fit(task, setting)
    found = in_distribution_of(task.features, task.labels.numpy())
    calibration = Calibration(threshold=None if found is None else THRESHOLD)
    return _outcome(held_out, model, setting, way, calibration, found)


class _Tried:
    """Selects nothing, and keeps every candidate's setting and the last model."""

    def __init__(self) -> None:
        self.settings: list[Setting] = []
        self.model: Model | None = None

    def __call__(self, setting: Setting, model: Model, *, candidate: bool = True) -> float:
        if candidate:
            self.settings.append(dict(setting))
            self.model = model
        return 0.0


def _outcome(
    held_out: HeldOut,
    model: Model,
    setting: Setting,
    way: Representation,
    calibration: Calibration,
    in_distribution: InDistribution | None,
) -> Outcome:
    decisions = held_out.decide(model)
    return Outcome(
        protocol="validated",
        figures=decisions.figures(),
        scored=decisions,
        model=model,
        setting=setting,
        constant=calibration.constant,
        calibration=calibration,
        validation=None,
        evaluations=0,
        representation=way.name,
        fitted=held_out.fitted,
        in_distribution=in_distribution,
    )


def _can_validate(problem: Problem, seed: int) -> bool:
    if len(problem.seen_classes) < FEWEST_CLASSES:
        return False
    cut = validation_cut(problem, seed)
    return len(cut.held_seen) > 0 and _varies(problem, cut.train)


def _varies(problem: Problem, training: ImageIndices) -> bool:
    """Whether any class has two images here, and three in all.

    Without two, the spread within classes is not known. Where no class has three, only some can hold an image out,
    which says too little about settings.
    """
    here, all_of_it = (
        np.bincount(problem.labels[rows]).max(initial=0) for rows in (training, problem.parts.trainval)
    )
    return bool(here > 1 and all_of_it > 2)


def _solved(fit: Callable[[], T]) -> T:
    try:
        return fit()
    except LinAlgError as error:
        raise unsolved(str(error).splitlines()[0]) from error


def unsolved(why: str) -> InputError:
    """The error where features and settings have no finite solution."""
    return InputError(
        f"no solution for these features and settings: {why}",
        fix="look at the features, which must vary within classes in a moderate range, and at the descriptions, "
        "which must differ",
    )


def _warn(why: str) -> None:
    warnings.warn(
        f"{why}: settings in the middle are taken, and no calibration constant", UserWarning, stacklevel=4
    )
