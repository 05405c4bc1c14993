"""EXEM: principal components of the class means, regressed on the descriptions by support vectors.

Scaled features are reduced to d principal components, class c to its mean m_c. Each component of the means is
regressed on the descriptions a_c of the seen classes by a nu-SVR of its own, with the kernel
exp(-|a - b|^2 / 2 w^2). The predictions p_c are the exemplars of described classes. An image x goes to the
exemplar with the least sum_j (x_j - p_cj)^2 / s_j^2, where s_j is the within-class deviation of component j,
averaged over the seen classes (the paper's 1NN (s)), or to that with the least sum_j (x_j - p_cj)^2 / s_j.

Deviations: neither the distance with s_j instead of its square nor the root of descriptions is in the paper.
Descriptions have length 1, as in the authors' release. The kernel's width is measured by the median distance of
the seen descriptions, and the cost of component j by s_j, so that neither depends on scales; both are absolute in
the paper, where the cost is the same for all components. Scale of features and descriptions, width, cost, nu,
distance, and whether a seen class is its own mean or its exemplar, are chosen by the selector; the paper validates
width, cost and nu on folds of the seen classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from sklearn import config_context
from sklearn.svm import NuSVR
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.config import check_ranges
from dkgzsl.methods.base import MethodInfo, Selector, Setting, Setup, Task
from dkgzsl.methods.peers.gaussian_model import median_distance
from dkgzsl.methods.peers.linear_model import Columns, LinearModel, View, smaller_gram
from dkgzsl.methods.shared.class_statistics import class_means, class_variances
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, check_names, fitting_scalings

DIVISORS: Final = ("deviation", "variance")
"""What divides squared differences: the within-class deviation of a component, or its square."""
DESCRIPTIONS: Final = ("unit", "root")
"""Class descriptions of length 1, or their square roots, of length 1: for what is never negative."""
SEEN: Final = ("own", "predicted")
"""What stands for a seen class: the mean of its images, or what its description predicts."""
_SMALL = 1e-6  # eigenvalues below this share of the largest are rounding


@dataclass(frozen=True)
class EXEMSettings:
    """Support vectors from class descriptions to class means. Scales are tried with the first width and nu and the
    middle cost; the others are tried on the best scales.

    Raises:
        ConfigError: a value is out of its range.
    """

    components: int = 500
    """Principal components of the features, at most; 1 or more."""
    widths: tuple[float, ...] = (1.0, 2.0)
    """Widths of the kernel to try, in median distances of the seen descriptions, above 0."""
    costs: tuple[float, ...] = (3.0, 10.0)
    """Costs to try, in within-class deviations of a component, above 0."""
    nus: tuple[float, ...] = (0.5,)
    """Values of nu to try: bounds of the share of classes that are support vectors, above 0, at most 1."""
    scalings: tuple[str, ...] = ("none", "square-root")
    """Scales of the features to try: none, min-max, unit, square-root, standard."""
    descriptions: tuple[str, ...] = DESCRIPTIONS
    """Scales of the class descriptions to try: unit (length 1), root (square roots, then length 1)."""
    divisors: tuple[str, ...] = DIVISORS
    """Divisors of squared differences to try: deviation, variance (the paper)."""

    def __post_init__(self) -> None:
        above = ("widths", "costs", "nus")
        check_ranges(self, "exem.", at_least={"components": 1}, above_zero=above, shares=("nus",))
        check_names(self.scalings, SCALINGS, "exem.scalings")
        check_names(self.descriptions, DESCRIPTIONS, "exem.descriptions")
        check_names(self.divisors, DIVISORS, "exem.divisors")


@dataclass(frozen=True)
class EXEMModel(LinearModel):
    """Minus the weighed squared distance to each exemplar, but for the image's own square.

    The view's components are divided by the root of their divisor. `parameters` has the mean of the features as
    the view has it, and the regression of each component: dual coefficients [components, seen] and intercepts.
    """

    kind = "exem"

    def columns(self, semantics: Float[Tensor, "described semantic"]) -> Columns:
        """Of further classes, from their descriptions."""
        known = _described(self.semantics[self.seen].to(semantics), self.values["descriptions"])
        kernel = _kernel(_described(semantics, self.values["descriptions"]), known, self.values["width"])
        exemplars = kernel @ self.parameters["duals"].T + self.parameters["intercepts"]
        return _columns(exemplars, self.parameters["mean"])


def _described(
    semantics: Float[Tensor, "classes semantic"], descriptions: str
) -> Float[Tensor, "classes semantic"]:
    """Below 0, which a description of a seen class never is under the root, counts as 0 there."""
    return normalize(semantics.clamp(min=0).sqrt() if descriptions == "root" else semantics, dim=1)


def _kernel(
    described: Float[Tensor, "classes semantic"], known: Float[Tensor, "seen semantic"], width: float
) -> Float[Tensor, "classes seen"]:
    distances = torch.cdist(described, known, compute_mode="donot_use_mm_for_euclid_dist")
    return (-0.5 * (distances / width).square()).exp()


def _columns(exemplars: Float[Tensor, "classes components"], mean: Float[Tensor, " components"]) -> Columns:
    """Of exemplars that are measured from the mean of the features."""
    return Columns(2 * exemplars.T, -(exemplars * (exemplars + 2 * mean)).sum(dim=1))


class EXEM:
    """Scale, kernel, support vectors, distance, and what stands for seen classes are chosen by the selector.

    Args:
        settings: what to try.
        setup: nothing is drawn, and nothing needs a cap on the minutes.
    """

    name = "exem"

    def __init__(self, settings: EXEMSettings | None = None, setup: Setup | None = None) -> None:
        self.settings = settings or EXEMSettings()
        self.device = torch.device((setup or Setup()).device)

    def explore(self, task: Task, selector: Selector) -> None:
        """A principal component analysis for each scale of the features, 500 regressions for each setting."""
        settings, start = self.settings, self.settings.costs[len(self.settings.costs) // 2]
        described = task.semantics[torch.cat([task.seen, task.unseen])]
        kinds = [one for one in settings.descriptions if one != "root" or not bool((described < 0).any())]
        first = {"width": settings.widths[0], "cost": start, "nu": settings.nus[0]}
        best: tuple[float, _Fitting, str] | None = None
        for scaling in fitting_scalings(settings.scalings, task.features):
            fitting = _Fitting(task, scaling, settings.components, self.device)
            for descriptions in kinds:
                score = self._show(selector, fitting, {"descriptions": descriptions, **first})
                if best is None or score > best[0]:
                    best = score, fitting, descriptions
        assert best is not None, "there is a scale"
        for width, cost, nu in product(settings.widths, settings.costs, settings.nus):
            further = {"width": width, "cost": cost, "nu": nu}
            if further != first:
                self._show(selector, best[1], {"descriptions": best[2], **further})

    def _show(self, selector: Selector, fitting: _Fitting, chosen: Setting) -> float:
        """The best score of the models that one regression serves."""
        regression, best = fitting.regress(chosen), float("-inf")
        for divisor, seen in product(self.settings.divisors, SEEN):
            setting = {"scaling": fitting.scaling.name, **chosen, "divisor": divisor, "seen": seen}
            best = max(best, selector(setting, fitting.model(regression, divisor, seen)))
        return best

    def fit(self, task: Task, setting: Setting) -> EXEMModel:
        """Fit with one setting."""
        fitting = _Fitting(task, setting["scaling"], self.settings.components, self.device)
        return fitting.model(fitting.regress(setting), setting["divisor"], setting["seen"])


@dataclass(frozen=True)
class _Regression:
    """Of all components, in within-class deviations."""

    descriptions: str
    width: float
    kernel: Float[Tensor, "classes seen"]
    duals: Float[Tensor, "components seen"]
    intercepts: Float[Tensor, " components"]


class _Fitting:
    def __init__(self, task: Task, scaling: str, components: int, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.semantics = task.semantics.to(features)
        self.scaling = Scaling.fit(scaling, features)
        scaled, positions = self.scaling(features), torch.searchsorted(self.seen, task.labels.to(device))
        self.mean = scaled.mean(dim=0)
        self.axes = _principal_axes(scaled - self.mean, components)
        reduced = (scaled - self.mean) @ self.axes
        means = class_means(reduced, positions, len(self.seen))
        deviation = class_variances(reduced, positions, means).sqrt().mean(dim=0)
        if not deviation.any():  # one image a class: components weigh the same
            deviation = torch.ones_like(deviation)
        self.deviation = deviation.clamp(min=float(deviation.max()) * 1e-3)
        self.means = means / self.deviation
        self.views = {divisor: self._view(divisor) for divisor in DIVISORS}

    def _view(self, divisor: str) -> View:
        return View(self.scaling, self.axes / (self.deviation if divisor == "variance" else self.deviation.sqrt()))

    def regress(self, setting: Setting) -> _Regression:
        """Every component of the class means, in within-class deviations, on the descriptions."""
        described = _described(self.semantics, setting["descriptions"])
        width = setting["width"] * float(median_distance(described[self.seen]))
        predicting = _kernel(described, described[self.seen], width)
        kernel, targets = predicting[self.seen].double().cpu().numpy(), self.means.double().cpu().numpy()
        duals, intercepts = np.zeros(targets.T.shape), np.zeros(len(targets.T))
        with config_context(assume_finite=True, skip_parameter_validation=True):
            for component, values in enumerate(targets.T):
                machine = NuSVR(kernel="precomputed", C=setting["cost"], nu=setting["nu"]).fit(kernel, values)
                duals[component, machine.support_] = machine.dual_coef_[0]
                intercepts[component] = machine.intercept_[0]
        solved = torch.from_numpy(duals).to(self.means), torch.from_numpy(intercepts).to(self.means)
        return _Regression(setting["descriptions"], width, predicting, *solved)

    def model(self, regression: _Regression, divisor: str, seen: str) -> EXEMModel:
        """One distance, and one kind of exemplars for the seen classes."""
        view = self.views[divisor]
        assert view.projection is not None, "components are projected on"
        # The view's components are in deviations where the variance divides, or else in their roots.
        scale = torch.ones_like(self.deviation) if divisor == "variance" else self.deviation.sqrt()
        parameters = {
            "mean": self.mean @ view.projection,
            "duals": regression.duals * scale[:, None],
            "intercepts": regression.intercepts * scale,
        }
        exemplars = regression.kernel @ parameters["duals"].T + parameters["intercepts"]
        if seen == "own":
            exemplars[self.seen] = self.means * scale
        weights, bias = _columns(exemplars, parameters["mean"])
        values = {"descriptions": regression.descriptions, "width": regression.width}
        return EXEMModel(view, weights, bias, self.seen, self.unseen, self.semantics, values, parameters)


def _principal_axes(centred: Float[Tensor, "images visual"], number: int) -> Float[Tensor, "visual components"]:
    """The axes with the largest variances, largest first; at most `number`, none along which nothing varies."""
    gram, images_first = smaller_gram(centred)
    last = len(gram) - 1
    values, vectors = scipy.linalg.eigh(
        gram, lower=False, subset_by_index=(max(0, last + 1 - number), last), driver="evr", check_finite=False
    )
    kept = values > _SMALL * values[-1]
    axes = torch.from_numpy(np.ascontiguousarray(vectors[:, kept][:, ::-1])).to(centred)
    return normalize(centred.T @ axes, dim=0) if images_first else axes


INFO = MethodInfo(
    name="exem",
    title="EXEM",
    paper="Changpinyo, Chao and Sha, Predicting visual exemplars of unseen classes for zero-shot learning, "
    "ICCV 2017",
    settings=EXEMSettings,
    make=EXEM,
    models={"exem": EXEMModel},
    fewest_seen=2,
)
