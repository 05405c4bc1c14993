"""SAE, the semantic autoencoder.

W [semantic, visual] minimises |X - W^T S|^2 + l |W X - S|^2, X the features and S the descriptions of their
classes, a column an image. It solves the Sylvester equation S S^T W + l W X X^T = (1 + l) S X^T (eq. 6), and
is used either way: W x is compared with the class descriptions (visual to semantic), or x with the prototypes
W^T a_c (semantic to visual), both by cosine. All classes, seen ones too, are scored by their descriptions
alone.

Let u_i be the eigenvectors of S S^T with eigenvalues e_i > 0: at most as many as seen classes, and the rows of
the right-hand side lie in their span. The equation then falls apart into one ridge regression each: (X X^T
+ e_i / l) b_i = (1 + l) / l X S^T u_i, W = sum_i u_i b_i^T.

The authors' release reduces features before that to X R with R = (X^T X + 50 I)^-1 X^T Y, Y of 1 for an image's
class and 0 for the other seen ones: a dimension a seen class (the setting `reduction`). The paper does not say so.

Deviations: l is measured by the ratio of the traces of S S^T and X X^T, so that its powers do not depend on
scales; the paper's own are absolute, one a data set. How descriptions and features are scaled is not in the
paper; both are chosen by the selector (its release scales each feature over all images, standardises some
descriptions), and so is the reduction.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.cache import InputCache
from dkgzsl.config import check_ranges
from dkgzsl.methods.base import MethodInfo, Selector, Setting, Setup, Task
from dkgzsl.methods.peers.linear_model import Columns, FeatureRegression, LinearModel, View
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, check_names, fitting_scalings

DESCRIPTIONS: Final = ("unit", "centred", "standard")
"""Class descriptions of length 1; these less their mean over the seen classes; or each dimension with mean 0 and
deviation 1 over the seen classes."""
REDUCTIONS: Final = ("none", "supervised")
"""Scaled features as they are, or their ridge regression on the labels."""
REDUCTION_PENALTY: Final = 50.0
"""Of that regression: absolute, as in the authors' release."""
FORWARD: Final = "visual to semantic"
DIRECTIONS: Final = (FORWARD, "semantic to visual")
_SMALL = 1e-6  # eigenvalues of S S^T below this share of the largest are rounding


@dataclass(frozen=True)
class SAESettings:
    """A linear semantic autoencoder. Every combination is tried, in both directions.

    Raises:
        ConfigError: a value is out of its range.
    """

    powers: tuple[int, ...] = tuple(range(-2, 6))
    """Exponents of ten to try for the weight of the encoder, relative to a ratio of traces."""
    scalings: tuple[str, ...] = SCALINGS
    """Scales of the features to try: none, min-max, unit, square-root, standard."""
    descriptions: tuple[str, ...] = DESCRIPTIONS
    """Scales of the class descriptions to try: unit (length 1), centred (that, with mean 0), standard (each
    dimension with mean 0 and deviation 1)."""
    reductions: tuple[str, ...] = REDUCTIONS
    """Reductions of the features to try: none (the paper), supervised (the authors' release: a dimension a seen
    class)."""

    def __post_init__(self) -> None:
        check_ranges(self, "sae.", at_least={"powers": -12})
        check_names(self.scalings, SCALINGS, "sae.scalings")
        check_names(self.descriptions, DESCRIPTIONS, "sae.descriptions")
        check_names(self.reductions, REDUCTIONS, "sae.reductions")


@dataclass(frozen=True)
class SAEModel(LinearModel):
    """Cosines of images and class descriptions, in either direction; an inner dimension each b_i."""

    kind = "sae"

    def columns(self, semantics: Float[Tensor, "described semantic"]) -> Columns:
        """Of further classes, from their descriptions."""
        known = normalize(self.semantics[self.seen].to(semantics), dim=1)
        described = _described(normalize(semantics, dim=1), known, self.values["descriptions"])
        vectors, direction = self.parameters["vectors"], self.values["direction"]
        # The b_i are the view's own, unless it stops at the reduced features.
        solution = self.parameters.get("solution", self.view.projection)
        assert solution is not None, "SAE projects features"
        weights = _columns(described @ vectors, described.norm(dim=1), solution, direction)
        if "solution" in self.parameters:
            weights = solution @ weights
        return Columns(weights, weights.new_zeros(len(semantics)))


class SAE:
    """Penalty, scales and direction are chosen by the selector.

    Args:
        settings: what to try.
        setup: nothing is drawn, and nothing needs a cap on the minutes.
    """

    name = "sae"

    def __init__(self, settings: SAESettings | None = None, setup: Setup | None = None) -> None:
        self.settings = settings or SAESettings()
        self.device = torch.device((setup or Setup()).device)

    def explore(self, task: Task, selector: Selector) -> None:
        """Every combination; one factorisation for each scale of the features and each reduction."""
        for scaling in fitting_scalings(self.settings.scalings, task.features):
            fitting = _Fitting(task, scaling, self.device)
            for reduction, descriptions in product(self.settings.reductions, self.settings.descriptions):
                fitting.reduce(reduction)
                fitting.describe(descriptions)
                for power in self.settings.powers:
                    solution = fitting.solve(power)
                    for direction in DIRECTIONS:
                        setting = {
                            "scaling": scaling,
                            "reduction": reduction,
                            "descriptions": descriptions,
                            "power": power,
                            "direction": direction,
                        }
                        selector(setting, fitting.model(solution, direction))

    def fit(self, task: Task, setting: Setting) -> SAEModel:
        """Fit with one setting."""
        fitting = _Fitting(task, setting["scaling"], self.device)
        fitting.reduce(setting.get("reduction", "none"))  # runs of dkgzsl 0.2.0 name none
        fitting.describe(setting["descriptions"])
        return fitting.model(fitting.solve(setting["power"]), setting["direction"])


def _described(
    unit: Float[Tensor, "classes semantic"], seen: Float[Tensor, "seen semantic"], descriptions: str
) -> Float[Tensor, "classes semantic"]:
    """Descriptions of length 1 on the scale `descriptions`, whose statistics are those of the seen classes."""
    if descriptions == "unit":
        return unit
    if descriptions == "centred":
        return unit - seen.mean(dim=0)
    deviation, mean = torch.std_mean(seen, dim=0, correction=0)
    return (unit - mean) / deviation.masked_fill(deviation == 0, 1.0)


def _columns(
    prototypes: Float[Tensor, "classes rank"],
    lengths: Float[Tensor, " classes"],
    solution: Float[Tensor, "visual rank"],
    direction: str,
) -> Float[Tensor, "rank classes"]:
    """Of classes with the given products of descriptions and eigenvectors, and lengths of descriptions."""
    if direction != FORWARD:
        lengths = (prototypes @ solution.T).norm(dim=1)
    return (prototypes / lengths.clamp(min=1e-12)[:, None]).T


class _Fitting:
    def __init__(self, task: Task, scaling: str, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.labels, self.semantics = task.labels.to(device), task.semantics.to(features)
        self.scaling, self.shared = Scaling.fit(scaling, features), InputCache()
        self.plain = FeatureRegression(self.scaling(features))
        self.reduced: tuple[Tensor, FeatureRegression] | None = None
        self.reduction: Tensor | None = None

    def reduce(self, reduction: str) -> None:
        """Take the scaled features as they are, or their ridge regression on the labels."""
        if reduction == "none":
            self.reduction, self.regression = None, self.plain
            return
        if self.reduced is None:
            labels = (self.labels[:, None] == self.seen).to(self.plain.features)
            projection = self.plain.solve(labels, REDUCTION_PENALTY)
            self.reduced = projection, FeatureRegression(self.plain.features @ projection)
            self.view = View(self.scaling, projection, "after", self.shared)
        self.reduction, self.regression = self.reduced

    def describe(self, descriptions: str) -> None:
        """Scale the class descriptions; solve what depends on them alone."""
        unit = normalize(self.semantics, dim=1)
        described, self.descriptions = _described(unit, unit[self.seen], descriptions), descriptions
        own = described[self.labels]
        values, vectors = torch.linalg.eigh(own.T @ own)
        kept = values > _SMALL * values[-1]
        self.values, self.vectors = values[kept], vectors[:, kept]
        self.coordinates = self.regression.coordinates(own @ self.vectors)
        self.prototypes = described @ self.vectors  # W x . a_c is all in the span of the eigenvectors
        self.lengths = described.norm(dim=1)

    def solve(self, power: int) -> Tensor:
        """All b_i, [visual or seen, rank]."""
        trace = self.regression.scale * self.regression.features.shape[1]
        weight = 10.0**power * float(self.values.sum()) / trace
        return self.regression.solve_each(self.coordinates, self.values / weight) * ((1 + weight) / weight)

    def model(self, solution: Tensor, direction: str) -> SAEModel:
        """Cosines, in either direction."""
        weights = _columns(self.prototypes, self.lengths, solution, direction)
        parameters = {"vectors": self.vectors}
        if self.reduction is None:
            view = View(self.scaling, solution, "after" if direction == FORWARD else "before", self.shared)
        elif direction == FORWARD:
            view = View(self.scaling, self.reduction @ solution, "after", self.shared)
        else:
            view, parameters["solution"], weights = self.view, solution, solution @ weights
        values = {"descriptions": self.descriptions, "direction": direction}
        bias = weights.new_zeros(len(self.lengths))
        return SAEModel(view, weights, bias, self.seen, self.unseen, self.semantics, values, parameters)


INFO = MethodInfo(
    name="sae",
    title="SAE",
    paper="Kodirov, Xiang and Gong, Semantic autoencoder for zero-shot learning, CVPR 2017",
    settings=SAESettings,
    make=SAE,
    models={"sae": SAEModel},
)
