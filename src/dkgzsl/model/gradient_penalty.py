"""The gradient penalty of WGAN-GP and its derivatives in closed form, for a critic with one hidden layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dkgzsl.model.critic import SLOPE


class Penalty(NamedTuple):
    """The penalty, the gradient that it is about, and its derivatives.

    Attributes:
        mean: mean over images of (|g| - 1)^2, without any weight.
        gradient: g, the critic's gradient by the feature.
        by_hidden: derivative of weight * mean by the hidden layer's weights on the feature.
        by_score: the same by the score's weights w2.
    """

    mean: Float[Tensor, ""]
    gradient: Float[Tensor, "images visual"]
    by_hidden: Float[Tensor, "hidden visual"]
    by_score: Float[Tensor, " hidden"]


def slopes(preactivation: Float[Tensor, "*images hidden"]) -> Float[Tensor, "*images hidden"]:
    """Derivative of the leaky ReLU: 1 above zero, 0.2 elsewhere."""
    return torch.where(preactivation > 0, 1.0, SLOPE).to(preactivation.dtype)


def gradient_penalty(
    preactivation: Float[Tensor, "images hidden"],
    hidden_weight: Float[Tensor, "hidden visual"],
    score_weight: Float[Tensor, " hidden"],
    *,
    weight: float | Float[Tensor, ""],
) -> Penalty:
    """weight * mean((|g| - 1)^2) and its derivatives, without automatic differentiation (Gulrajani et al. 2017).

    With one hidden layer, D(x) = w2 . leaky_relu(W x + c) has the gradient g = (w2 * s) W, s the slopes at x. The
    slopes are constant between kinks, so the penalty depends on W and w2 through g alone: with q = dP/dg,
    P' = s^T q is its derivative by the rows of diag(w2) W; by W it is diag(w2) P', by w2 the row sums of P' * W.
    Biases and the weights on the description have derivative zero.

    Args:
        preactivation: hidden layer at the interpolates, before the leaky ReLU.
        hidden_weight: W, the hidden layer's weights on the feature.
        score_weight: w2.
        weight: the penalty's weight (lambda, times gamma in the critic's objective).
    """
    slope = slopes(preactivation)
    low = hidden_weight.dtype  # where products run in bfloat16, the derivatives of weights stay in float32
    gradient = ((slope * score_weight).to(low) @ hidden_weight).to(score_weight.dtype)
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    excess = norm - 1
    # at g = 0 the norm has no derivative; the subgradient 0 is taken, as automatic differentiation does
    pull = gradient * (weight * 2 / len(gradient) * excess / norm.clamp_min(torch.finfo(norm.dtype).tiny))
    by_rows = (slope.to(low).T @ pull.to(low)).to(score_weight.dtype)
    by_score = torch.linalg.vecdot(by_rows, hidden_weight.to(score_weight.dtype))
    return Penalty(excess.square().mean(), gradient, by_rows.mul_(score_weight[:, None]), by_score)
