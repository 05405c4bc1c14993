"""The default method: knowledge in closed form, its few constants chosen on held-out classes.

Steps 1 to 3 are solved. What is learned on top (episodes, fusion) is offered to the selector after the best constants
are known, and stays only where the selector prefers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.config import ClosedFormSettings
from dkgzsl.errors import ConfigError
from dkgzsl.methods.base import Selector, Setting, Task
from dkgzsl.methods.closed_form.balance import seen_unseen_balance
from dkgzsl.methods.closed_form.episodes import (
    DescriptionResidual,
    DescriptionWeights,
    EpisodePlan,
    PrototypeFusion,
    learn_by_episodes,
)
from dkgzsl.methods.closed_form.kernel_components import KernelPrincipalSpace
from dkgzsl.methods.closed_form.kernel_ridge import DescriptionSpace, KernelRidge
from dkgzsl.methods.closed_form.model import (
    ClosedFormModel,
    DescriptionMap,
    MeansSpace,
    SeenStatistics,
    seen_statistics,
)
from dkgzsl.methods.closed_form.whitening import PrincipalSpace, WhitenedSpace, WithinClassSpectrum


def knowledge(*, seed: int, device: str, minutes: float | None) -> ClosedForm:
    """The default form. It takes seconds: `minutes` caps nothing."""
    del minutes
    return ClosedForm(ClosedFormSettings(), seed=seed, device=device)


# Step 4 of the closed form; the residual's numbers are the middle of the range that worked.
_PLANS = {
    "weights": EpisodePlan(episodes=50, learning_rate=0.01),
    "residual": EpisodePlan(episodes=100, learning_rate=3e-4),
    "fusion": EpisodePlan(episodes=100, learning_rate=3e-4),
}


_SPACES_KEPT = 8  # a search over continuous constants asks for a new one each time


class ClosedForm:
    """Solve the knowledge for every combination of constants, let the selector choose.

    Args:
        config: which constants to try and which options are open.
        seed: decides what is learned by episodes; the closed form has nothing to draw.
        device: where to compute.
        episodes: episodes of each learned option (default: what worked for it).
        queries: images scored an episode (default: likewise).
    """

    name = "dkgzsl"

    def __init__(
        self,
        config: ClosedFormSettings,
        *,
        seed: int = 0,
        device: str = "cpu",
        episodes: int | None = None,
        queries: int | None = None,
    ) -> None:
        self.config, self.seed, self.device = config, seed, torch.device(device)
        given = {name: value for name, value in (("episodes", episodes), ("queries", queries)) if value}
        self.plans = {name: replace(plan, **given) for name, plan in _PLANS.items()}

    def explore(self, task: Task, selector: Selector) -> None:
        """Constants first, then each option on top of the best so far.

        An option that is set, not left to validation, is in every model that may be chosen.
        """
        fitting = _Fitting(task, self.config, self.seed, self.device, self.plans)
        best = _Best(selector, fitting, self._demanded())
        uncertain = self.config.uncertainty == "on"
        balanced = self.config.balance == "on" and not uncertain
        plain = {
            "feature_kernel_width": self.config.feature_kernel_width[0],
            "seen_blend": 0.0,
            "uncertainty": uncertain,
            "balance": balanced,
            "episodes": "off",
            "fusion": False,
        }
        for setting in self._constants(fitting):
            best.offer({**setting, "description_root": fitting.root_for(setting), **plain})
        for changes in self._blends():
            best.offer({**best.setting, **changes})
        self._explore_kernels(best, fitting)
        for changes in self._options():
            best.offer({**best.setting, **changes})

    def _explore_kernels(self, best: _Best, fitting: _Fitting) -> None:
        """Offer the space of each kernel between images; where one leads, ask again what is solved in it."""
        config = self.config
        for width in config.feature_kernel_width[1:]:
            sizes = fitting.sizes(width)
            for components, shrinkage, blend in product(sizes, config.shrinkage, config.seen_blend):
                changes = {"components": components, "shrinkage": shrinkage, "seen_blend": blend}
                best.offer({**best.setting, "feature_kernel_width": width, **changes})
            if best.setting["feature_kernel_width"] != width:
                continue
            found = best.setting
            for kernel_width, ridge in product(config.kernel_width, config.ridge):
                setting = {**found, "kernel_width": kernel_width, "ridge": ridge}
                best.offer({**setting, "description_root": fitting.root_for(setting)})

    def _demanded(self) -> dict[str, Any]:
        config = self.config
        demanded: dict[str, Any] = {}
        if 0.0 not in config.seen_blend:
            demanded["seen_blend"] = config.seen_blend
        if config.episodes not in ("auto", "off"):
            demanded["episodes"] = (config.episodes,)
        if config.fusion == "on":
            demanded["fusion"] = (True,)
        return demanded

    def _constants(self, fitting: _Fitting) -> Iterator[dict[str, Any]]:
        config = self.config
        sizes = fitting.sizes(config.feature_kernel_width[0])
        names = ("components", "shrinkage", "kernel_width", "ridge")
        for values in product(sizes, config.shrinkage, config.kernel_width, config.ridge):
            yield dict(zip(names, values, strict=True))

    def _blends(self) -> Iterator[dict[str, Any]]:
        config = self.config
        for blend in config.seen_blend:
            if blend:  # a predicted prototype of a seen class depends on the ridge, its own mean does not
                for ridge in config.ridge:
                    yield {"seen_blend": blend, "ridge": ridge}

    def _options(self) -> Iterator[dict[str, Any]]:
        config = self.config
        if config.uncertainty == "auto":
            yield {"uncertainty": True, "balance": False}  # it widens the densities to the same end
        if config.episodes != "off":
            yield {"episodes": "weights" if config.episodes == "auto" else config.episodes}
        if config.fusion != "off":
            yield {"fusion": True}

    def fit(self, task: Task, setting: Setting) -> ClosedFormModel:
        """Solve the task with given constants; learned options are learned again on all of its classes."""
        return self.fitter(task)(setting)

    def fitter(self, task: Task) -> Callable[[Setting], ClosedFormModel]:
        """Fits one task under setting after setting, keeping what they share."""
        return _Fitting(task, self.config, self.seed, self.device, self.plans).model


class _Best:
    """Offers models to the selector and remembers the best setting.

    Args:
        selector: who scores them.
        fitting: who fits them.
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
        config: ClosedFormSettings,
        seed: int,
        device: torch.device,
        plans: Mapping[str, EpisodePlan],
    ) -> None:
        self.task, self.seed, self.device, self.plans = task, seed, device, plans
        self.unit_length = config.unit_length != "off"
        self.features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.semantics = task.semantics.to(device)
        self.positions: Int[Tensor, " images"] = torch.searchsorted(self.seen, task.labels.to(device))
        positive = config.square_root != "off" and bool((self.features >= 0).all())
        if config.square_root == "on" and not positive:
            raise ConfigError("negative features have no square root", fix="leave --knowledge.square-root out")
        self.square_root, self.components = positive, config.components
        self._principal: dict[float, PrincipalSpace] = {}
        self._spectra: dict[tuple[float, int], WithinClassSpectrum] = {}
        self._spaces: dict[tuple[float, int, float], tuple[MeansSpace, SeenStatistics]] = {}
        described = self.semantics[self.seen]
        open_root = config.description_root == "auto" and bool((described >= 0).all())
        self.roots = (True, False) if open_root else (config.description_root == "on",)
        self.described: dict[bool, tuple[DescriptionSpace, Float[Tensor, "seen semantic"]]] = {}
        for root in self.roots:
            descriptions = DescriptionSpace.fit(described, root=root)
            self.described[root] = descriptions, descriptions(described)

    def model(self, setting: Mapping[str, Any]) -> ClosedFormModel:
        space, statistics = self._space(setting)
        width, ridge = setting["kernel_width"], setting["ridge"]
        root = setting["description_root"] if "description_root" in setting else self.root_for(setting)
        descriptions, prepared = self.described[root]
        description_map = self._description_map(setting, space, statistics, prepared)
        described = prepared if description_map is None else description_map(prepared)
        regression = KernelRidge.fit(described.detach(), statistics.means, width=width, ridge=ridge)
        fusion = self._fusion(setting, space, statistics, prepared, description_map)
        return ClosedFormModel(
            space=space,
            statistics=statistics,
            seen=self.seen,
            unseen=self.unseen,
            semantics=self.semantics,
            descriptions=descriptions,
            description_map=description_map,
            fusion=fusion,
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
            most = max(self.components)
            self._principal[kernel_width] = (
                KernelPrincipalSpace.of_training(
                    self.features, most, square_root=self.square_root, width=kernel_width
                )
                if kernel_width
                else PrincipalSpace.fit(self.features, most, square_root=self.square_root)
            )
        return self._principal[kernel_width]

    def _description_map(
        self, setting: Mapping[str, Any], space: MeansSpace, statistics: SeenStatistics, prepared: Tensor
    ) -> DescriptionMap | None:
        form = setting["episodes"]
        if form == "off":
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            semantic = prepared.shape[1]
            learned: DescriptionMap = (
                DescriptionWeights(semantic) if form == "weights" else DescriptionResidual(semantic)
            )
        learned.to(self.device)
        self._learn(
            learned,
            setting,
            space,
            statistics,
            prepared,
            form,
            describe=learned,
            prototypes=lambda regression, raw: regression(learned(raw)),
        )
        return learned

    def _fusion(
        self,
        setting: Mapping[str, Any],
        space: MeansSpace,
        statistics: SeenStatistics,
        prepared: Tensor,
        description_map: DescriptionMap | None,
    ) -> PrototypeFusion | None:
        if not setting["fusion"]:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1)
            fusion = PrototypeFusion(statistics.means.shape[1], prepared.shape[1]).to(self.device)

        def describe(raw: Tensor) -> Tensor:
            return raw if description_map is None else description_map(raw).detach()

        self._learn(
            fusion,
            setting,
            space,
            statistics,
            prepared,
            "fusion",
            describe=describe,
            prototypes=lambda regression, raw: fusion(regression(describe(raw)), raw),
        )
        return fusion

    def _learn(
        self,
        module: torch.nn.Module,
        setting: Mapping[str, Any],
        space: MeansSpace,
        statistics: SeenStatistics,
        prepared: Tensor,
        plan: str,
        **how: Any,
    ) -> None:
        learn_by_episodes(
            module,
            points=space(self.features),
            positions=self.positions,
            descriptions=prepared,
            variance=statistics.variance,
            width=setting["kernel_width"],
            ridge=setting["ridge"],
            plan=self.plans[plan],
            seed=self.seed,
            **how,
        )
