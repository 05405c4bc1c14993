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
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.errors import ConfigError
from dkgzsl.methods.base import CutSelector, Method, MethodInfo, Model, Selector, Setting, Setup, Task
from dkgzsl.methods.closed_form.episodes import DescriptionWeights, EpisodePlan, learn_by_episodes
from dkgzsl.methods.closed_form.experts import (
    LEFT_OUT,
    Experts,
    Placed,
    SeenExpert,
    axis_variances,
    seen_unseen_balance,
)
from dkgzsl.methods.closed_form.kernel_components import KernelPrincipalSpace
from dkgzsl.methods.closed_form.kernel_ridge import DescriptionSpace, KernelRidge
from dkgzsl.methods.closed_form.model import ClosedFormModel
from dkgzsl.methods.closed_form.settings import (
    FEW_DIMENSIONS,
    KERNEL_CHANNELS,
    ClosedFormSettings,
    search,
    start_of,
)
from dkgzsl.methods.closed_form.softmax import ClosedFormSoftmax, SoftmaxModel
from dkgzsl.methods.closed_form.whitening import (
    MeansSpace,
    PrincipalSpace,
    SeenStatistics,
    WhitenedSpace,
    WithinClassSpectrum,
    seen_statistics,
)

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
        best.offer(
            start_of(settings, unit_length=unit_length, sizes=first.sizes(settings.feature_kernel_width[0]))
        )
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

    def _one_by_one(self, fitting: _Fitting) -> Iterator[dict[str, Any]]:
        """Changes of one constant, or of one option that is left to validation."""
        settings = self.settings
        for name in ("shrinkage", "seen_blend"):
            yield from ({name: value} for value in getattr(settings, name))
        yield from ({"components": size} for size in fitting.sizes(settings.feature_kernel_width[0]))
        if settings.seen_expert == "auto":
            yield from ({"seen_expert": value} for value in (False, True))
        if settings.gate == "auto":
            yield {"gate": False, "offset": 0.0}
            yield {"offset": 0.0}
            yield {"gate": True, "offset": settings.offset}
        if settings.described_power:
            yield from ({"described_power": power} for power in (0.0, settings.described_power))

    def _explore_kernels(self, best: _Best) -> None:
        """Offer the space of each kernel between images; where one leads, ask again what is solved in it."""
        settings, first = self.settings, best.fittings[0]
        for width in self._feature_kernels(first)[1:]:
            sizes = first.sizes(width)
            for components, shrinkage, blend in product(sizes, settings.shrinkage, settings.seen_blend):
                changes = {"components": components, "shrinkage": shrinkage, "seen_blend": blend}
                best.offer({**best.setting, "feature_kernel_width": width, **changes})
            if best.setting["feature_kernel_width"] == width:
                self._explore_regression(best)

    def _feature_kernels(self, fitting: _Fitting) -> tuple[float, ...]:
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

    def _fitting(self, task: Task, unit_length: bool) -> _Fitting:
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
        if isinstance(kept, _Fitting) and kept.task is task:
            return kept
        made = _Fitting(task, settings, self.seed, self.device, self.plan, unit_length)
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
        self, selector: CutSelector, fittings: Sequence[_Fitting], demanded: Mapping[str, Sequence[Any]]
    ) -> None:
        self.selector, self.fittings, self.demanded = selector, fittings, demanded
        self.setting: dict[str, Any] = {}
        self._met, self._scores = -1, np.empty(0)
        self._offered: list[dict[str, Any]] = []

    def offer(self, setting: dict[str, Any]) -> None:
        """Offer a setting."""
        setting = {**setting, "description_root": takes_root(self.fittings, setting)}
        if setting in self._offered:
            return
        self._offered.append(setting)
        met = sum(setting[name] in values for name, values in self.demanded.items())
        models = (fitting.model(setting) for fitting in self.fittings)
        scores = self.selector(setting, models, candidate=met == len(self.demanded))
        if met > self._met or (met == self._met and self.selector.is_better(scores, self._scores)):
            self.setting, self._met, self._scores = setting, met, scores


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
        self.seen_shrinkage = settings.seen_shrinkage
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
        root = setting["description_root"] if "description_root" in setting else takes_root([self], setting)
        descriptions, prepared = self.described[root]
        weights = self._weights(setting, space, statistics, prepared)
        described = prepared if weights is None else weights(prepared)
        regression = KernelRidge.fit(described.detach(), statistics.means, width=width, ridge=ridge)
        # What episodes learned has seen every class, so that its errors would flatter it: the plain regression
        # tells.
        plain = (
            regression
            if weights is None
            else KernelRidge.fit(prepared, statistics.means, width=width, ridge=ridge)
        )
        placed = Placed.of(plain, statistics.means)
        experts = self._experts(setting, placed, statistics, prepared)
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
            balance=_balance(setting, placed, experts, statistics.variance) if setting.get("balance") else 0.0,
            experts=experts,
        )

    def _experts(
        self, setting: Mapping[str, Any], placed: Placed, statistics: SeenStatistics, prepared: Tensor
    ) -> Experts | None:
        """Gate and experts that the setting asks for; None where it asks for none."""
        gate, power = setting.get("gate", False), setting.get("described_power", 0.0)
        offset, expert = setting.get("offset", 0.0), setting.get("seen_expert", False)
        if not (gate or power or offset or expert):
            return None
        reliance = placed.reliance
        own = torch.lerp(placed.means, placed.fitted, setting["seen_blend"])
        seen = None
        if expert:
            space, finer = self._space({**setting, "shrinkage": min(setting["shrinkage"], self.seen_shrinkage)})
            finer_means = KernelRidge.fit(
                prepared, finer.means, width=setting["kernel_width"], ridge=setting["ridge"]
            )(prepared)
            seen = SeenExpert(space, torch.lerp(finer.means, finer_means, setting["seen_blend"]), finer.variance)
        predicted = torch.lerp(placed.fitted, placed.left_out, LEFT_OUT)
        return Experts(
            gate=torch.lerp(own, predicted, reliance) if gate else own,
            seen=seen,
            omega=axis_variances(statistics, power * reliance) if power else None,
            offset=offset * reliance * placed.error / 2,
        )

    def root_gain(self, setting: Mapping[str, Any]) -> tuple[float, float]:
        """How much smaller the squared leave-one-class-out errors are with a root of the descriptions than
        without: mean over the seen classes, and its standard error.
        """
        means = self._space(setting)[1].means

        def errors(root: bool) -> Float[Tensor, " seen"]:
            described = self.described[root][1]
            solved = KernelRidge.fit(described, means, width=setting["kernel_width"], ridge=setting["ridge"])
            return solved.leave_one_out_errors().square().sum(1)

        gain = errors(False) - errors(True)
        return float(gain.mean()), float(gain.std(correction=0)) / len(gain) ** 0.5

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


def takes_root(fittings: Sequence[_Fitting], setting: Mapping[str, Any]) -> bool:
    """Whether descriptions take a root: where that predicts seen classes better, each from all the others.

    Better by more than the standard error of the difference, both means over the cuts: few classes say nothing,
    and then descriptions stay as they are.
    """
    if len(fittings[0].roots) == 1:
        return fittings[0].roots[0]
    gain, error = np.mean([fitting.root_gain(setting) for fitting in fittings], axis=0)
    return bool(gain > error)


def _balance(setting: Mapping[str, Any], placed: Placed, experts: Experts | None, variance: float) -> float:
    """The balance, less what the offsets add to a described class on average."""
    if experts is None:
        gate, offset = torch.lerp(placed.means, placed.fitted, setting["seen_blend"]), 0.0
    else:
        gate, offset = experts.gate, experts.offset * float(placed.open.mean()) / variance
    return seen_unseen_balance(placed.means, gate, placed.left_out, variance) - offset


def make(settings: ClosedFormSettings, setup: Setup) -> Method:
    """The closed form with the classifier that the settings name."""
    densities = ClosedForm(settings, setup)
    return densities if settings.classifier == "density" else ClosedFormSoftmax(densities, settings.softmax)


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
