"""SAE, the semantic autoencoder (Kodirov, Xiang and Gong, CVPR 2017).

W [semantic, visual] minimises |X - W^T S|^2 + l |W X - S|^2, X the features and S the descriptions of their
classes, a column an image. It solves the Sylvester equation S S^T W + l W X X^T = (1 + l) S X^T (eq. 6), and
is used either way: W x is compared with the class descriptions (visual to semantic), or x with the prototypes
W^T a_c (semantic to visual), both by cosine. All classes, seen ones too, are scored by their descriptions
alone.

With the eigenvectors u_i of S S^T (eigenvalues e_i > 0; there are at most as many as seen classes, and the
rows of the right-hand side lie in their span) the equation falls apart into one ridge regression each: (X X^T
+ e_i / l) b_i = (1 + l) / l X S^T u_i, W = sum_i u_i b_i^T.

Deviations: l is measured by the ratio of the traces of S S^T and X X^T, so that its powers do not depend on
scales; the paper's own are absolute, one a data set. How descriptions and features are scaled is not in the
paper; both are chosen by the selector (its release scales each feature over all images, standardises some
descriptions).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.methods.base import Selector, Setting, Task
from dkgzsl.methods.peers.linear_model import FeatureRegression, LinearModel, View
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, fitting_scalings

POWERS: Final = tuple(range(-2, 6))
DESCRIPTIONS: Final = ("unit", "standard")
"""Class descriptions of length 1, or each dimension with mean 0 and deviation 1 over the seen classes."""
DIRECTIONS: Final = ("visual to semantic", "semantic to visual")
_SMALL = 1e-6  # eigenvalues of S S^T below this share of the largest are rounding


class SAE:
    """Penalty, scales and direction are chosen by the selector.

    Args:
        powers: exponents of ten to try for l, relative to trace(S S^T) / trace(X X^T).
        scalings: scales of the features to try.
        descriptions: scales of the class descriptions to try.
        seed: nothing is drawn.
        device: where to compute.
        minutes: caps nothing: the grid takes one or two.
    """

    name = "sae"

    def __init__(
        self,
        powers: Sequence[int] = POWERS,
        *,
        scalings: Sequence[str] = SCALINGS,
        descriptions: Sequence[str] = DESCRIPTIONS,
        seed: int = 0,
        device: str = "cpu",
        minutes: float | None = None,
    ) -> None:
        del seed, minutes
        self.powers, self.scalings, self.device = tuple(powers), tuple(scalings), torch.device(device)
        self.descriptions = tuple(descriptions)

    def explore(self, task: Task, selector: Selector) -> None:
        """Every combination; one factorisation for each scale of the features."""
        for scaling in fitting_scalings(self.scalings, task.features):
            fitting = _Fitting(task, scaling, self.device)
            for descriptions in self.descriptions:
                fitting.describe(descriptions)
                for power in self.powers:
                    solution = fitting.solve(power)
                    for direction in DIRECTIONS:
                        setting = {
                            "scaling": scaling,
                            "descriptions": descriptions,
                            "power": power,
                            "direction": direction,
                        }
                        selector(setting, fitting.model(solution, direction))

    def fit(self, task: Task, setting: Setting) -> LinearModel:
        """Fit with one setting."""
        fitting = _Fitting(task, setting["scaling"], self.device)
        fitting.describe(setting["descriptions"])
        return fitting.model(fitting.solve(setting["power"]), setting["direction"])


class _Fitting:
    def __init__(self, task: Task, scaling: str, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.labels, self.semantics = task.labels.to(device), task.semantics.to(features)
        self.scaling = Scaling.fit(scaling, features)
        self.regression = FeatureRegression(self.scaling(features))

    def describe(self, descriptions: str) -> None:
        """Scale the class descriptions; solve what depends on them alone."""
        described = normalize(self.semantics, dim=1)
        if descriptions == "standard":
            deviation, mean = torch.std_mean(described[self.seen], dim=0, correction=0)
            described = (described - mean) / deviation.masked_fill(deviation == 0, 1.0)
        own = described[self.labels]
        values, vectors = torch.linalg.eigh(own.T @ own)
        kept = values > _SMALL * values[-1]
        self.values, vectors = values[kept], vectors[:, kept]
        self.coordinates = self.regression.coordinates(own @ vectors)
        self.prototypes = described @ vectors  # W x . a_c is all in the span of the eigenvectors
        self.lengths = described.norm(dim=1)

    def solve(self, power: int) -> Tensor:
        """All b_i, [visual, rank]."""
        trace = self.regression.scale * len(self.scaling.shift)
        weight = 10.0**power * float(self.values.sum()) / trace
        return self.regression.solve(self.coordinates, self.values / weight) * ((1 + weight) / weight)

    def model(self, solution: Tensor, direction: str) -> LinearModel:
        """Cosines, in either direction."""
        forward = direction == "visual to semantic"
        view = View(self.scaling, solution, "after" if forward else "before")
        lengths = self.lengths if forward else (self.prototypes @ solution.T).norm(dim=1)
        weights = (self.prototypes / lengths.clamp(min=1e-12)[:, None]).T
        return LinearModel("sae", view, weights, weights.new_zeros(len(lengths)), self.seen, self.unseen)
