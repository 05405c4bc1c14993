"""The conditional WGAN-GP on features that f-CLSWGAN and f-VAEGAN-D2 share.

Critic: E D(fake, a) - E D(real, a) + lambda * mean((|dD/dx| - 1)^2) at random interpolates (Gulrajani et al. 2017,
arXiv 1704.00028), by its exact gradients (`critic_gradients`). Generator: -gamma * E D(G(z, a), a) and what the
method adds. An epoch has ceil(images / batch size) generator steps, each after `critic_steps` critic steps with
a batch of their own; the generator's step takes the last one's images and classes and fresh noise.

Deviations from both papers' code: batches come from permutations instead of fresh draws (`draw_batches`);
descriptions of unusual scale are brought to a usual length (`description_scale`).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dkgzsl.methods.base import Setting, Task
from dkgzsl.methods.peers.conditional_networks import ConditionalGenerator, Output, draw_weights
from dkgzsl.methods.peers.epochwise import Precision
from dkgzsl.methods.peers.synthesized_softmax import LastStep, SoftmaxSettings, SynthesisModel, synthesized_for
from dkgzsl.methods.shared.critic import Critic, critic_gradients
from dkgzsl.methods.shared.scaling import MinMax, description_scale
from dkgzsl.methods.shared.softmax import BETAS
from dkgzsl.methods.shared.training import Batches, draw_batches, restore, seeded, state_of

_GENERATOR, _CRITIC, _ADDED, _EPOCH, _SYNTHESIS = range(5)  # places of random streams

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class WassersteinSettings:
    """How the adversarial part is trained.

    Attributes:
        hidden_size: width of every hidden layer.
        batch_size: images a step.
        learning_rate: Adam's, of all networks.
        critic_steps: critic steps a generator step.
        penalty_weight: lambda.
        gamma: weight of the generator's adversarial loss.
        output: the generator's last function.
        precision: of the matrix products.
    """

    hidden_size: int
    batch_size: int
    learning_rate: float
    critic_steps: int
    penalty_weight: float
    gamma: float
    output: Output
    precision: Precision


class WassersteinTraining(ABC):
    """Generator and critic in training on one task.

    Args:
        method: name of the method.
        task: what to learn from.
        settings: of the training.
        softmax: of the last step.
        seed: with the epoch's number it decides everything drawn.
        device: where to compute.

    Attributes:
        features: training features in [0, 1], in the precision of the products.
        rows: class of each image as a row of `semantics`.
        semantics: descriptions of the seen classes as the networks take them.
        generator: G.
        critic: D.
        epoch: epochs done.
    """

    def __init__(
        self,
        method: str,
        task: Task,
        settings: WassersteinSettings,
        softmax: SoftmaxSettings,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.method, self.task, self.settings, self.softmax = method, task, settings, softmax
        self.seed, self.epoch = seed, 0
        features = task.features.to(device)
        self.scaler = MinMax.fit(features)
        low = torch.bfloat16 if settings.precision == "bfloat16" else features.dtype
        self.features = self.scaler.scale(features).to(low)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.rows = torch.searchsorted(self.seen, task.labels.to(device))
        self.described = task.semantics.to(features)
        self.description_scale = description_scale(task.semantics[task.seen])
        self.semantics = self.described[self.seen] * self.description_scale
        semantic_size, visual_size, hidden = self.semantics.shape[1], features.shape[1], settings.hidden_size
        # The noise is as long as a description, as both papers have it.
        self.generator = self.on_device(
            ConditionalGenerator(semantic_size, semantic_size, hidden, visual_size, settings.output), _GENERATOR
        )
        self.critic = self.on_device(Critic(visual_size, semantic_size, hidden), _CRITIC)
        self.critic.requires_grad_(False)  # its gradients are written out
        self.penalty_weight = self.semantics.new_tensor(settings.penalty_weight)
        trained = [*self.generator.parameters(), *self.added_parameters()]
        self.optimizer = torch.optim.Adam(trained, lr=settings.learning_rate, betas=BETAS, fused=True)
        self.critic_optimizer = torch.optim.Adam(
            self.critic.parameters(), lr=settings.learning_rate, betas=BETAS, fused=True
        )
        self._optimizers = {"generator": self.optimizer, "critic": self.critic_optimizer}

    def on_device(self, network: Network, place: int = _ADDED) -> Network:
        """A network with its first weights, where the training computes."""
        draw_weights(network, seeded(self.seed, place))
        return network.to(self.described)

    @abstractmethod
    def added_parameters(self) -> list[nn.Parameter]:
        """Makes what the method adds; returns the parameters that step with the generator."""

    @abstractmethod
    def added_loss(
        self, batch: Batch, fake: Float[Tensor, "images visual"], random: torch.Generator
    ) -> Float[Tensor, ""]:
        """What the method adds to the generator's loss, in its own weight.

        Args:
            batch: the images of the step.
            fake: a generated feature for each of them, of its class.
            random: the epoch's stream.
        """

    def train_epoch(self) -> Mapping[str, float]:
        """Train one epoch.

        Returns:
            Means over its steps: `distance` (E D(real) - E D(fake)), `penalty` ((|g| - 1)^2), `adversarial_loss`
            (-E D(fake) at the generator's step) and `added_loss`.
        """
        random = seeded(self.seed, _EPOCH, self.epoch, device=self.features.device)
        settings, number = self.settings, len(self.rows)
        size = min(settings.batch_size, number)
        rounds = ceil(number / size)
        batches = draw_batches(self.rows, number=rounds * settings.critic_steps, size=size, random=random)
        sums = self.penalty_weight.new_zeros(4)
        for start in range(0, rounds * settings.critic_steps, settings.critic_steps):
            with torch.no_grad(), self.precision():
                class_part = self.generator.semantic(self.semantics)  # the same until the generator steps
            for step in range(start, start + settings.critic_steps):
                batch = Batch(self.features, self.semantics, batches, step)
                distance, penalty = self._critic_step(batch, class_part, random)
                sums[0] += distance / settings.critic_steps
                sums[1] += penalty / settings.critic_steps
            adversarial, added = self._generator_step(batch, random)
            sums[2] += adversarial
            sums[3] += added
        self.epoch += 1
        names = ("distance", "penalty", "adversarial_loss", "added_loss")
        return dict(zip(names, (sums / rounds).tolist(), strict=True))

    def _critic_step(
        self, batch: Batch, class_part: Tensor, random: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        with torch.no_grad(), self.precision():
            fake = self.generator(self.noise(batch, random), class_part.index_select(0, batch.rows))
        mix = torch.rand(len(batch.rows), 1, generator=random, device=fake.device, dtype=self.described.dtype)
        figures = critic_gradients(
            self.critic,
            batch.real,
            fake.to(batch.real.dtype),
            batch.semantics,
            batch.slots,
            batch.members,
            mix,
            gamma=1.0,
            penalty_weight=self.penalty_weight,
        )
        self.critic_optimizer.step()
        return figures

    def _generator_step(
        self, batch: Batch, random: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        with self.precision():
            class_part = batch.spread(self.generator.semantic(batch.semantics))
            fake = self.generator(self.noise(batch, random), class_part)
            with torch.no_grad():
                critic_part = batch.spread(self.critic.semantic(batch.semantics))
            adversarial = -self.critic(fake, critic_part).mean(dtype=self.described.dtype)
            added = self.added_loss(batch, fake, random)
        self.optimizer.zero_grad(set_to_none=True)
        (self.settings.gamma * adversarial + added).backward()
        self.optimizer.step()
        return adversarial.detach(), added.detach()

    def noise(self, batch: Batch, random: torch.Generator) -> Float[Tensor, "images noise"]:
        """Standard normal noise for each image of a batch."""
        like = self.described
        shape = (len(batch.rows), self.generator.sizes[0])
        return torch.randn(shape, generator=random, device=like.device, dtype=like.dtype)

    def precision(self) -> AbstractContextManager[None]:
        """In which the matrix products run."""
        low = self.settings.precision == "bfloat16"
        return torch.autocast(self.features.device.type, torch.bfloat16, enabled=low)

    def state(self) -> Mapping[str, Tensor]:
        """Networks and moments."""
        return state_of(self._optimizers, {})

    def restore(self, tensors: Mapping[str, Tensor], *, epoch: int) -> None:
        """Go on from a `state` as it was after `epoch` epochs."""
        restore(tensors, self._optimizers, {})
        self.epoch = epoch

    def models(self) -> Iterator[tuple[Setting, SynthesisModel]]:
        """Synthesize for the unseen classes with the generator as it is, and train both classifiers."""
        generator = copy.deepcopy(self.generator).requires_grad_(False)
        place = self.seed, _SYNTHESIS, self.epoch
        last_step = LastStep(self.features, self.seen[self.rows], self.softmax, place)
        described = self.described[self.unseen] * self.description_scale
        for epoch, classifiers in last_step.train(synthesized_for(generator, described, last_step), self.unseen):
            model = SynthesisModel(
                kind=self.method,
                generator=generator,
                description_scale=self.description_scale,
                scaler=self.scaler,
                classifiers=classifiers,
                classifier_epochs=epoch,
                last_step=last_step,
                seen=self.seen,
                unseen=self.unseen,
                semantics=self.described,
                class_names=self.task.class_names,
            )
            yield {"classifier_epochs": epoch}, model


class Batch:
    """The images of one step and their classes.

    Attributes:
        rows: class of each image as a row of the seen descriptions.
        slots: class of each image as a row of `semantics`.
        semantics: descriptions of the batch's classes.
        real: the images' features.
        members: ones where an image is of a class, in a matrix of zeros.
    """

    def __init__(
        self,
        features: Float[Tensor, "images visual"],
        semantics: Float[Tensor, "classes semantic"],
        batches: Batches,
        number: int,
    ) -> None:
        self.rows, self.slots = batches.labels[number], batches.slots[number]
        classes = batches.classes[number]
        self.semantics = semantics.index_select(0, classes)
        self.real = features.index_select(0, batches.images[number])
        width = torch.arange(len(classes), device=classes.device)
        self.members = (self.slots[:, None] == width).to(semantics.dtype)

    def spread(self, by_class: Float[Tensor, "classes size"]) -> Float[Tensor, "images size"]:
        """Rows of classes -> rows of images, by a product, whose derivative adds up in a fixed order."""
        return self.members.to(by_class.dtype) @ by_class
