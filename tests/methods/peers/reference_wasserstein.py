"""f-CLSWGAN's and f-VAEGAN-D2's training written after their formulas, all by automatic differentiation.

It shares first weights, batches and the order of random draws with the fast form, and nothing else: a row an
image, inputs joined before each product, the penalty differentiated twice, densities from `torch.distributions`.
"""

from math import ceil

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence
from torch.nn import functional

from dkgzsl.methods.peers.f_clswgan import ClassificationTraining
from dkgzsl.methods.peers.f_vaegan import AutoencodingTraining
from dkgzsl.methods.peers.wasserstein import WassersteinTraining
from dkgzsl.methods.shared.training import draw_batches, seeded


def joined(x: Tensor, a: Tensor, of_x: torch.nn.Linear, of_a: torch.nn.Linear) -> Tensor:
    """leaky_relu(W [x; a] + b)."""
    weight = torch.cat([of_x.weight, of_a.weight], dim=1)
    return functional.leaky_relu(torch.cat([x, a], dim=1) @ weight.T + of_a.bias, 0.2)


class ReferenceTraining:
    """Starts from the networks of a training that has not begun, and trains these very networks."""

    def __init__(self, start: WassersteinTraining) -> None:
        self.start, self.settings = start, start.settings
        self.generator, self.critic = start.generator, start.critic.requires_grad_(True)
        self.x = (start.task.features - start.task.features.amin(0)) / (
            start.task.features.amax(0) - start.task.features.amin(0)
        )
        self.y = torch.searchsorted(start.task.seen, start.task.labels)
        rate = start.settings.learning_rate
        stepping = [*self.generator.parameters()]
        if isinstance(start, AutoencodingTraining):
            stepping += start.encoder.parameters()
        self.optimizer = torch.optim.Adam(stepping, lr=rate, betas=(0.5, 0.999), foreach=False)
        self.critic_optimizer = torch.optim.Adam(
            self.critic.parameters(), lr=rate, betas=(0.5, 0.999), foreach=False
        )

    def d(self, x: Tensor, a: Tensor) -> Tensor:
        return joined(x, a, self.critic.visual, self.critic.semantic) @ self.critic.score.weight[0]

    def logits(self, z: Tensor, a: Tensor) -> Tensor:
        generator = self.generator
        return (
            joined(z, a, generator.noise, generator.semantic) @ generator.visual.weight.T + generator.visual.bias
        )

    def g(self, z: Tensor, a: Tensor) -> Tensor:
        return torch.relu(self.logits(z, a)) if self.settings.output == "relu" else self.logits(z, a).sigmoid()

    def added(self, x: Tensor, a: Tensor, y: Tensor, fake: Tensor, random: torch.Generator) -> Tensor:
        start = self.start
        if isinstance(start, ClassificationTraining):
            kept = Categorical(logits=fake @ start.kept.weight.T + start.kept.bias)
            return -start.beta * kept.log_prob(y).mean()
        assert isinstance(start, AutoencodingTraining)
        hidden = joined(x, a, start.encoder.visual, start.encoder.semantic)
        mean, log_variance = start.encoder.mean(hidden), start.encoder.log_variance(hidden)
        posterior = Normal(mean, log_variance.exp().sqrt())
        z = mean + posterior.stddev * torch.randn(mean.shape, generator=random, dtype=mean.dtype)
        likelihood = Bernoulli(logits=self.logits(z, a), validate_args=False).log_prob(x).sum(1)
        return (kl_divergence(posterior, Normal(0.0, 1.0)).sum(1) - likelihood).mean()

    def train_epoch(self, epoch: int) -> None:
        settings, random = self.settings, seeded(self.start.seed, 3, epoch)
        size = min(settings.batch_size, len(self.y))
        rounds = ceil(len(self.y) / size)
        batches = draw_batches(self.y, number=rounds * settings.critic_steps, size=size, random=random)
        images = iter(batches.images)
        for _ in range(rounds):
            for _ in range(settings.critic_steps):
                here = next(images)
                x, y = self.x[here], self.y[here]
                a = self.start.semantics[y]
                fake = self.g(torch.randn(a.shape, generator=random, dtype=a.dtype), a).detach()
                mix = torch.rand(len(a), 1, generator=random, dtype=a.dtype)
                between = (mix * x + (1 - mix) * fake).requires_grad_(True)
                (slope,) = torch.autograd.grad(self.d(between, a).sum(), between, create_graph=True)
                penalty = (slope.norm(dim=1) - 1).square().mean()
                loss = self.d(fake, a).mean() - self.d(x, a).mean() + settings.penalty_weight * penalty
                self.critic_optimizer.zero_grad()
                loss.backward()
                self.critic_optimizer.step()
            fake = self.g(torch.randn(a.shape, generator=random, dtype=a.dtype), a)
            loss = -settings.gamma * self.d(fake, a).mean() + self.added(x, a, y, fake, random)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
