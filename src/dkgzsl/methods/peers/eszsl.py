"""ESZSL: a bilinear map from features to attributes in closed form.

V = (X^T X + gamma I)^-1 X^T Y A (A^T A + lambda I)^-1, score x V a_c. Y is +1 for an image's class and -1 for
every other seen class. The scores see an image as its regression on Y alone, [images, seen].

Deviations: class descriptions are scaled to unit length, as the xlsa17 `att` rows are. The paper's features
are those of its data sets; which scale they get, the selector chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.config import check_ranges
from dkgzsl.methods.base import MethodInfo, Selector, Setting, Setup, Task
from dkgzsl.methods.peers.linear_model import Columns, FeatureRegression, LinearModel, View
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, check_names, fitting_scalings


@dataclass(frozen=True)
class ESZSLSettings:
    """A bilinear map from features to attributes in closed form. Every pair of penalties is tried with every
    scale.

    Raises:
        ConfigError: a value is out of its range.
    """

    powers: tuple[int, ...] = tuple(range(-5, 4))
    """Exponents of ten to try for each of both penalties, relative to the diagonals that they are added to."""
    scalings: tuple[str, ...] = SCALINGS
    """Scales of the features to try: none, min-max, unit, square-root, standard."""

    def __post_init__(self) -> None:
        check_ranges(self, "eszsl.", at_least={"powers": -12})
        check_names(self.scalings, SCALINGS, "eszsl.scalings")


@dataclass(frozen=True)
class ESZSLModel(LinearModel):
    """Scores x V a_c; the columns are A (A^T A + lambda I)^-1 a_c."""

    kind = "eszsl"

    def columns(self, semantics: Float[Tensor, "described semantic"]) -> Columns:
        """Of further classes, from their descriptions."""
        known = normalize(self.semantics[self.seen].to(semantics), dim=1)
        weights = _description_weights(normalize(semantics, dim=1), known, self.values["lambda"])
        return Columns(weights, weights.new_zeros(len(semantics)))


class ESZSL:
    """Scale of the features and both penalties, gamma and lambda, are chosen by the selector.

    Args:
        settings: what to try.
        setup: nothing is drawn, and nothing needs a cap on the minutes.
    """

    name = "eszsl"

    def __init__(self, settings: ESZSLSettings | None = None, setup: Setup | None = None) -> None:
        self.settings = settings or ESZSLSettings()
        self.device = torch.device((setup or Setup()).device)

    def explore(self, task: Task, selector: Selector) -> None:
        """Every pair of penalties on every scale; one factorisation for each scale, one for each lambda."""
        powers = self.settings.powers
        weights = {lambda_: self._weights(task, lambda_) for lambda_ in powers}
        for scaling in fitting_scalings(self.settings.scalings, task.features):
            fitting = _Fitting(task, scaling, self.device)
            for gamma in powers:
                view = fitting.view(gamma)
                for lambda_ in powers:
                    setting = {"scaling": scaling, "gamma": gamma, "lambda": lambda_}
                    selector(setting, fitting.model(view, weights[lambda_], lambda_))

    def fit(self, task: Task, setting: Setting) -> ESZSLModel:
        """Fit with one scale and one pair of penalties (powers of ten)."""
        fitting, lambda_ = _Fitting(task, setting["scaling"], self.device), setting["lambda"]
        return fitting.model(fitting.view(setting["gamma"]), self._weights(task, lambda_), lambda_)

    def _weights(self, task: Task, lambda_: int) -> Float[Tensor, "seen classes"]:
        described = normalize(task.semantics.to(self.device, task.features.dtype), dim=1)
        return _description_weights(described, described[task.seen.to(self.device)], lambda_)


def _description_weights(
    described: Float[Tensor, "classes semantic"], seen: Float[Tensor, "seen semantic"], lambda_: int
) -> Float[Tensor, "seen classes"]:
    """A (A^T A + lambda I)^-1 a_c for every description: what does not depend on the images."""
    regular = seen.T @ seen
    regular.diagonal().add_(10.0**lambda_ * float(regular.diagonal().mean()))
    weights: Tensor = seen @ torch.linalg.solve(regular, described.T)
    return weights


class _Fitting:
    def __init__(self, task: Task, scaling: str, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.semantics = task.semantics.to(device)
        self.scaling = Scaling.fit(scaling, features)
        self.regression = FeatureRegression(self.scaling(features))
        labels = 2.0 * (task.labels.to(device)[:, None] == self.seen) - 1
        self.coordinates = self.regression.coordinates(labels.to(features))

    def view(self, gamma: int) -> View:
        """x -> x (X^T X + gamma I)^-1 X^T Y."""
        penalty = 10.0**gamma * self.regression.scale
        return View(self.scaling, self.regression.solve(self.coordinates, penalty))

    def model(self, view: View, weights: Float[Tensor, "seen classes"], lambda_: int) -> ESZSLModel:
        """The view's regression on the seen classes, weighed by the descriptions of every class."""
        bias = weights.new_zeros(len(weights.T))
        return ESZSLModel(view, weights, bias, self.seen, self.unseen, self.semantics, {"lambda": lambda_})


INFO = MethodInfo(
    name="eszsl",
    title="ESZSL",
    paper="Romera-Paredes and Torr, An embarrassingly simple approach to zero-shot learning, ICML 2015",
    settings=ESZSLSettings,
    make=ESZSL,
    models={"eszsl": ESZSLModel},
)
