"""The closed form: class densities whose unseen prototypes are solved for, constants chosen on held-out classes.

Whitening, prototypes, gate, experts and balance are solved (`whitening`, `kernel_ridge`, `experts`). The constants
start where they serve most problems, and are left, one after the other, where the selector finds others better.
What is learned on top (episodes) comes last, and stays only where the selector prefers it.

Source: GFZSL (Verma and Rai, ECML 2017, arXiv 1707.08040), see also Bayesian ZSL (Badirli et al. 2020, arXiv
1907.09624). Deviations: one full covariance shared by all classes; features of unit length after whitening;
kernels between descriptions and between images; the balance and the episodes are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from dkgzsl.methods.base import Method, MethodInfo, Model, Selector, Setting, Setup, Task
from dkgzsl.methods.closed_form.episodes import EpisodePlan
from dkgzsl.methods.closed_form.experts import USABLE
from dkgzsl.methods.closed_form.fitting import Fitting, takes_root
from dkgzsl.methods.closed_form.model import ClosedFormModel
from dkgzsl.methods.closed_form.settings import (
    FEW_DIMENSIONS,
    KERNEL_CHANNELS,
    LEFT_OUT,
    ClosedFormSettings,
    search,
    start_of,
)
from dkgzsl.methods.closed_form.softmax import ClosedFormSoftmax, SoftmaxModel
from dkgzsl.methods.cuts import CutSelector


class ClosedForm:
    """Solve for every combination of constants, let the selector choose.

    Args:
        settings: which constants to try and which options are open; `classifier` is not read here.
        setup: the seed decides what is learned by episodes; the closed form has nothing to draw.
        plan: of the episodes.
    """

    name = "closed-form"

    def __init__(
        self,
        settings: ClosedFormSettings | None = None,
        setup: Setup | None = None,
        *,
        plan: EpisodePlan | None = None,
    ) -> None:
        self.settings, self.setup = settings or ClosedFormSettings(), setup or Setup()
        self.seed, self.device = self.setup.seed, torch.device(self.setup.device)
        self.plan = plan or EpisodePlan()
        self._own: dict[Any, Any] = {}  # of the tasks explored last

    def explore(self, task: Task, selector: Selector) -> None:
        """As `explore_cuts` does, on one task: a setting leads where its score is higher."""
        self.explore_cuts([task], _OneCut(selector))

    def explore_cuts(self, tasks: Sequence[Task], selector: CutSelector) -> None:
        """From fixed constants on, one group of constants after the other, for every way of scaling lengths.

        An option that is set, not left to validation, is in every model that may be chosen.
        """
        self._own.clear()
        for unit_length in self._lengths(tasks[0]):
            fittings = [self._fitting(task, unit_length) for task in tasks]
            self._explore(_Best(selector, fittings, self._demanded()), unit_length)

    def _explore(self, best: _Best, unit_length: bool) -> None:
        settings, first = self.settings, best.fittings[0]
        sizes = first.sizes(settings.feature_kernel_width[0])
        start = start_of(settings, unit_length=unit_length, sizes=sizes)
        start["description_root"] = takes_root(best.fittings, start)
        if np.mean([fitting.share(start) for fitting in best.fittings]) > USABLE:
            start |= {"left_out": 0.0, "offset": 0.0}
        best.offer(start)
        self._explore_regression(best)
        for changes in self._one_by_one(first):
            best.offer({**best.setting, **changes})
        self._explore_regression(best, widths=(best.setting["kernel_width"],))
        self._explore_kernels(best)
        if settings.episodes != "off":
            best.offer({**best.setting, "episodes": "weights"})

    def _explore_regression(self, best: _Best, widths: Sequence[float] | None = None) -> None:
        """Offer every kernel between descriptions with every ridge."""
        for width, ridge in product(widths or self.settings.kernel_width, self.settings.ridge):
            best.offer({**best.setting, "kernel_width": width, "ridge": ridge})

    def _one_by_one(self, fitting: Fitting) -> Iterator[dict[str, Any]]:
        """Changes of one constant, or of one option that is left to validation."""
        settings = self.settings
        for name in ("shrinkage", "seen_blend"):
            yield from ({name: value} for value in getattr(settings, name))
        yield from ({"components": size} for size in fitting.sizes(settings.feature_kernel_width[0]))
        if settings.seen_expert == "auto":
            yield from ({"seen_expert": value} for value in (False, True))
        if settings.gate == "auto":
            yield {"gate": False, "left_out": 0.0, "offset": 0.0}
            yield {"gate": True, "left_out": 0.0, "offset": 0.0}
            yield {"gate": True, "left_out": LEFT_OUT, "offset": settings.offset}
        if settings.described_power:
            yield from ({"described_power": power} for power in (0.0, settings.described_power))

    def _explore_kernels(self, best: _Best) -> None:
        """Offer the space of each kernel between images; where one leads, ask again what is solved in it."""
        settings, first = self.settings, best.fittings[0]
        for width in self._feature_kernels(first)[1:]:
            base = {**best.setting, "feature_kernel_width": width}
            for components in first.sizes(width):
                best.offer({**base, "components": components})
            if best.setting["feature_kernel_width"] != width:
                continue
            for name in ("shrinkage", "seen_blend"):
                for value in getattr(settings, name):
                    best.offer({**best.setting, name: value})
            if best.setting["feature_kernel_width"] == width:
                self._explore_regression(best, widths=(best.setting["kernel_width"],))

    def _feature_kernels(self, fitting: Fitting) -> tuple[float, ...]:
        """Kernels between images, of which features of many channels have the first alone."""
        widths = self.settings.feature_kernel_width
        return widths if fitting.features.shape[1] <= KERNEL_CHANNELS else widths[:1]

    def _lengths(self, task: Task) -> tuple[bool, ...]:
        if self.settings.unit_length != "auto":
            return (self.settings.unit_length == "on",)
        return (True, False) if task.features.shape[1] <= FEW_DIMENSIONS else (True,)

    def _demanded(self) -> dict[str, Any]:
        return {"episodes": ("weights",)} if self.settings.episodes == "weights" else {}

    def fit(self, task: Task, setting: Setting) -> ClosedFormModel:
        """Solve the task with given constants; what is learned by episodes is learned again on all classes."""
        if all(kept.task is not task for kept in self._own.values()):
            self._own.clear()  # another task: what the last ones hold is not needed any more
        return self.fitter(task, unit_length=setting["unit_length"])(setting)

    def fitter(self, task: Task, *, unit_length: bool) -> Callable[[Setting], ClosedFormModel]:
        """Fits one task under setting after setting, keeping what they share."""
        return self._fitting(task, unit_length).model

    def _fitting(self, task: Task, unit_length: bool) -> Fitting:
        """What was computed for a task before, or a new start."""
        settings, shared = self.settings, self._own if self.setup.shared is None else self.setup.shared
        key = (
            id(task),
            settings.components,
            settings.square_root,
            settings.description_root,
            settings.seen_shrinkage,
            unit_length,
        )
        kept = shared.get(key)
        if isinstance(kept, Fitting) and kept.task is task:
            return kept
        made = Fitting(task, settings, self.seed, self.device, self.plan, unit_length)
        shared[key] = made
        return made


class _OneCut:
    """A selector of one task as one of several cuts."""

    def __init__(self, selector: Selector) -> None:
        self.selector = selector

    def __call__(
        self, setting: Setting, models: Iterator[Model], *, candidate: bool = True
    ) -> Float[np.ndarray, " cuts"]:
        return np.array([self.selector(setting, next(models), candidate=candidate)])

    def is_better(self, scores: Float[np.ndarray, " cuts"], lead: Float[np.ndarray, " lead"]) -> bool:
        return bool(scores[0] > lead[0])


class _Best:
    """Offers settings to the selector and remembers the leading one.

    Args:
        selector: scores their models.
        fittings: fit them, one for each cut.
        demanded: values that a setting must have to be chosen, by name. The first setting that has one more of
            them takes the lead, whatever its score.
    """

    def __init__(
        self, selector: CutSelector, fittings: Sequence[Fitting], demanded: Mapping[str, Sequence[Any]]
    ) -> None:
        self.selector, self.fittings, self.demanded = selector, fittings, demanded
        self.setting: dict[str, Any] = {}
        self._met, self._scores = -1, np.empty(0)
        self._offered: list[dict[str, Any]] = []
        self._roots: dict[tuple[float, float], bool] = {}  # by kernel width and ridge

    def offer(self, setting: dict[str, Any]) -> None:
        """Offer a setting."""
        setting = {**setting, "description_root": self._root(setting)}
        if setting in self._offered:
            return
        self._offered.append(setting)
        met = sum(setting[name] in values for name, values in self.demanded.items())
        models = (fitting.model(setting) for fitting in self.fittings)
        scores = self.selector(setting, models, candidate=met == len(self.demanded))
        if met > self._met or (met == self._met and self.selector.is_better(scores, self._scores)):
            self.setting, self._met, self._scores = setting, met, scores

    def _root(self, setting: Mapping[str, Any]) -> bool:
        """Whether descriptions take a root. Asked once for each regression: what is whitened changes it little."""
        key = setting["kernel_width"], setting["ridge"]
        if key not in self._roots:
            self._roots[key] = takes_root(self.fittings, setting)
        return self._roots[key]


def make(settings: ClosedFormSettings, setup: Setup) -> Method:
    """The closed form with the classifier that the settings name."""
    densities = ClosedForm(settings, setup)
    return densities if settings.classifier == "density" else ClosedFormSoftmax(densities, settings.softmax)


def keeps_features(setting: Setting) -> str | None:
    """What the model file holds of single images: their features where there is a kernel between images."""
    if not setting.get("feature_kernel_width"):
        return None
    return "the backbone's features, not the photos, of up to 1,024 training images: the kernel compares with them"


INFO = MethodInfo(
    name="closed-form",
    title="Closed form",
    paper="this package, after Verma and Rai, ECML 2017",
    settings=ClosedFormSettings,
    make=make,
    models={"closed-form": ClosedFormModel, "closed-form-softmax": SoftmaxModel},
    search=search,
    keeps_features=keeps_features,
    fewest_seen=2,
    balance=lambda setting: bool(setting.get("balance")) and setting.get("classifier") != "softmax",
)
