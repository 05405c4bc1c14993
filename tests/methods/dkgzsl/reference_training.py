"""The published training written after its formulas: a row an image, every gradient by automatic differentiation.

It shares the blocks' weights, the batches and the order of random draws with the fast form, and nothing else: the
inputs are joined before each product, the penalty is differentiated twice, guidance is computed for every image.
"""

from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from dkgzsl.methods.dkgzsl.networks import Networks
from dkgzsl.methods.dkgzsl.settings import AdversarialSettings
from dkgzsl.methods.shared.training import draw_batches, seeded


class ReferenceTraining:
    def __init__(
        self, features: Tensor, labels: Tensor, semantics: Tensor, settings: AdversarialSettings, seed: int
    ) -> None:
        self.features, self.labels, self.semantics = features, labels, semantics
        self.settings, self.seed, self.epoch = settings, seed, 0
        networks = Networks.initialised(
            semantics.shape[1], settings.hidden_size, features.shape[1], seeded(seed, 0)
        )
        self.networks = networks.to(features.dtype)
        self.penalty_weight = settings.penalty_weight
        self.optimizers = {
            name: torch.optim.Adam(
                getattr(self.networks, name).parameters(),
                lr=settings.fusion_learning_rate if name == "fusion" else settings.learning_rate,
                betas=(0.5, 0.999),
                foreach=False,
            )
            for name in ("knowledge", "fusion", "generator", "critic")
        }

    def critic(self, x: Tensor, a: Tensor) -> Tensor:
        critic = self.networks.critic
        weight = torch.cat([critic.visual.weight, critic.semantic.weight], dim=1)
        hidden = torch.cat([x, a], dim=1) @ weight.T + critic.semantic.bias
        return functional.leaky_relu(hidden, 0.2) @ critic.score.weight.T + critic.score.bias

    def generator(self, z: Tensor, a: Tensor, *, guided: bool) -> Tensor:
        generator = self.networks.generator
        weight = torch.cat([generator.noise.weight, generator.semantic.weight], dim=1)
        h1 = torch.relu(torch.cat([z, a], dim=1) @ weight.T + generator.semantic.bias)
        if not guided:
            return torch.sigmoid(generator.visual(h1))
        k1, k2 = (k.detach() for k in self.networks.knowledge(a))
        m = []
        for unit, k in ((self.networks.fusion.hidden, k1), (self.networks.fusion.visual, k2)):
            wa = unit.semantic(a)
            m.append(unit.knowledge(k) + wa / wa.norm(dim=1, keepdim=True) * unit.scale)
        g1, g2 = (self.settings.fusion_weight * row / row.norm(dim=1, keepdim=True) for row in m)
        return torch.sigmoid(generator.visual(h1 + g1) + g2)

    def step(self, loss: Tensor, *names: str) -> None:
        self.networks.zero_grad()
        loss.backward()
        for name in names:
            self.optimizers[name].step()

    def train_epoch(self) -> None:
        random = seeded(self.seed, 1, self.epoch)
        for guided in (False, True):
            self.train_pass(random, guided=guided)
        self.epoch += 1

    def train_pass(self, random: torch.Generator, *, guided: bool) -> None:
        settings, dtype = self.settings, self.features.dtype
        size = min(settings.batch_size, len(self.labels))
        rounds = ceil(len(self.labels) / size)
        batches = draw_batches(self.labels, number=rounds * settings.critic_steps, size=size, random=random)
        images = iter(batches.images)
        for _ in range(rounds):
            penalties = []
            for _ in range(settings.critic_steps):
                here = next(images)
                x, a = self.features[here], self.semantics[self.labels[here]]
                reconstruction = torch.sigmoid(self.networks.knowledge(a).visual)
                entropy = functional.binary_cross_entropy(reconstruction, x, reduction="none").sum(1).mean()
                self.step(settings.knowledge_weight * entropy, "knowledge")

                z = torch.randn(a.shape, generator=random, dtype=dtype)
                fake = self.generator(z, a, guided=guided).detach()
                mix = torch.rand(size, 1, generator=random, dtype=dtype)
                between = (mix * x + (1 - mix) * fake).requires_grad_(True)
                (slope,) = torch.autograd.grad(self.critic(between, a).sum(), between, create_graph=True)
                penalty = (slope.norm(dim=1) - 1).square().mean()
                distance = self.critic(fake, a).mean() - self.critic(x, a).mean()
                self.step(settings.gamma * (distance + self.penalty_weight * penalty), "critic")
                penalties.append(float(penalty.detach()))

            mean = sum(penalties) / len(penalties)
            if mean > 1.05:
                self.penalty_weight *= 1.1
            elif mean < 1.001:
                self.penalty_weight /= 1.1

            z = torch.randn(a.shape, generator=random, dtype=dtype)
            loss = -settings.gamma * self.critic(self.generator(z, a, guided=guided), a).mean()
            self.step(loss, "generator", *(["fusion"] if guided else []))
