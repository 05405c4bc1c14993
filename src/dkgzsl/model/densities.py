"""Class densities in a whitened space: Gaussians with a common basis of axes, and sampling from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ClassDensities:
    """x | c ~ N(mean_c, diag(variance_c)), one row a class.

    Attributes:
        means: class means.
        variances: one for each class, or one for each class and axis.
    """

    means: Float[Tensor, "classes dim"]
    variances: Float[Tensor, "classes dim"] | Float[Tensor, "classes 1"]

    def scores(self, points: Float[Tensor, "images dim"]) -> Float[Tensor, "images classes"]:
        """Log density of every point in every class, less log(2 pi) dim / 2.

        -1/2 sum_j ((x_j - m_cj)^2 / v_cj + log v_cj), expanded so that it is matrix products.
        """
        dim = self.means.shape[1]
        precision = 1 / self.variances
        if self.variances.shape[1] == 1:  # the same on every axis: a point counts by its squared length alone
            logs = dim * self.variances[:, 0].log()
            own = points.square().sum(1, keepdim=True) @ precision.T
        else:
            logs = self.variances.log().sum(1)
            own = points.square() @ precision.T
        constant = (self.means.square() * precision).sum(1) + logs
        return points @ (self.means * precision).T - (own + constant) / 2

    def draw(self, number: int, generator: torch.Generator) -> Float[Tensor, "classes number dim"]:
        """`number` points from each class; the generator is on the CPU, so that devices agree."""
        shape = (len(self.means), number, self.means.shape[1])
        noise = torch.randn(shape, generator=generator, dtype=self.means.dtype).to(self.means.device)
        return self.means[:, None] + self.variances.sqrt()[:, None] * noise
