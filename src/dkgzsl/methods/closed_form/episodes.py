"""Episodes: seen classes play unseen ones, so that what acts on descriptions is trained on its own task.

Step 4 of the closed form. Each episode hides some of the seen classes, predicts their prototypes from the
others by kernel ridge regression (differentiable), and lowers the cross-entropy of held-back images over the joint
label space. Class means come from one half of a class's images and queries from the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dkgzsl.methods.closed_form.kernel_ridge import KernelRidge
from dkgzsl.methods.closed_form.whitening import class_means
from dkgzsl.methods.dkgzsl.networks import FusionUnit


class PrototypeFusion(nn.Module):
    """m_c -> m_c + MLP(m_c) + normalize(W a_c + b) * scale, the identity at the start.

    Args:
        size: length of a prototype.
        semantic_size: length of a class description.
        inner_size: width of the unit's inner layer.
    """

    def __init__(self, size: int, semantic_size: int, inner_size: int = 256) -> None:
        super().__init__()
        self.unit = FusionUnit(semantic_size, inner_size, size)
        for parameter in self.unit.knowledge[2].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, prototypes: Float[Tensor, "classes dim"], descriptions: Float[Tensor, "classes semantic"]
    ) -> Float[Tensor, "classes dim"]:
        """Corrected prototypes of prepared descriptions."""
        residual: Tensor = self.unit(prototypes, self.unit.semantic_term(descriptions))
        return prototypes + residual


class DescriptionWeights(nn.Module):
    """a -> normalize(w * a), one positive weight a dimension, 1 at the start."""

    def __init__(self, semantic: int) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.zeros(semantic))

    def forward(self, descriptions: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes semantic"]:
        """Weighted descriptions of unit length."""
        return nn.functional.normalize(descriptions * self.log_weight.exp(), dim=1)


class DescriptionResidual(nn.Module):
    """a -> normalize(a + W2 relu(W1 a)), the identity at the start (W2 = 0)."""

    def __init__(self, semantic: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.inward = nn.Linear(semantic, hidden)
        self.dropout = nn.Dropout(dropout)
        self.outward = nn.Linear(hidden, semantic)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, descriptions: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes semantic"]:
        """Shifted descriptions of unit length."""
        shift = self.outward(self.dropout(self.inward(descriptions).relu()))
        return nn.functional.normalize(descriptions + shift, dim=1)


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

    episodes: int
    learning_rate: float
    hidden_share: float = 0.3
    queries: int = 1024
    weight_decay: float = 0.01


Prototypes = Callable[[KernelRidge, Tensor], Tensor]
"""(the regression from the episode's support classes, raw prepared descriptions) -> prototypes."""


def learn_by_episodes(
    module: nn.Module,
    *,
    describe: Callable[[Tensor], Tensor],
    prototypes: Prototypes,
    points: Float[Tensor, "images dim"],
    positions: Int[Tensor, " images"],
    descriptions: Float[Tensor, "seen semantic"],
    variance: float,
    width: float,
    ridge: float,
    plan: EpisodePlan,
    seed: int,
) -> None:
    """Train `module` in place.

    Args:
        module: what is trained; `describe` or `prototypes` apply it.
        describe: prepared descriptions -> the descriptions that the kernel takes.
        prototypes: an episode's regression and prepared descriptions -> prototypes of the hidden classes.
        points: training images in the space of the prototypes.
        positions: their classes, counted from 0 among the seen ones.
        descriptions: prepared descriptions of the seen classes.
        variance: within-class variance an axis; sets the temperature.
        width: of the kernel.
        ridge: of the regression.
        plan: how long and how hard.
        seed: decides splits, queries and dropout.
    """
    classes = len(descriptions)
    hidden_number = max(1, round(plan.hidden_share * classes))
    # One stream for all choices, on the CPU, so that devices agree; dropout draws from the forked global state.
    stream = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    device = points.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        module.train()
        for _ in range(plan.episodes):
            order = torch.randperm(classes, generator=stream)
            hidden, support = order[:hidden_number].to(device), order[hidden_number:].to(device)
            support_half, query_half = _halves(positions, stream)
            means = class_means(points[support_half], positions[support_half], classes)
            queries = query_half[torch.randperm(len(query_half), generator=stream)[: plan.queries].to(device)]

            regression = KernelRidge.fit(describe(descriptions[support]), means[support], width=width, ridge=ridge)
            joint = means.clone()
            joint[hidden] = prototypes(regression, descriptions[hidden])
            logits = (points[queries] @ joint.T - joint.square().sum(1) / 2) / variance
            loss = nn.functional.cross_entropy(logits, positions[queries])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        module.eval()


def _halves(positions: Tensor, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random half of every class's images, and the rest."""
    shuffled = torch.randperm(len(positions), generator=stream).to(positions.device)
    by_class = shuffled[positions[shuffled].sort(stable=True).indices]
    sorted_classes = positions[by_class]
    counts = torch.bincount(sorted_classes)
    rank = torch.arange(len(by_class), device=positions.device) - (counts.cumsum(0) - counts)[sorted_classes]
    first = rank < (counts[sorted_classes] + 1) // 2
    return by_class[first], by_class[~first]
