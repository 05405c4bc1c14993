"""Ridge regression from features, factorised once for all penalties and targets."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class FeatureRegression:
    """Solves (X^T X + p I) B = X^T T for many penalties p and targets T.

    One eigendecomposition of the smaller of X^T X and X X^T serves them all.

    Args:
        features: X.
    """

    def __init__(self, features: Float[Tensor, "images visual"]) -> None:
        self.features = features
        self.images_first = len(features) < features.shape[1]
        gram = features @ features.T if self.images_first else features.T @ features
        self.scale = float((features**2).sum() / features.shape[1])
        values, self.vectors = torch.linalg.eigh(gram)
        self.values = values.clamp(min=0.0)  # below it is rounding

    def coordinates(self, targets: Float[Tensor, "images targets"]) -> Float[Tensor, "rank targets"]:
        """Targets as `solve` takes them: what does not depend on the penalty."""
        found: Tensor = self.vectors.T @ (targets if self.images_first else self.features.T @ targets)
        return found

    def solve(
        self,
        coordinates: Float[Tensor, "rank targets"],
        penalties: Float[Tensor, " targets"] | float,
    ) -> Float[Tensor, "visual targets"]:
        """B, with one penalty for all targets, or one each; above 0, on the scale of X^T X.

        The mean diagonal of X^T X, by which penalties may be measured, is `scale`.
        """
        each = torch.as_tensor(penalties, dtype=self.values.dtype, device=self.values.device)
        solved: Tensor = self.vectors @ (coordinates / (self.values[:, None] + each))
        return self.features.T @ solved if self.images_first else solved
