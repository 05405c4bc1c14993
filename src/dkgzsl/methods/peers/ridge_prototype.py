"""Ridge regression from class descriptions to class means, then the nearest prototype.

The plainest form of predicting visual exemplars (Changpinyo, Chao and Sha, ICCV 2017): descriptions a and
class means m of the seen classes, both about their means, p(a) = m_0 + (M - m_0)^T (A A^T + l I)^-1 A a. An
image goes to the nearest prototype by Euclidean distance or by cosine.

Deviations: the paper regresses principal components by kernel support vectors and divides each dimension by
its within-class deviation. A seen class is scored by its own mean or by its predicted prototype; the selector
chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.methods.base import Selector, Setting, Task
from dkgzsl.methods.peers.linear_model import LinearModel, View
from dkgzsl.methods.shared.class_statistics import class_means
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, fitting_scalings

POWERS: Final = tuple(range(-4, 3))
METRICS: Final = ("euclidean", "cosine")
SEEN: Final = ("own", "predicted")
"""What stands for a seen class: the mean of its images, or what its description predicts."""


class RidgePrototype:
    """Penalty, scale, distance, and what stands for seen classes are chosen by the selector.

    Args:
        powers: exponents of ten to try for l, relative to the mean diagonal of A A^T.
        scalings: scales of the features to try.
        seed: nothing is drawn.
        device: where to compute.
        minutes: caps nothing: the grid takes seconds.
    """

    name = "ridge"

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
        """Every combination; images are projected once for each scale and distance."""
        for scaling in fitting_scalings(self.scalings, task.features):
            fitting = _Fitting(task, scaling, self.device)
            for metric in METRICS:
                view = fitting.view(metric)
                for power in self.powers:
                    for seen in SEEN:
                        setting = {"scaling": scaling, "metric": metric, "power": power, "seen": seen}
                        selector(setting, fitting.model(view, metric, power, seen))

    def fit(self, task: Task, setting: Setting) -> LinearModel:
        """Fit with one setting."""
        fitting = _Fitting(task, setting["scaling"], self.device)
        metric = setting["metric"]
        return fitting.model(fitting.view(metric), metric, setting["power"], setting["seen"])


class _Fitting:
    """Prototypes as combinations of class means: all that an image is asked for is its product with these."""

    def __init__(self, task: Task, scaling: str, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.scaling = Scaling.fit(scaling, features)
        positions = torch.searchsorted(self.seen, task.labels.to(device))
        means = class_means(self.scaling(features), positions, len(self.seen))
        center = means.mean(dim=0)
        self.basis = torch.cat([means - center, center[None]])  # the last coefficient of a prototype is 1
        self.products = self.basis @ self.basis.T
        described = normalize(task.semantics.to(features), dim=1)
        self.described = described - described[self.seen].mean(dim=0)

    def view(self, metric: str) -> View:
        return View(self.scaling, self.basis.T, "before" if metric == "cosine" else "never")

    def model(self, view: View, metric: str, power: int, seen: str) -> LinearModel:
        coefficients = self.coefficients(power, seen)
        squares = ((coefficients @ self.products) * coefficients).sum(dim=1).clamp(min=1e-24)
        if metric == "cosine":
            weights, bias = (coefficients / squares.sqrt()[:, None]).T, torch.zeros_like(squares)
        else:  # minus the squared distance, but for the image's own square
            weights, bias = 2 * coefficients.T, -squares
        return LinearModel("ridge", view, weights, bias, self.seen, self.unseen)

    def coefficients(self, power: int, seen: str) -> Tensor:
        """Of every class's prototype, [classes, seen + 1]."""
        known = self.described[self.seen]
        kernel = known @ known.T
        kernel.diagonal().add_(10.0**power * float(kernel.diagonal().mean()))
        predicted = torch.linalg.solve(kernel, known @ self.described.T).T
        if seen == "own":
            predicted[self.seen] = torch.eye(len(self.seen)).to(predicted)
        return torch.cat([predicted, torch.ones_like(predicted[:, :1])], dim=1)
