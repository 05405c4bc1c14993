"""The closed form of one task under many settings, keeping what they share: components, spectra, spaces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.errors import ConfigError
from dkgzsl.memory import blocks_of
from dkgzsl.methods.base import Task
from dkgzsl.methods.closed_form.episodes import DescriptionWeights, EpisodePlan, learn_by_episodes
from dkgzsl.methods.closed_form.experts import (
    Experts,
    Placed,
    SeenExpert,
    axis_variances,
    seen_unseen_balance,
)
from dkgzsl.methods.closed_form.kernel_components import KernelPrincipalSpace
from dkgzsl.methods.closed_form.kernel_ridge import DescriptionSpace, KernelRidge
from dkgzsl.methods.closed_form.model import ClosedFormModel
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.closed_form.whitening import (
    MeansSpace,
    PrincipalSpace,
    SeenStatistics,
    TurnedSpace,
    WhitenedSpace,
    WithinClassSpectrum,
    seen_statistics,
)
from dkgzsl.methods.shared.class_statistics import ClassStatistics

_SPACES_KEPT = 8  # a search over continuous constants asks for a new one each time
_SOLVED_KEPT = 2


class Fitting:
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
        self._statistics: dict[float, ClassStatistics] = {}
        self._solved: dict[tuple[bool, float, float], KernelRidge] = {}
        self._learned: tuple[str, DescriptionWeights | None] = ("", None)  # the last by episodes
        self._spectra: dict[tuple[float, int], tuple[WithinClassSpectrum, TurnedSpace]] = {}
        self._spaces: dict[tuple[float, int, float], tuple[MeansSpace, SeenStatistics]] = {}
        described = self.semantics[self.seen]
        open_root = settings.description_root == "auto" and bool((described >= 0).all())
        self.roots = (True, False) if open_root else (settings.description_root == "on",)
        self.described: dict[bool, tuple[DescriptionSpace, Float[Tensor, "seen semantic"]]] = {}
        for root in self.roots:
            descriptions = DescriptionSpace.fit(described, root=root)
            self.described[root] = descriptions, descriptions(described)

    def model(self, setting: Mapping[str, Any]) -> ClosedFormModel:
        """The model of one setting."""
        space, statistics = self._space(setting)
        width, ridge = setting["kernel_width"], setting["ridge"]
        root = setting["description_root"] if "description_root" in setting else takes_root([self], setting)
        descriptions, prepared = self.described[root]
        weights = self._weights(setting, space, statistics, prepared)
        # What episodes learned has seen every class, so that its errors would flatter it: the plain regression
        # serves.
        plain = regression = self._regression(root, setting, statistics.means)
        if weights is not None:
            learned = weights(prepared).detach()
            regression = KernelRidge.fit(learned, statistics.means, width=width, ridge=ridge)
        placed = Placed.of(plain, statistics.means)
        experts = self._experts(setting, placed, statistics, plain)
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
        self, setting: Mapping[str, Any], placed: Placed, statistics: SeenStatistics, regression: KernelRidge
    ) -> Experts | None:
        """Gate and experts that the setting asks for; None where it asks for none."""
        gate, power = setting.get("gate", False), setting.get("described_power", 0.0)
        offset, expert = setting.get("offset", 0.0), setting.get("seen_expert", False)
        if not (gate or power or offset or expert):
            return None
        own = torch.lerp(placed.means, placed.fitted, setting["seen_blend"])
        seen = None
        if expert:
            space, finer = self._space({**setting, "shrinkage": min(setting["shrinkage"], self.seen_shrinkage)})
            finer_means = regression.with_means(finer.means)(regression.seen)
            seen = SeenExpert(space, torch.lerp(finer.means, finer_means, setting["seen_blend"]), finer.variance)
        return Experts(
            gate=torch.lerp(placed.fitted, placed.left_out, setting["left_out"]) if gate else own,
            seen=seen,
            omega=axis_variances(statistics, power) if power else None,
            offset=offset * placed.error / 2,
        )

    def share(self, setting: Mapping[str, Any]) -> float:
        """|r|^2 / |M|^2 under a setting: see `Placed.share`."""
        means = self._space(setting)[1].means
        return Placed.of(self._regression(setting["description_root"], setting, means), means).share

    def root_gain(self, setting: Mapping[str, Any]) -> tuple[float, float]:
        """How much smaller the squared leave-one-class-out errors are with a root of the descriptions than
        without: mean over the seen classes, and its standard error.
        """
        means = self._space(setting)[1].means

        def errors(root: bool) -> Float[Tensor, " seen"]:
            return self._regression(root, setting, means).leave_one_out_errors().square().sum(1)

        gain = errors(False) - errors(True)
        return float(gain.mean()), float(gain.std(correction=0)) / len(gain) ** 0.5

    def _regression(self, root: bool, setting: Mapping[str, Any], means: Float[Tensor, "seen dim"]) -> KernelRidge:
        """From the descriptions of seen classes to their means; what does not depend on the means is kept."""
        key = root, setting["kernel_width"], setting["ridge"]
        if key in self._solved:
            return self._solved[key].with_means(means)
        if len(self._solved) >= _SOLVED_KEPT:
            del self._solved[next(iter(self._solved))]
        solved = KernelRidge.fit(self.described[root][1], means, width=key[1], ridge=key[2])
        self._solved[key] = solved
        return solved

    def _space(self, setting: Mapping[str, Any]) -> tuple[MeansSpace, SeenStatistics]:
        kernel_width, shrinkage = setting.get("feature_kernel_width", 0.0), setting["shrinkage"]
        principal = self._principal_space(kernel_width)
        components = min(setting["components"], principal.components)
        key = (kernel_width, components, shrinkage)
        if key not in self._spaces:
            if key[:2] not in self._spectra:
                spectrum = WithinClassSpectrum.of(self._statistics_of(kernel_width), components)
                self._spectra[key[:2]] = spectrum, TurnedSpace(principal, spectrum.vectors)
            spectrum, turned = self._spectra[key[:2]]
            whitened = WhitenedSpace(turned, spectrum.scales(shrinkage), self.unit_length)
            if len(self._spaces) >= _SPACES_KEPT:
                del self._spaces[next(iter(self._spaces))]
            self._spaces[key] = seen_statistics(whitened, self.features, self.positions, len(self.seen))
        return self._spaces[key]

    def _statistics_of(self, kernel_width: float) -> ClassStatistics:
        """Of the training images' principal coordinates, in one pass for all numbers of components."""
        if kernel_width not in self._statistics:
            principal = self._principal_space(kernel_width)
            known = ClassStatistics.empty(len(self.seen), principal.mean.new_zeros(principal.components))
            for rows, block in blocks_of(self.features):
                known.add(principal(block), self.positions[rows])
            self._statistics[kernel_width] = known
        return self._statistics[kernel_width]

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
        key = json.dumps(dict(setting), sort_keys=True)
        if key == self._learned[0]:
            return self._learned[1]
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
        self._learned = key, weights
        return weights


def takes_root(fittings: Sequence[Fitting], setting: Mapping[str, Any]) -> bool:
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
