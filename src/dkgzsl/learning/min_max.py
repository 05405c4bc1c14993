"""Features to [0, 1] and back."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class MinMax:
    """Each feature's minimum and range over the training images it was fitted on.

    Other images may fall outside [0, 1]; they are not cut. A feature that is constant in training maps to 0.
    """

    minimum: Float[Tensor, " visual"]
    range: Float[Tensor, " visual"]

    @classmethod
    def fit(cls, features: Float[Tensor, "images visual"]) -> MinMax:
        """The scale of training features; never call it with images that are held out."""
        minimum, maximum = features.aminmax(dim=0)
        extent = maximum - minimum
        return cls(minimum, extent.masked_fill(extent == 0, 1.0))

    def scale(self, features: Float[Tensor, "*images visual"]) -> Float[Tensor, "*images visual"]:
        """From the features' own scale."""
        return (features - self.minimum) / self.range

    def unscale(self, scaled: Float[Tensor, "*images visual"]) -> Float[Tensor, "*images visual"]:
        """Back to the features' own scale."""
        return scaled * self.range + self.minimum
