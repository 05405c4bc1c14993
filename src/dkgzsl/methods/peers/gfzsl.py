"""GFZSL, the exponential family framework (Verma and Rai, ECML 2017, arXiv 1707.08040), inductive form.

x | class c ~ N(mu_c, diag(sigma_c^2)). Kernel ridge regression from the descriptions of the seen classes
predicts mu_c and log sigma_c^2 of the unseen ones: f(a) = k(a)^T (K + l I)^-1 [values of the seen classes],
linear or Gaussian k. Score: the log density of the image.

Deviations: descriptions have length 1. The Gaussian kernel's width is measured by the median distance of the
seen descriptions, the penalties by the mean diagonal of K. How variances are regularised is not in the paper:
each gets a share of the mean variance within classes added. A seen class has its own estimates or predicted
ones; the selector chooses. Constants are tried in two rounds, not all combined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.cache import InputCache
from dkgzsl.methods.base import SavedModel, Selector, Setting, Task
from dkgzsl.methods.shared.class_statistics import class_means, class_variances
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, fitting_scalings

POWERS: Final = (-3, -2, -1, 0)
WIDTHS: Final = (0.0, 1.0, 2.0)
"""Widths of the Gaussian kernel in median distances; 0 is the linear kernel."""
FLOORS: Final = (0.1, 1.0)
FURTHER_FLOORS: Final = (0.01, 0.3, 3.0)
_TENSORS: Final = ("means", "variances", "seen", "unseen")


@dataclass(frozen=True)
class GaussianModel:
    """Scores log N(x; mean, diag(variance)) of scaled features.

    Attributes:
        scaling: of the features.
        means: of all K classes.
        variances: in each dimension.
        seen: class numbers of seen classes.
        unseen: class numbers of unseen classes.
    """

    scaling: Scaling
    means: Float[Tensor, "classes visual"]
    variances: Float[Tensor, "classes visual"]
    seen: Int[Tensor, " seen"]
    unseen: Int[Tensor, " unseen"]
    scaled: InputCache = field(default_factory=InputCache, repr=False, compare=False, kw_only=True)

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log densities under every class of the task, but for a constant; -inf for others."""
        return self._scores(features, torch.cat([self.seen, self.unseen]))

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """The same log densities, among unseen classes."""
        return self._scores(features, self.unseen)

    def _scores(self, features: Tensor, classes: Tensor) -> Tensor:
        # About the mean of the seen classes, so that the squares below stay small: 32 bits are few.
        center = self.means[self.seen].mean(dim=0)
        seen = self.scaled(features, self.scaling) - center
        means, precision = self.means[classes] - center, 1 / self.variances[classes]
        constant = (means**2 * precision - precision.log()).sum(dim=1)
        known = -0.5 * (seen**2 @ precision.T - 2 * seen @ (means * precision).T + constant)
        return known.new_full((len(known), len(self.means)), -torch.inf).index_copy_(1, classes, known)

    def save(self) -> SavedModel:
        """Scale and parameters."""
        tensors = {name: getattr(self, name) for name in _TENSORS} | self.scaling.tensors()
        return SavedModel("gfzsl", tensors, {"scaling": self.scaling.name})

    @classmethod
    def load(cls, saved: SavedModel) -> GaussianModel:
        """The model that `saved` was made from."""
        scaling = Scaling.load(saved.values["scaling"], saved.tensors)
        means, variances, seen, unseen = (saved.tensors[name] for name in _TENSORS)
        return cls(scaling, means, variances, seen, unseen)


class GFZSL:
    """Kernel, penalties, scale, regularisation, and what stands for seen classes are chosen by the selector.

    Args:
        powers: exponents of ten to try for both penalties, relative to the mean diagonal of K.
        widths: of the kernel, see `WIDTHS`.
        floors: shares of the mean variance within classes that every variance gets added; the first round.
        further_floors: those of the second round.
        scalings: scales of the features to try.
        seed: nothing is drawn.
        device: where to compute.
        minutes: caps nothing: the grid takes a minute.
    """

    name = "gfzsl"

    def __init__(
        self,
        powers: Sequence[int] = POWERS,
        *,
        widths: Sequence[float] = WIDTHS,
        floors: Sequence[float] = FLOORS,
        further_floors: Sequence[float] = FURTHER_FLOORS,
        scalings: Sequence[str] = SCALINGS,
        seed: int = 0,
        device: str = "cpu",
        minutes: float | None = None,
    ) -> None:
        del seed, minutes
        self.powers, self.widths, self.scalings = tuple(powers), tuple(widths), tuple(scalings)
        self.floors, self.further_floors = tuple(floors), tuple(further_floors)
        self.device = torch.device(device)

    def explore(self, task: Task, selector: Selector) -> None:
        """One penalty for both regressions, seen classes by their own estimates; then what the best lacks."""
        best: tuple[float, dict[str, Any]] = (float("-inf"), {})
        for scaling in fitting_scalings(self.scalings, task.features):
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
        for width in self.widths:
            for power in self.powers:
                for floor in self.floors:
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
        yield from ({"floor": floor} for floor in self.further_floors)
        yield from ({"variance_power": p} for p in self.powers if p != best["variance_power"])
        yield from ({"power": best["power"] + step} for step in (-1, 1) if best["power"] + step not in self.powers)

    def fit(self, task: Task, setting: Setting) -> GaussianModel:
        """Fit with one setting."""
        return _Fitting(task, setting["scaling"], self.device).model(setting)


class _Fitting:
    def __init__(self, task: Task, scaling: str, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.scaling, self.scaled = Scaling.fit(scaling, features), InputCache()
        scaled = self.scaling(features)
        positions = torch.searchsorted(self.seen, task.labels.to(device))
        self.means = class_means(scaled, positions, len(self.seen))
        self.variances = class_variances(scaled, positions, self.means)
        self.described = normalize(task.semantics.to(features), dim=1)

    def model(self, setting: Setting) -> GaussianModel:
        variances = self.variances + setting["floor"] * self.variances.mean()
        of_means = self.coefficients(setting["width"], setting["power"])
        of_variances = self.coefficients(setting["width"], setting["variance_power"])
        means, predicted = of_means @ self.means, (of_variances @ variances.log()).exp()
        if setting["seen"] == "own":
            means[self.seen], predicted[self.seen] = self.means, variances
        return GaussianModel(self.scaling, means, predicted, self.seen, self.unseen, scaled=self.scaled)

    def coefficients(self, width: float, power: int) -> Float[Tensor, "classes seen"]:
        """k(a)^T (K + l I)^-1 of every class."""
        kernel = self._kernel(width)
        known = kernel[self.seen]
        known.diagonal().add_(10.0**power * float(known.diagonal().mean()))
        solved: Tensor = torch.linalg.solve(known, kernel.T).T
        return solved

    def _kernel(self, width: float) -> Float[Tensor, "classes seen"]:
        known = self.described[self.seen]
        if width == 0:
            return self.described @ known.T
        distances = torch.cdist(self.described, known)
        apart = distances[self.seen][~torch.eye(len(known), dtype=torch.bool, device=known.device)]
        return torch.exp(-0.5 * (distances / (width * apart.quantile(0.5).clamp(min=1e-12))) ** 2)
