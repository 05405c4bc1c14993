"""The closed form: class densities whose unseen prototypes are solved for, constants chosen on held-out classes.

Whitening, prototypes and balance are solved (`whitening`, `kernel_ridge`, `balance`). What is learned on top
(episodes) is offered to the selector after the best constants are known, and stays only where the selector prefers
it.

Source: GFZSL (Verma and Rai, ECML 2017, arXiv 1707.08040), see also Bayesian ZSL (Badirli et al. 2020, arXiv
1907.09624). Deviations: one full covariance shared by all classes; features of unit length after whitening;
kernels between descriptions and between images; the balance and the episodes are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.errors import ConfigError
from dkgzsl.methods.base import Method, MethodInfo, Selector, Setting, Setup, Task
from dkgzsl.methods.closed_form.balance import seen_unseen_balance
from dkgzsl.methods.closed_form.episodes import DescriptionWeights, EpisodePlan, learn_by_episodes
from dkgzsl.methods.closed_form.kernel_components import KernelPrincipalSpace
from dkgzsl.methods.closed_form.kernel_ridge import DescriptionSpace, KernelRidge
from dkgzsl.methods.closed_form.model import ClosedFormModel
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.closed_form.softmax import ClosedFormSoftmax, SoftmaxModel
from dkgzsl.methods.closed_form.whitening import (
    MeansSpace,
    PrincipalSpace,
    SeenStatistics,
    WhitenedSpace,
    WithinClassSpectrum,
    seen_statistics,
)
from dkgzsl.methods.search import Choice, Range, Space

FEW_DIMENSIONS = 64
"""Up to so many channels validation chooses whether features are scaled to unit length. With hundreds of
dimensions unit length is the better choice; with a handful a class may lie in the middle of the others, and has no
direction."""
_SPACES_KEPT = 8  # a search over continuous constants asks for a new one each time


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

    def explore(self, task: Task, selector: Selector) -> None:
        """Constants first, then each option on top of the best so far, for every way of scaling lengths.

        An option that is set, not left to validation, is in every model that may be chosen.
        """
        for unit_length in self._lengths(task):
            best = _Best(selector, self._fitting(task, unit_length), self._demanded())
            self._explore(best, unit_length)

    def _explore(self, best: _Best, unit_length: bool) -> None:
        settings, fitting = self.settings, best.fitting
        plain = {
            "unit_length": unit_length,
            "feature_kernel_width": settings.feature_kernel_width[0],
            "seen_blend": 0.0,
            "balance": settings.balance == "on",
            "episodes": "off",
        }
        for setting in self._constants(fitting):
            best.offer({**setting, "description_root": fitting.root_for(setting), **plain})
        for changes in self._blends():
            best.offer({**best.setting, **changes})
        self._explore_kernels(best)
        if settings.episodes != "off":
            best.offer({**best.setting, "episodes": "weights"})

    def _explore_kernels(self, best: _Best) -> None:
        """Offer the space of each kernel between images; where one leads, ask again what is solved in it."""
        settings, fitting = self.settings, best.fitting
        for width in settings.feature_kernel_width[1:]:
            sizes = fitting.sizes(width)
            for components, shrinkage, blend in product(sizes, settings.shrinkage, settings.seen_blend):
                changes = {"components": components, "shrinkage": shrinkage, "seen_blend": blend}
                best.offer({**best.setting, "feature_kernel_width": width, **changes})
            if best.setting["feature_kernel_width"] != width:
                continue
            found = best.setting
            for kernel_width, ridge in product(settings.kernel_width, settings.ridge):
                setting = {**found, "kernel_width": kernel_width, "ridge": ridge}
                best.offer({**setting, "description_root": fitting.root_for(setting)})

    def _lengths(self, task: Task) -> tuple[bool, ...]:
        if self.settings.unit_length != "auto":
            return (self.settings.unit_length == "on",)
        return (True, False) if task.features.shape[1] <= FEW_DIMENSIONS else (True,)

    def _demanded(self) -> dict[str, Any]:
        demanded: dict[str, Any] = {}
        if 0.0 not in self.settings.seen_blend:
            demanded["seen_blend"] = self.settings.seen_blend
        if self.settings.episodes == "weights":
            demanded["episodes"] = ("weights",)
        return demanded

    def _constants(self, fitting: _Fitting) -> Iterator[dict[str, Any]]:
        settings = self.settings
        sizes = fitting.sizes(settings.feature_kernel_width[0])
        names = ("components", "shrinkage", "kernel_width", "ridge")
        for values in product(sizes, settings.shrinkage, settings.kernel_width, settings.ridge):
            yield dict(zip(names, values, strict=True))

    def _blends(self) -> Iterator[dict[str, Any]]:
        for blend in self.settings.seen_blend:
            if blend:  # a predicted prototype of a seen class depends on the ridge, its own mean does not
                for ridge in self.settings.ridge:
                    yield {"seen_blend": blend, "ridge": ridge}

    def fit(self, task: Task, setting: Setting) -> ClosedFormModel:
        """Solve the task with given constants; what is learned by episodes is learned again on all classes."""
        return self.fitter(task, unit_length=setting["unit_length"])(setting)

    def fitter(self, task: Task, *, unit_length: bool) -> Callable[[Setting], ClosedFormModel]:
        """Fits one task under setting after setting, keeping what they share."""
        return self._fitting(task, unit_length).model

    def _fitting(self, task: Task, unit_length: bool) -> _Fitting:
        settings, shared = self.settings, self.setup.shared
        key = (id(task), settings.components, settings.square_root, settings.description_root, unit_length)
        kept = None if shared is None else shared.get(key)
        if isinstance(kept, _Fitting) and kept.task is task:
            return kept
        made = _Fitting(task, settings, self.seed, self.device, self.plan, unit_length)
        if shared is not None:
            shared[key] = made
        return made


class _Best:
    """Offers models to the selector and remembers the best setting.

    Args:
        selector: scores them.
        fitting: fits them.
        demanded: values that a setting must have to be chosen, by name. The first setting that has one more of
            them takes the lead, whatever its score.
    """

    def __init__(self, selector: Selector, fitting: _Fitting, demanded: Mapping[str, Sequence[Any]]) -> None:
        self.selector, self.fitting, self.demanded = selector, fitting, demanded
        self.setting: dict[str, Any] = {}
        self._rank = (-1, float("-inf"))

    def offer(self, setting: dict[str, Any]) -> None:
        met = sum(setting[name] in values for name, values in self.demanded.items())
        score = self.selector(setting, self.fitting.model(setting), candidate=met == len(self.demanded))
        if (met, score) > self._rank:
            self.setting, self._rank = setting, (met, score)


class _Fitting:
    """Fits one task under many settings, keeping what they share: components, spectra, spaces."""

    def __init__(
        self,
        task: Task,
        settings: ClosedFormSettings,
        seed: int,
        device: torch.device,
        plan: EpisodePlan,
        unit_length: bool,
    ) -> None:
        self.task, self.seed, self.device, self.plan, self.unit_length = task, seed, device, plan, unit_length
        self.features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.semantics = task.semantics.to(device)
        self.positions: Int[Tensor, " images"] = torch.searchsorted(self.seen, task.labels.to(device))
        positive = settings.square_root != "off" and bool((self.features >= 0).all())
        if settings.square_root == "on" and not positive:
            raise ConfigError("negative features have no square root", fix="leave closed_form.square_root out")
        self.square_root, self.components = positive, settings.components
        self._principal: dict[float, PrincipalSpace] = {}
        self._spectra: dict[tuple[float, int], WithinClassSpectrum] = {}
        self._spaces: dict[tuple[float, int, float], tuple[MeansSpace, SeenStatistics]] = {}
        described = self.semantics[self.seen]
        open_root = settings.description_root == "auto" and bool((described >= 0).all())
        self.roots = (True, False) if open_root else (settings.description_root == "on",)
        self.described: dict[bool, tuple[DescriptionSpace, Float[Tensor, "seen semantic"]]] = {}
        for root in self.roots:
            descriptions = DescriptionSpace.fit(described, root=root)
            self.described[root] = descriptions, descriptions(described)

    def model(self, setting: Mapping[str, Any]) -> ClosedFormModel:
        space, statistics = self._space(setting)
        width, ridge = setting["kernel_width"], setting["ridge"]
        root = setting["description_root"] if "description_root" in setting else self.root_for(setting)
        descriptions, prepared = self.described[root]
        weights = self._weights(setting, space, statistics, prepared)
        described = prepared if weights is None else weights(prepared)
        regression = KernelRidge.fit(described.detach(), statistics.means, width=width, ridge=ridge)
        return ClosedFormModel(
            space=space,
            statistics=statistics,
            seen=self.seen,
            unseen=self.unseen,
            semantics=self.semantics,
            descriptions=descriptions,
            weights=weights,
            regression=regression,
            setting=setting,
            balance=self._balance(setting, statistics, prepared) if setting.get("balance") else 0.0,
        )

    def root_for(self, setting: Mapping[str, Any]) -> bool:
        """Whether descriptions take a root: where that predicts seen classes better, each from all the others.

        Better by more than the standard error of the difference of squared errors: few classes say nothing, and
        then descriptions stay as they are.
        """
        if len(self.roots) == 1:
            return self.roots[0]
        means = self._space(setting)[1].means

        def errors(root: bool) -> Float[Tensor, " seen"]:
            described = self.described[root][1]
            solved = KernelRidge.fit(described, means, width=setting["kernel_width"], ridge=setting["ridge"])
            return solved.leave_one_out_errors().square().sum(1)

        gain = errors(False) - errors(True)
        return bool(gain.mean() > gain.std(correction=0) / len(gain) ** 0.5)

    def _balance(self, setting: Mapping[str, Any], statistics: SeenStatistics, prepared: Tensor) -> float:
        """By the plain regression: what episodes learned has seen every class, so its errors would flatter it."""
        means = statistics.means
        plain = KernelRidge.fit(prepared, means, width=setting["kernel_width"], ridge=setting["ridge"])
        placed = torch.lerp(means, plain(prepared), setting["seen_blend"])
        return seen_unseen_balance(means, placed, means - plain.leave_one_out_errors(), statistics.variance)

    def _space(self, setting: Mapping[str, Any]) -> tuple[MeansSpace, SeenStatistics]:
        kernel_width, shrinkage = setting.get("feature_kernel_width", 0.0), setting["shrinkage"]
        principal = self._principal_space(kernel_width)
        components = min(setting["components"], principal.components)
        key = (kernel_width, components, shrinkage)
        if key not in self._spaces:
            if key[:2] not in self._spectra:
                coordinates = principal(self.features)[:, :components]
                self._spectra[key[:2]] = WithinClassSpectrum.fit(coordinates, self.positions, len(self.seen))
            whitener = self._spectra[key[:2]].whitener(shrinkage)
            whitened = WhitenedSpace(principal, whitener, self.unit_length)
            if len(self._spaces) >= _SPACES_KEPT:
                del self._spaces[next(iter(self._spaces))]
            self._spaces[key] = seen_statistics(whitened, self.features, self.positions, len(self.seen))
        return self._spaces[key]

    def sizes(self, kernel_width: float) -> tuple[int, ...]:
        """Numbers of components to try in a space: what is cut at the size of the space needs no second trial."""
        most = self._principal_space(kernel_width).components
        return tuple(dict.fromkeys(min(components, most) for components in self.components))

    def _principal_space(self, kernel_width: float) -> PrincipalSpace:
        if kernel_width not in self._principal:
            most, root = max(self.components), self.square_root
            self._principal[kernel_width] = (
                KernelPrincipalSpace.of_training(self.features, most, square_root=root, width=kernel_width)
                if kernel_width
                else PrincipalSpace.fit(self.features, most, square_root=root)
            )
        return self._principal[kernel_width]

    def _weights(
        self, setting: Mapping[str, Any], space: MeansSpace, statistics: SeenStatistics, prepared: Tensor
    ) -> DescriptionWeights | None:
        if setting["episodes"] == "off":
            return None
        weights = DescriptionWeights(prepared.shape[1]).to(self.device)
        learn_by_episodes(
            weights,
            points=space(self.features),
            positions=self.positions,
            descriptions=prepared,
            variance=statistics.variance,
            width=setting["kernel_width"],
            ridge=setting["ridge"],
            plan=self.plan,
            seed=self.seed,
        )
        return weights


# Components are halved from step to step: what was computed for a step serves every trial on it.
_COMPONENTS = (32, 64, 128, 256, 512, 1024, 2048)


def search(settings: ClosedFormSettings, images: int) -> Space:
    """What `tune` tries: continuous ranges where the exploration has a grid.

    Args:
        settings: of the search.
        images: training images; with a kernel between images there may be more components than channels.
    """
    del settings
    within = tuple(step for step in _COMPONENTS if step <= images)
    return {
        "components": Choice(within or (images,), start=512),
        "shrinkage": Range(0.05, 0.95, start=0.6),
        "kernel_width": Range(0.0, 8.0, start=2.0),
        "feature_kernel_width": Choice((0.0, 0.5, 1.0, 2.0, 4.0), start=0.0),
        "ridge": Range(1e-3, 1.0, start=0.03, log=True),
        "seen_blend": Range(0.0, 1.0, start=0.5),
        "episodes": Choice(("off", "weights"), start="weights"),
    }


def make(settings: ClosedFormSettings, setup: Setup) -> Method:
    """The closed form with the classifier that the settings name."""
    densities = ClosedForm(settings, setup)
    return densities if settings.classifier == "density" else ClosedFormSoftmax(densities, settings.softmax)


def middle_of(settings: ClosedFormSettings, *, dimensions: int) -> ClosedFormSettings:
    """Settings with one value each, the offered one that is nearest to the middle: where nothing can be chosen.

    Args:
        settings: with several values, and options left to validation.
        dimensions: of the features.
    """
    nearest: dict[str, Any] = {
        name: (min(getattr(settings, name), key=partial(_distance, middle)),) for name, middle in MIDDLE.items()
    }
    unit = "on" if dimensions > FEW_DIMENSIONS else "off"
    options: dict[str, Any] = {"episodes": "off", "unit_length": unit}
    settled = {name: to for name, to in options.items() if getattr(settings, name) == "auto"}
    return replace(settings, **nearest, **settled)


def _distance(one: int | float, other: int | float) -> float:
    return float(abs(one - other))


MIDDLE = {
    "components": 512,
    "shrinkage": 0.6,
    "kernel_width": 0.0,
    "feature_kernel_width": 0.0,
    "ridge": 0.1,
    "seen_blend": 0.0,
}
"""What serves where nothing can be chosen."""


def keeps_features(setting: Setting) -> str | None:
    """What the model file holds of single images: their features where there is a kernel between images."""
    if not setting.get("feature_kernel_width"):
        return None
    return "the backbone's features, not the photos, of up to 2,048 training images: the kernel compares with them"


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
