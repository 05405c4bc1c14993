"""The critic's gradients, written out: its objective has one hidden layer, and its penalty a closed form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.model.critic import Critic
from dkgzsl.model.gradient_penalty import gradient_penalty, slopes_at, weight_derivatives


class CriticFigures(NamedTuple):
    """What the critic's step saw.

    Attributes:
        distance: E D(real) - E D(fake), the estimate of the Wasserstein distance.
        penalty: mean of (|g| - 1)^2, without weights.
    """

    distance: Float[Tensor, ""]
    penalty: Float[Tensor, ""]


@torch.no_grad()
def critic_gradients(
    critic: Critic,
    real: Float[Tensor, "images visual"],
    fake: Float[Tensor, "images visual"],
    semantics: Float[Tensor, "classes semantic"],
    slots: Int[Tensor, " images"],
    members: Float[Tensor, "images classes"],
    mix: Float[Tensor, "images 1"],
    *,
    gamma: float,
    penalty_weight: Float[Tensor, ""],
) -> CriticFigures:
    """Set the gradients of gamma * (E D(fake) - E D(real) + penalty_weight * GP) on the critic's parameters.

    The hidden layer is affine in the feature, so that at the interpolates mix * real + (1 - mix) * fake it is the
    same mixture of those at real and fake. A leaky ReLU is its slope times its input, so that real, fake and
    penalty terms are all of the form that `weight_derivatives` takes. The score's bias drops out of the objective:
    its gradient is zero.

    Args:
        critic: the critic.
        real: features in [0, 1]; products run in their precision, everything else in the weights'.
        fake: generated features, in the precision of `real`.
        semantics: descriptions of the batch's classes.
        slots: for each image, the row of its class in `semantics`.
        members: the same as ones in a matrix of zeros.
        mix: the share of the real feature in each interpolate, uniform in [0, 1].
        gamma: weight of the whole objective.
        penalty_weight: lambda.
    """
    low, full, size = real.dtype, critic.score.weight.dtype, len(real)
    weight, score = critic.visual.weight, critic.score.weight[0]
    weight_low, described = weight.to(low), semantics.to(low)
    by_class = (described @ critic.semantic.weight.to(low).T).to(full) + critic.semantic.bias
    class_part = by_class.index_select(0, slots)

    hidden = (torch.cat([real, fake]) @ weight_low.T).to(full).view(2, size, -1) + class_part
    between = torch.lerp(hidden[1], hidden[0], mix)
    penalty = gradient_penalty(between, weight_low, score, penalty_weight=gamma * penalty_weight)

    slopes = slopes_at(hidden)
    slopes[0] *= -gamma / size  # the share of each image in the objective
    slopes[1] *= gamma / size
    visual_grad, score_grad = weight_derivatives(
        torch.cat([slopes.flatten(0, 1), penalty.slopes]),
        torch.cat([real, fake, penalty.pulls.to(low)]),
        weight,
        score,
    )
    difference = slopes[0] + slopes[1]
    score_grad += (difference * class_part).sum(dim=0)
    class_grad = (members.T @ difference) * score

    critic.visual.weight.grad = visual_grad
    critic.semantic.weight.grad = (class_grad.to(low).T @ described).to(full)
    critic.semantic.bias.grad = class_grad.sum(dim=0)
    critic.score.weight.grad = score_grad[None]
    critic.score.bias.grad = torch.zeros_like(critic.score.bias)
    distance = -((slopes * hidden).sum(dim=(0, 1)) @ score) / gamma
    return CriticFigures(distance, penalty.mean)
