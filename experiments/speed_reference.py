"""The published training as a plain loop, step for step: what `speed.py` compares the iteration of DKGZSL with.

Written after the published description: a row an image, inputs joined before each product, one Adam of PyTorch's
defaults a network, real, fake and penalty each with a backward pass of its own, the penalty differentiated twice,
knowledge and guidance computed for each image, figures copied to the host at every step. It shares no code with
the package. Two things follow the package instead of the release, so that both give the same weights; neither
changes the cost: the batches are handed in, and MFU's gradients are cleared before each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

BETAS = (0.5, 0.999)


class Knowledge(nn.Module):
    """KTN: k1 = relu(W a + b), k2 = W' k1 + b'."""

    def __init__(self, semantic: int, hidden: int, visual: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(semantic, hidden), nn.Linear(hidden, visual)

    def forward(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """k1 and k2 of each row."""
        k1 = torch.relu(self.first(a))
        return k1, self.second(k1)


class Fusion(nn.Module):
    """MFU at one layer: m = MLP(k) + normalize(W a + b) * scale."""

    def __init__(self, semantic: int, inner: int, size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(size, inner), nn.ReLU(), nn.Linear(inner, size))
        self.semantic = nn.Linear(semantic, size)
        self.scale = nn.Parameter(torch.zeros(size))

    def forward(self, k: Tensor, a: Tensor) -> Tensor:
        """normalize(m) of each row."""
        m = self.mlp(k) + functional.normalize(self.semantic(a), dim=1) * self.scale
        return functional.normalize(m, dim=1)


class Generator(nn.Module):
    """h1 = relu(W1 [z; a]) + g1, output sigmoid(W3 h1 + g2)."""

    def __init__(self, semantic: int, hidden: int, visual: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2 * semantic, hidden), nn.Linear(hidden, visual)

    def forward(self, z: Tensor, a: Tensor, guidance: tuple[Tensor, Tensor] | None) -> Tensor:
        """One feature a row."""
        h1 = torch.relu(self.first(torch.cat([z, a], dim=1)))
        if guidance is None:
            return torch.sigmoid(self.second(h1))
        return torch.sigmoid(self.second(h1 + guidance[0]) + guidance[1])


class Critic(nn.Module):
    """D(x, a) = w2 . leaky_relu(W [x; a])."""

    def __init__(self, semantic: int, hidden: int, visual: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(visual + semantic, hidden), nn.Linear(hidden, 1)

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """One score a row."""
        return self.second(functional.leaky_relu(self.first(torch.cat([x, a], dim=1)), 0.2))


@dataclass(frozen=True)
class Rates:
    """What decides the steps, by the names that DKGZSL's settings have."""

    learning_rate: float
    fusion_learning_rate: float
    gamma: float
    knowledge_weight: float
    fusion_weight: float


class ReferenceLoop:
    """The four networks, their optimizers and lambda.

    Args:
        features: training features in [0, 1].
        semantics: a description for each image's label.
        labels: class of each image, a row of `semantics`.
        hidden: width of the hidden layers.
        rates: of the steps.
        penalty_weight: lambda at the start.
    """

    def __init__(
        self, features: Tensor, semantics: Tensor, labels: Tensor, hidden: int, rates: Rates, penalty_weight: float
    ) -> None:
        self.features, self.semantics, self.labels, self.rates = features, semantics, labels, rates
        sizes = (semantics.shape[1], hidden, features.shape[1])
        self.knowledge, self.generator, self.critic = Knowledge(*sizes), Generator(*sizes), Critic(*sizes)
        self.fusion = nn.ModuleList(
            [Fusion(sizes[0], hidden // 2, hidden), Fusion(sizes[0], hidden // 2, sizes[2])]
        )
        for network in (self.knowledge, self.generator, self.critic, self.fusion):
            network.to(features.dtype)
        self.penalty_weight = penalty_weight
        self.optimizers: dict[str, torch.optim.Adam] = {}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take a copy of the package's weights, by their names in its `state_dict`, and fresh optimizers."""
        for ours, parts in self._names().items():
            ours.data.copy_(torch.cat([weights[name] for name in parts], dim=-1))
        for name in ("knowledge", "fusion", "generator", "critic"):
            rate = self.rates.fusion_learning_rate if name == "fusion" else self.rates.learning_rate
            self.optimizers[name] = torch.optim.Adam(getattr(self, name).parameters(), lr=rate, betas=BETAS)

    def weights(self) -> dict[str, Tensor]:
        """The weights by the package's names."""
        found: dict[str, Tensor] = {}
        for ours, parts in self._names().items():
            widths = [ours.shape[-1]]
            if len(parts) == 2:
                first = self.features.shape[1] if parts[0].startswith("critic") else self.semantics.shape[1]
                widths = [first, ours.shape[-1] - first]
            found |= dict(zip(parts, ours.detach().split(widths, dim=-1), strict=True))
        return found

    def _names(self) -> dict[Tensor, Sequence[str]]:
        names: dict[Tensor, Sequence[str]] = {
            self.generator.first.weight: ("generator.noise.weight", "generator.semantic.weight"),
            self.generator.first.bias: ("generator.semantic.bias",),
            self.critic.first.weight: ("critic.visual.weight", "critic.semantic.weight"),
            self.critic.first.bias: ("critic.semantic.bias",),
        }
        layers = {
            "generator.visual": self.generator.second,
            "critic.score": self.critic.second,
            "knowledge.hidden": self.knowledge.first,
            "knowledge.visual": self.knowledge.second,
        }
        for level, unit in zip(("hidden", "visual"), self.fusion, strict=True):
            layers |= {f"fusion.{level}.knowledge.{place}": unit.mlp[place] for place in (0, 2)}
            layers[f"fusion.{level}.semantic"] = unit.semantic
            names[unit.scale] = (f"fusion.{level}.scale",)
        for name, layer in layers.items():
            names |= {layer.weight: (f"{name}.weight",), layer.bias: (f"{name}.bias",)}
        return names

    def iteration(self, batches: Sequence[Tensor], random: torch.Generator, *, guided: bool) -> dict[str, float]:
        """One step of KTN and of the critic for each batch, then one of the generator (and MFU, guided).

        Args:
            batches: images of each critic step.
            random: source of noise and mixtures.
            guided: the guided pass, or the unguided one.

        Returns:
            `distance`, `penalty`, `knowledge_loss` (means over the critic steps) and `generator_loss`.
        """
        sums = dict.fromkeys(("distance", "penalty", "knowledge_loss"), 0.0)
        for images in batches:
            x, a = self.features[images], self.semantics[self.labels[images]]
            sums["knowledge_loss"] += self._knowledge_step(x, a)
            distance, penalty = self._critic_step(x, a, random, guided=guided)
            sums["distance"] += distance
            sums["penalty"] += penalty
        figures = {name: value / len(batches) for name, value in sums.items()}
        if figures["penalty"] > 1.05:
            self.penalty_weight *= 1.1
        elif figures["penalty"] < 1.001:
            self.penalty_weight /= 1.1
        figures["generator_loss"] = self._generator_step(a, random, guided=guided)
        return figures

    def _knowledge_step(self, x: Tensor, a: Tensor) -> float:
        self.knowledge.zero_grad()
        reconstruction = torch.sigmoid(self.knowledge(a)[1])
        entropy = functional.binary_cross_entropy(reconstruction, x, reduction="sum") / len(x)
        loss = self.rates.knowledge_weight * entropy
        loss.backward()
        self.optimizers["knowledge"].step()
        return float(loss.detach())

    def _guidance(self, a: Tensor) -> tuple[Tensor, Tensor]:
        k1, k2 = self.knowledge(a)
        first, second = (unit(k.detach(), a) for unit, k in zip(self.fusion, (k1, k2), strict=True))
        return self.rates.fusion_weight * first, self.rates.fusion_weight * second

    def _critic_step(self, x: Tensor, a: Tensor, random: torch.Generator, *, guided: bool) -> tuple[float, float]:
        gamma = self.rates.gamma
        for parameter in self.critic.parameters():
            parameter.requires_grad_(True)
        self.critic.zero_grad()
        real = self.critic(x, a).mean()
        (-gamma * real).backward()
        z = torch.randn(a.shape, generator=random, dtype=a.dtype)
        made = self.generator(z, a, self._guidance(a) if guided else None).detach()
        fake = self.critic(made, a).mean()
        (gamma * fake).backward()
        mix = torch.rand(len(x), 1, generator=random, dtype=a.dtype)
        between = (mix * x + (1 - mix) * made).requires_grad_(True)
        scores = self.critic(between, a)
        (slope,) = torch.autograd.grad(scores, between, torch.ones_like(scores), create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        (gamma * self.penalty_weight * penalty).backward()
        self.optimizers["critic"].step()
        return float((real - fake).detach()), float(penalty.detach())

    def _generator_step(self, a: Tensor, random: torch.Generator, *, guided: bool) -> float:
        for parameter in self.critic.parameters():
            parameter.requires_grad_(False)
        self.generator.zero_grad()
        self.fusion.zero_grad()
        z = torch.randn(a.shape, generator=random, dtype=a.dtype)
        made = self.generator(z, a, self._guidance(a) if guided else None)
        loss = -self.rates.gamma * self.critic(made, a).mean()
        loss.backward()
        self.optimizers["generator"].step()
        if guided:
            self.optimizers["fusion"].step()
        return float(loss.detach())
