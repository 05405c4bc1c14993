"""Episodes: seen classes play unseen ones, so that weights of descriptions are learned for the task they serve.

Step 4 of the closed form. Each episode hides some of the seen classes, predicts their prototypes from the
others by kernel ridge regression (differentiable), and lowers the cross-entropy of held-back images over the joint
label space. Class means come from one half of a class's images and queries from the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dkgzsl.methods.closed_form.kernel_ridge import KernelRidge
from dkgzsl.methods.shared.class_statistics import class_means


class DescriptionWeights(nn.Module):
    """a -> normalize(w * a), one positive weight a dimension, 1 at the start."""

    def __init__(self, semantic: int) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.zeros(semantic))

    def forward(self, descriptions: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes semantic"]:
        """Weighted descriptions of unit length."""
        return nn.functional.normalize(descriptions * self.log_weight.exp(), dim=1)


@dataclass(frozen=True)
class EpisodePlan:
    """How long and how hard to learn.

    Attributes:
        episodes: episodes, one optimiser step each.
        learning_rate: AdamW's.
        hidden_share: share of the seen classes that play unseen ones.
        queries: images scored an episode.
        weight_decay: AdamW's.
    """

    episodes: int = 50
    learning_rate: float = 0.01
    hidden_share: float = 0.3
    queries: int = 1024
    weight_decay: float = 0.01


def learn_by_episodes(
    weights: DescriptionWeights,
    *,
    points: Float[Tensor, "images dim"],
    positions: Int[Tensor, " images"],
    descriptions: Float[Tensor, "seen semantic"],
    variance: float,
    width: float,
    ridge: float,
    plan: EpisodePlan,
    seed: int,
) -> None:
    """Train the weights in place.

    Args:
        weights: of the descriptions.
        points: training images in the space of the prototypes.
        positions: their classes, counted from 0 among the seen ones.
        descriptions: prepared descriptions of the seen classes.
        variance: within-class variance an axis; sets the temperature.
        width: of the kernel.
        ridge: of the regression.
        plan: how long and how hard.
        seed: decides splits and queries.
    """
    classes = len(descriptions)
    hidden_number = max(1, round(plan.hidden_share * classes))
    # One stream for all choices, on the CPU, so that devices agree.
    stream = torch.Generator().manual_seed(seed)
    optimiser = _AdamW(weights.log_weight, plan)
    device = points.device
    for _ in range(plan.episodes):
        order = torch.randperm(classes, generator=stream)
        hidden, support = order[:hidden_number].to(device), order[hidden_number:].to(device)
        support_half, query_half = _halves(positions, stream)
        means = class_means(points[support_half], positions[support_half], classes)
        queries = query_half[torch.randperm(len(query_half), generator=stream)[: plan.queries].to(device)]

        described = weights(descriptions[support])
        regression = KernelRidge.fit(described, means[support], width=width, ridge=ridge)
        joint = means.clone()
        joint[hidden] = regression(weights(descriptions[hidden]))
        logits = (points[queries] @ joint.T - joint.square().sum(1) / 2) / variance
        loss = nn.functional.cross_entropy(logits, positions[queries])
        optimiser.step(*torch.autograd.grad(loss, weights.log_weight))


class _AdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019) of one parameter, with torch's own constants.

    The first optimiser that `torch.optim` makes loads torch's compiler: 3 s, on a fit of 10.
    """

    def __init__(self, parameter: nn.Parameter, plan: EpisodePlan) -> None:
        self.parameter, self.plan, self.steps = parameter, plan, 0
        self.mean, self.square = torch.zeros_like(parameter), torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """One step against the gradient."""
        self.steps += 1
        self.mean.lerp_(gradient, 1 - 0.9)
        self.square.lerp_(gradient.square(), 1 - 0.999)
        mean = self.mean / (1 - 0.9**self.steps)
        square = self.square / (1 - 0.999**self.steps)
        self.parameter.mul_(1 - self.plan.learning_rate * self.plan.weight_decay)
        self.parameter.sub_(self.plan.learning_rate * mean / (square.sqrt() + 1e-8))


def _halves(positions: Tensor, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random half of every class's images, and the rest."""
    shuffled = torch.randperm(len(positions), generator=stream).to(positions.device)
    by_class = shuffled[positions[shuffled].sort(stable=True).indices]
    sorted_classes = positions[by_class]
    counts = torch.bincount(sorted_classes)
    rank = torch.arange(len(by_class), device=positions.device) - (counts.cumsum(0) - counts)[sorted_classes]
    first = rank < (counts[sorted_classes] + 1) // 2
    return by_class[first], by_class[~first]
