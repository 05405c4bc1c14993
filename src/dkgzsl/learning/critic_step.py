"""The critic's gradients, written out: its objective has one hidden layer, and its penalty a closed form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.model.critic import Critic
from dkgzsl.model.gradient_penalty import gradient_penalty, slopes


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
    same mixture of those at real and fake. A leaky ReLU is its slope times its input, so that each image
    contributes +-gamma / images * slope * hidden to the derivative by w2, and +-gamma / images * slope * w2 to
    that by the hidden layer. The score's bias drops out of the objective: its gradient is zero.

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
    low, full = real.dtype, critic.score.weight.dtype
    size, features = len(real), torch.cat([real, fake])
    weight, score = critic.visual.weight.to(low), critic.score.weight[0]
    described = semantics.to(low)
    class_part = (described @ critic.semantic.weight.to(low).T).to(full) + critic.semantic.bias

    hidden = (features @ weight.T).to(full).view(2, size, -1) + class_part.index_select(0, slots)
    penalty = gradient_penalty(torch.lerp(hidden[1], hidden[0], mix), weight, score, weight=gamma * penalty_weight)

    pull = slopes(hidden)  # derivative by (w2 * hidden), image by image
    pull[0] *= -gamma / size
    pull[1] *= gamma / size
    by_score = (pull * hidden).sum(dim=(0, 1))
    by_image = pull.mul_(score)  # derivative by the hidden layer
    by_class = members.T @ (by_image[0] + by_image[1])
    by_visual = penalty.by_hidden
    if low == full:
        by_visual.addmm_(by_image.view(2 * size, -1).T, features)
    else:
        by_visual += by_image.view(2 * size, -1).to(low).T @ features

    critic.visual.weight.grad = by_visual
    critic.semantic.weight.grad = (by_class.to(low).T @ described).to(full)
    critic.semantic.bias.grad = by_class.sum(dim=0)
    critic.score.weight.grad = (by_score + penalty.by_score)[None]
    critic.score.bias.grad = torch.zeros_like(critic.score.bias)
    return CriticFigures(-(by_score @ score) / gamma, penalty.mean)
