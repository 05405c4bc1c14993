"""The conditional critic of a WGAN-GP, its gradient penalty in closed form, and its gradients for one step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.methods.shared.training import gradient_memory, transposed_product

SLOPE = 0.2
"""Slope of the leaky ReLU below zero."""


class Critic(nn.Module):
    """D(x, a) = w2 . leaky_relu(W [x; a] + b) + b2, of DKGZSL (IEEE TCSVT 2025).

    W [x; a] is kept as the sum of two products, one for the feature and one for the description.

    Args:
        visual_size: length of a visual feature x.
        semantic_size: length of a class description a.
        hidden_size: width of the hidden layer.
    """

    def __init__(self, visual_size: int, semantic_size: int, hidden_size: int) -> None:
        super().__init__()
        self.visual = nn.Linear(visual_size, hidden_size, bias=False)
        self.semantic = nn.Linear(semantic_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1)

    def forward(
        self, features: Float[Tensor, "images visual"], class_part: Float[Tensor, "images hidden"]
    ) -> Float[Tensor, "images 1"]:
        """The critic's score of each image.

        Args:
            features: in [0, 1].
            class_part: `self.semantic` of the description of each image's class.
        """
        scores: Tensor = self.score(functional.leaky_relu(self.visual(features) + class_part, SLOPE))
        return scores


class Penalty(NamedTuple):
    """The gradient penalty of a batch, and the parts of its derivatives.

    Attributes:
        mean: mean over the images of (|g| - 1)^2, without a weight.
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
    ones = preactivation.new_ones(()).expand_as(preactivation)
    # torch.where of two numbers takes fifty times as long on a CPU
    slopes: Tensor = torch.ops.aten.leaky_relu_backward(ones, preactivation, SLOPE, False)
    return slopes


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
        weight: W, in the precision of the products.
        score_weight: w2.
        penalty_weight: lambda, times gamma in the critic's objective.
    """
    slopes = slopes_at(preactivation)
    gradient = ((slopes * score_weight).to(weight.dtype) @ weight).to(score_weight.dtype)
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    excess = norm - 1
    # At g = 0 the norm has no derivative: the subgradient 0 is taken, as automatic differentiation does.
    factor = penalty_weight * 2 / len(gradient) * excess / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    return Penalty(excess.square().mean(), gradient, slopes, gradient * factor)


def weight_derivatives(
    slopes: Float[Tensor, "terms hidden"],
    pulls: Float[Tensor, "terms visual"],
    weight: Float[Tensor, "hidden visual"],
    score_weight: Float[Tensor, " hidden"],
    out: Float[Tensor, "hidden visual"] | None = None,
) -> tuple[Float[Tensor, "hidden visual"], Float[Tensor, " hidden"]]:
    """Derivatives of the sum of all (w2 * s) W v, by W and by w2.

    By diag(w2) W it is s^T v; by W that is diag(w2) s^T v, and by w2 the row sums of (s^T v) * W.

    Args:
        slopes: s, a row for each term; the product runs in the precision of `pulls`.
        pulls: v.
        weight: W.
        score_weight: w2.
        out: memory for the derivative by W.
    """
    by_rows = transposed_product(slopes, pulls, torch.empty_like(weight) if out is None else out)
    by_score = torch.linalg.vecdot(by_rows, weight)
    return by_rows.mul_(score_weight[:, None]), by_score


class CriticFigures(NamedTuple):
    """Figures of one step of the critic.

    Attributes:
        distance: E D(real) - E D(fake), the estimate of the Wasserstein distance.
        penalty: mean over the images of (|g| - 1)^2, without a weight.
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

    The hidden layer is affine in the feature: at the interpolates mix * real + (1 - mix) * fake it is the same
    mixture of its values at real and fake. A leaky ReLU is its slope times its input: the terms of real, fake and
    penalty all have the form that `weight_derivatives` takes. The score's bias cancels out of the objective: its
    gradient is zero.

    Args:
        critic: the critic.
        real: features in [0, 1]; products run in their precision, all else in that of the weights.
        fake: generated features, in the precision of `real`.
        semantics: descriptions of the batch's classes.
        slots: for each image, the row of its class in `semantics`.
        members: the same as a matrix: 1 at each image's slot, 0 elsewhere.
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
    slopes[0] *= -gamma / size  # weight of an image in the objective
    slopes[1] *= gamma / size
    _, score_grad = weight_derivatives(
        torch.cat([slopes.flatten(0, 1), penalty.slopes]),
        torch.cat([real, fake, penalty.pulls.to(low)]),
        weight,
        score,
        out=gradient_memory(weight),
    )
    difference = slopes[0] + slopes[1]
    score_grad += (difference * class_part).sum(dim=0)
    class_grad = (members.T @ difference) * score

    transposed_product(class_grad, described, gradient_memory(critic.semantic.weight))
    critic.semantic.bias.grad = class_grad.sum(dim=0)
    critic.score.weight.grad = score_grad[None]
    critic.score.bias.grad = torch.zeros_like(critic.score.bias)
    distance = -((slopes * hidden).sum(dim=(0, 1)) @ score) / gamma
    return CriticFigures(distance, penalty.mean)
