"""ESZSL: a bilinear map from features to attributes in closed form (Romera-Paredes and Torr, ICML 2015).

V = (X^T X + gamma I)^-1 X^T Y A (A^T A + lambda I)^-1, score x V a_c. Y is +1 for an image's class and -1 for
every other seen class. The scores see an image as its regression on Y alone, [images, seen].

Deviations: class descriptions are scaled to unit length, as the xlsa17 `att` rows are. The paper's features
are those of its data sets; which scale they get is chosen by the selector.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.methods.base import Selector, Setting, Task
from dkgzsl.methods.peers.linear_model import FeatureRegression, LinearModel, View
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, fitting_scalings

POWERS = tuple(range(-5, 4))


class ESZSL:
    """Scale of the features and both penalties, gamma and lambda, are chosen by the selector.

    Args:
        powers: exponents of ten to try for each penalty, relative to the mean diagonal of X^T X and of A^T A, so
            that they do not depend on the scale of features and descriptions, nor on their number.
        scalings: scales of the features to try.
        seed: nothing is drawn.
        device: where to compute.
        minutes: caps nothing: the grid takes one or two.
    """

    name = "eszsl"

    def __init__(
        self,
        powers: Sequence[int] = POWERS,
        *,
        scalings: Sequence[str] = SCALINGS,
        seed: int = 0,
        device: str = "cpu",
        minutes: float | None = None,
    ) -> None:
        del seed, minutes
        self.powers, self.scalings, self.device = tuple(powers), tuple(scalings), torch.device(device)

    def explore(self, task: Task, selector: Selector) -> None:
        """Every pair of penalties on every scale; one factorisation for each scale, one for each lambda."""
        weights = {lambda_: _description_weights(task, lambda_, self.device) for lambda_ in self.powers}
        for scaling in fitting_scalings(self.scalings, task.features):
            fitting = _Fitting(task, scaling, self.device)
            for gamma in self.powers:
                view = fitting.view(gamma)
                for lambda_ in self.powers:
                    setting = {"scaling": scaling, "gamma": gamma, "lambda": lambda_}
                    selector(setting, fitting.model(view, weights[lambda_]))

    def fit(self, task: Task, setting: Setting) -> LinearModel:
        """Fit with one scale and one pair of penalties (powers of ten)."""
        fitting = _Fitting(task, setting["scaling"], self.device)
        return fitting.model(
            fitting.view(setting["gamma"]), _description_weights(task, setting["lambda"], self.device)
        )


def _description_weights(task: Task, lambda_: int, device: torch.device) -> Float[Tensor, "seen classes"]:
    """A (A^T A + lambda I)^-1 a_c for every class: what does not depend on the images."""
    semantics = normalize(task.semantics.to(device, task.features.dtype), dim=1)
    seen = semantics[task.seen.to(device)]
    regular = seen.T @ seen
    regular.diagonal().add_(10.0**lambda_ * float(regular.diagonal().mean()))
    weights: Tensor = seen @ torch.linalg.solve(regular, semantics.T)
    return weights


class _Fitting:
    def __init__(self, task: Task, scaling: str, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.scaling = Scaling.fit(scaling, features)
        self.regression = FeatureRegression(self.scaling(features))
        labels = 2.0 * (task.labels.to(device)[:, None] == self.seen) - 1
        self.coordinates = self.regression.coordinates(labels.to(features))

    def view(self, gamma: int) -> View:
        """x -> x (X^T X + gamma I)^-1 X^T Y."""
        penalty = 10.0**gamma * self.regression.scale
        return View(self.scaling, self.regression.solve(self.coordinates, penalty))

    def model(self, view: View, weights: Float[Tensor, "seen classes"]) -> LinearModel:
        """The view's answers to the seen classes, weighed by the descriptions of every class."""
        return LinearModel("eszsl", view, weights, weights.new_zeros(len(weights.T)), self.seen, self.unseen)
