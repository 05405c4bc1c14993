"""GFZSL, the exponential family framework (arXiv 1707.08040), inductive form.

x | class c ~ N(mu_c, diag(sigma_c^2)). Kernel ridge regression from the descriptions of the seen classes
predicts mu_c and log sigma_c^2 of the unseen ones: f(a) = k(a)^T (K + l I)^-1 [values of the seen classes],
linear or Gaussian k. Score: the log density of the image.

Deviations: descriptions have length 1. The Gaussian kernel's width is measured by the median distance of the
seen descriptions, the penalties by the mean diagonal of K. How variances are regularised is not in the paper:
each gets a share of the mean variance within classes added. A seen class has its own estimates or predicted
ones; the selector chooses. Constants are tried in two rounds, not all combined.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.cache import InputCache
from dkgzsl.config import check_ranges
from dkgzsl.methods.base import MethodInfo, Selector, Setting, Setup, Task
from dkgzsl.methods.peers.gaussian_model import GaussianModel, Regression, median_distance
from dkgzsl.methods.shared.class_statistics import class_means, class_variances
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, check_names, fitting_scalings


@dataclass(frozen=True)
class GFZSLSettings:
    """Normal densities whose parameters kernel regressions predict. The lists are tried in two rounds.

    Raises:
        ConfigError: a value is out of its range.
    """

    powers: tuple[int, ...] = (-3, -2, -1, 0)
    """Exponents of ten to try for both ridges, relative to the kernel's mean diagonal."""
    widths: tuple[float, ...] = (0.0, 1.0, 2.0)
    """Widths of the Gaussian kernel to try, in median distances of the seen descriptions; 0: the linear kernel."""
    floors: tuple[float, ...] = (0.1, 1.0)
    """Shares of the mean variance within classes to add to every variance; the first round."""
    further_floors: tuple[float, ...] = (0.01, 0.3, 3.0)
    """Shares to add in the second round."""
    scalings: tuple[str, ...] = SCALINGS
    """Scales of the features to try: none, min-max, unit, square-root, standard."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "gfzsl.",
            at_least={"powers": -12, "widths": 0},
            above_zero=("floors", "further_floors"),
        )
        check_names(self.scalings, SCALINGS, "gfzsl.scalings")


class GFZSL:
    """Kernel, penalties, scale, regularisation, and what stands for seen classes are chosen by the selector.

    Args:
        settings: what to try.
        setup: nothing is drawn, and nothing needs a cap on the minutes.
    """

    name = "gfzsl"

    def __init__(self, settings: GFZSLSettings | None = None, setup: Setup | None = None) -> None:
        self.settings = settings or GFZSLSettings()
        self.device = torch.device((setup or Setup()).device)

    def explore(self, task: Task, selector: Selector) -> None:
        """One penalty for both regressions, seen classes by their own estimates; then what the best lacks."""
        best: tuple[float, dict[str, Any]] = (float("-inf"), {})
        for scaling in fitting_scalings(self.settings.scalings, task.features):
            fitting = _Fitting(task, scaling, self.device)
            for setting in self._first_round(scaling):
                score = selector(setting, fitting.model(setting))
                if not best[1] or score > best[0]:
                    best = score, setting
        fitting = _Fitting(task, best[1]["scaling"], self.device)
        for changes in self._second_round(best[1]):
            setting = {**best[1], **changes}
            score = selector(setting, fitting.model(setting))
            if score > best[0]:
                best = score, setting

    def _first_round(self, scaling: str) -> Iterator[dict[str, Any]]:
        for width in self.settings.widths:
            for power in self.settings.powers:
                for floor in self.settings.floors:
                    yield {
                        "scaling": scaling,
                        "width": width,
                        "power": power,
                        "variance_power": power,
                        "floor": floor,
                        "seen": "own",
                    }

    def _second_round(self, best: Setting) -> Iterator[dict[str, Any]]:
        yield {"seen": "predicted"}
        yield from ({"floor": floor} for floor in self.settings.further_floors)
        yield from ({"variance_power": p} for p in self.settings.powers if p != best["variance_power"])
        yield from (
            {"power": best["power"] + step} for step in (-1, 1) if best["power"] + step not in self.settings.powers
        )

    def fit(self, task: Task, setting: Setting) -> GaussianModel:
        """Fit with one setting."""
        return _Fitting(task, setting["scaling"], self.device).model(setting)


class _Fitting:
    def __init__(self, task: Task, scaling: str, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.semantics = task.semantics.to(features)
        self.scaling, self.scaled = Scaling.fit(scaling, features), InputCache()
        scaled = self.scaling(features)
        positions = torch.searchsorted(self.seen, task.labels.to(device))
        self.means = class_means(scaled, positions, len(self.seen))
        self.variances = class_variances(scaled, positions, self.means)
        self.described = normalize(self.semantics, dim=1)
        self.length = float(features.norm(dim=1).mean())

    def model(self, setting: Setting) -> GaussianModel:
        width = float(setting["width"] * self._median) if setting["width"] else 0.0
        variances = self.variances + setting["floor"] * self.variances.mean()
        of_means = self._coefficients(Regression(width, setting["power"]))
        of_variances = self._coefficients(Regression(width, setting["variance_power"]))
        means, predicted = of_means @ self.means, (of_variances @ variances.log()).exp()
        if setting["seen"] == "own":
            means[self.seen], predicted[self.seen] = self.means, variances
        powers = {name: setting[name] for name in ("power", "variance_power")}
        return GaussianModel(
            self.scaling,
            means,
            predicted,
            self.seen,
            self.unseen,
            self.semantics,
            self.means,
            variances,
            {"width": width, **powers, "length": self.length},
            scaled=self.scaled,
        )

    def _coefficients(self, regression: Regression) -> Float[Tensor, "classes seen"]:
        """k(a)^T (K + l I)^-1 of every class."""
        kernel = regression.kernel(self.described, self.described[self.seen])
        return regression.coefficients(kernel, kernel[self.seen])

    @cached_property
    def _median(self) -> Float[Tensor, ""]:
        """Of the distances between seen descriptions."""
        return median_distance(self.described[self.seen])


INFO = MethodInfo(
    name="gfzsl",
    title="GFZSL",
    paper="Verma and Rai, A simple exponential family framework for zero-shot learning, ECML 2017",
    settings=GFZSLSettings,
    make=GFZSL,
    models={"gfzsl": GaussianModel},
)
