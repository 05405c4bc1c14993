"""The gradient penalty of WGAN-GP and its derivatives in closed form, for a critic with one hidden layer.

With D(x) = w2 . leaky_relu(W x + c), the critic's gradient by x is g = (w2 * s) W, s the slopes of the leaky ReLU
at x. Slopes are constant between kinks, so the penalty P depends on W and w2 through g alone, and so does its
derivative: that of a sum of terms (w2 * s) W v, where v = dP/dg. The critic's scores are terms of the same form,
with v the feature itself, so that one product serves them all (`weight_derivatives`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dkgzsl.model.critic import SLOPE


class Penalty(NamedTuple):
    """The penalty of a batch, and what its derivatives are made of.

    Attributes:
        mean: mean over images of (|g| - 1)^2, without any weight.
        gradient: g, the critic's gradient by the feature.
        slopes: s, at the features.
        pulls: v, the derivative of weight * mean by g.
    """

    mean: Float[Tensor, ""]
    gradient: Float[Tensor, "images visual"]
    slopes: Float[Tensor, "images hidden"]
    pulls: Float[Tensor, "images visual"]


def slopes_at(preactivation: Float[Tensor, "*images hidden"]) -> Float[Tensor, "*images hidden"]:
    """Derivative of the leaky ReLU: 1 above zero, 0.2 elsewhere."""
    return torch.where(preactivation > 0, 1.0, SLOPE).to(preactivation.dtype)


def gradient_penalty(
    preactivation: Float[Tensor, "images hidden"],
    weight: Float[Tensor, "hidden visual"],
    score_weight: Float[Tensor, " hidden"],
    *,
    penalty_weight: float | Float[Tensor, ""],
) -> Penalty:
    """penalty_weight * mean((|g| - 1)^2), Gulrajani et al. 2017 (arXiv 1704.00028), in closed form.

    Args:
        preactivation: hidden layer at the interpolates, before the leaky ReLU.
        weight: W, in the precision in which products run.
        score_weight: w2.
        penalty_weight: lambda, times gamma in the critic's objective.
    """
    slopes = slopes_at(preactivation)
    gradient = ((slopes * score_weight).to(weight.dtype) @ weight).to(score_weight.dtype)
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    excess = norm - 1
    # at g = 0 the norm has no derivative; the subgradient 0 is taken, as automatic differentiation does
    factor = penalty_weight * 2 / len(gradient) * excess / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    return Penalty(excess.square().mean(), gradient, slopes, gradient * factor)


def weight_derivatives(
    slopes: Float[Tensor, "terms hidden"],
    pulls: Float[Tensor, "terms visual"],
    weight: Float[Tensor, "hidden visual"],
    score_weight: Float[Tensor, " hidden"],
) -> tuple[Float[Tensor, "hidden visual"], Float[Tensor, " hidden"]]:
    """Derivatives of the sum of all (w2 * s) W v, by W and by w2.

    By diag(w2) W it is s^T v; by W that is diag(w2) s^T v, and by w2 the row sums of (s^T v) * W.

    Args:
        slopes: s, a row a term; the product runs in the precision of `pulls`.
        pulls: v.
        weight: W.
        score_weight: w2.
    """
    by_rows = (slopes.to(pulls.dtype).T @ pulls).to(weight.dtype)
    by_score = torch.linalg.vecdot(by_rows, weight)
    return by_rows.mul_(score_weight[:, None]), by_score
