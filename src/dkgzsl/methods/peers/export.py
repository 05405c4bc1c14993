"""Parts of exported peers: scaling and linear scores as modules of fixed tensor operations, as ONNX takes them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from dkgzsl.methods.shared.scaling import Scaling
from dkgzsl.methods.shared.softmax import LinearScores


class ScaledFeatures(nn.Module):
    """Unscaled features to scaled ones.

    Args:
        scaling: of the features.
        unit: whether scaled features get length 1 at the end.
    """

    shift: Tensor
    divisor: Tensor

    def __init__(self, scaling: Scaling, *, unit: bool = False) -> None:
        super().__init__()
        self.root, self.unit = scaling.name == "square-root", unit or scaling.name == "unit"
        self.moved = scaling.name in ("min-max", "standard")
        self.register_buffer("shift", scaling.shift.float())
        self.register_buffer("divisor", scaling.divisor.float())

    def forward(self, features: Float[Tensor, "batch visual"]) -> Float[Tensor, "batch visual"]:
        """Scaled features."""
        if self.root:
            features = features.clamp(min=0).sqrt()
        if self.moved:  # not folded into the next product: far from 0 that would cost digits
            features = (features - self.shift) / self.divisor
        return normalize(features, dim=1) if self.unit else features


class Projected(nn.Module):
    """Features times a matrix, scaled to length 1."""

    projection: Tensor

    def __init__(self, projection: Float[Tensor, "visual inner"]) -> None:
        super().__init__()
        self.register_buffer("projection", projection.float())

    def forward(self, features: Float[Tensor, "batch visual"]) -> Float[Tensor, "batch inner"]:
        """Directions of the projected features."""
        return normalize(features @ self.projection, dim=1)


def centred_scores(weights: Float[Tensor, "inner classes"], bias: Float[Tensor, " classes"]) -> LinearScores:
    """x W + b less its mean over the classes: what all classes share would only cost digits."""
    weights, bias = weights.double(), bias.double()
    return LinearScores((weights - weights.mean(dim=1, keepdim=True)).T, bias - bias.mean())


class GaussianScores(nn.Module):
    """Scaled features to log densities of normal distributions with one variance a dimension, up to a constant
    an image.

    Args:
        means: of each class.
        variances: of each class and dimension.
        origin: what features are measured from, so that squares stay small.
    """

    origin: Tensor

    def __init__(
        self,
        means: Float[Tensor, "classes visual"],
        variances: Float[Tensor, "classes visual"],
        origin: Float[Tensor, " visual"],
    ) -> None:
        super().__init__()
        means, precision = (means - origin).double(), 1 / variances.double()
        constant = (means.square() * precision - precision.log()).sum(dim=1)
        self.squares = centred_scores(-precision.T / 2, -constant / 2)
        self.linear = centred_scores((means * precision).T, torch.zeros_like(constant))
        self.register_buffer("origin", origin.float())

    def forward(self, features: Float[Tensor, "batch visual"]) -> Float[Tensor, "batch classes"]:
        """Log densities."""
        moved = features - self.origin
        scores: Tensor = self.squares(moved * moved) + self.linear(moved)
        return scores
