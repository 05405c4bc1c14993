"""CADA-VAE: cross and distribution aligned VAEs (Schonfeld et al., CVPR 2019, arXiv 1812.01784).

One VAE for features, one for descriptions, a latent space of both. With the L1 norm as reconstruction, the loss
is L_VAE + gamma L_CA + delta L_DA (equation 8), where

- L_VAE: of both, reconstruction and beta times the divergence KL(q(z | .) || N(0, I)) (equation 3);
- L_CA, cross-alignment: each decoder on the other's latent, |x - D_x(z_a)| + |a - D_a(z_x)| (equation 4);
- L_DA, distribution-alignment: the 2-Wasserstein distance of both latent Gaussians, (|mean_x - mean_a|^2 +
  |sd_x - sd_a|^2)^(1/2) (equations 6 and 7).

The weights grow linearly over the epochs: delta from 6 to 22 by 0.54 an epoch, gamma from 21 to 75 by 0.044,
beta from 0 to 90 by 0.0026. Then a softmax on latents: encoded images of seen classes (200 a class, each drawn
once from its Gaussian, images in turn) and drawn latents of unseen descriptions (400 a class); images are
scored at the mean of their latent.

Published: latent 64; feature encoder 1560 and decoder 1660 wide, description encoder 1450 and decoder 660; Adam
1.5e-4, batches of 50, 100 epochs; min-max scaled features. From the released code: losses summed over a batch,
AMSGrad, the softmax 23 epochs (CUB) of batches of 32 at 1e-3, first weights Xavier uniform with gain 0.5.
Deviations: descriptions are scaled to unit length, as the xlsa17 `att` rows are; batches come from
permutations; the softmax for conventional figures is trained on the same 400 latents a class; its epoch is
chosen by the selector instead of on test; means over a batch instead of sums, which changes Adam's steps only
through its epsilon.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from math import ceil
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from dkgzsl.errors import ConfigError
from dkgzsl.methods.base import SavedModel, Setting, Task
from dkgzsl.methods.peers.aligned_autoencoders import (
    AlignedAutoencoders,
    AlignmentLosses,
    Widths,
    alignment_losses,
    draw_latents,
)
from dkgzsl.methods.peers.conditional_networks import reparametrized
from dkgzsl.methods.peers.epochwise import EpochwiseMethod
from dkgzsl.methods.peers.synthesized_softmax import SoftmaxPair, SoftmaxSettings
from dkgzsl.methods.peers.wasserstein import Precision
from dkgzsl.methods.shared.scaling import MinMax
from dkgzsl.methods.shared.training import draw_batches, seeded

_WEIGHTS, _EPOCH, _LATENTS = range(3)  # places of random streams
PUBLISHED = Widths()


class WarmUp(NamedTuple):
    """A loss's weight: 0 up to `first`, then `step` more each epoch, constant from `last` on."""

    first: int
    last: int
    step: float

    def __call__(self, epoch: int) -> float:
        """The weight in an epoch, counted from 0."""
        return self.step * min(max(epoch - self.first, 0), self.last - self.first)


DIVERGENCE = WarmUp(0, 90, 0.0026)
CROSS_ALIGNMENT = WarmUp(21, 75, 0.044)
DISTRIBUTION_ALIGNMENT = WarmUp(6, 22, 0.54)


class CADAVAE(EpochwiseMethod):
    """CADA-VAE; the epochs of training and last softmax are chosen by the selector.

    Args:
        epochs: most epochs; the losses' weights grow until the 90th.
        widths: of the hidden layers and the latent.
        batch_size: images a step.
        learning_rate: Adam's.
        per_class: latents drawn for each unseen class.
        seen_per_class: latents of each seen class.
        softmax_rate: Adam's learning rate of the last softmax.
        softmax_epochs: most epochs of it.
        softmax_batch: latents a step of it.
        precision: of the matrix products; bfloat16 is about three times as fast on recent processors.
        minutes: wall-clock minutes of one exploration; None sets no limit.
        seed: 0 or more.
        device: where to compute.

    Raises:
        ConfigError: a number is out of its range.
    """

    name = "cada-vae"
    first_evaluation = 16  # nothing is aligned before

    def __init__(
        self,
        *,
        epochs: int = 100,
        widths: Widths = PUBLISHED,
        batch_size: int = 50,
        learning_rate: float = 1.5e-4,
        per_class: int = 400,
        seen_per_class: int = 200,
        softmax_rate: float = 1e-3,
        softmax_epochs: int = 23,
        softmax_batch: int = 32,
        precision: Precision = "float32",
        minutes: float | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(epochs=epochs, minutes=minutes, seed=seed, device=device)
        for name, value in (("batch_size", batch_size), ("seen_per_class", seen_per_class)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if not learning_rate > 0:
            raise ConfigError(f"learning_rate must be above 0, not {learning_rate}")
        self.widths, self.batch_size, self.learning_rate = widths, batch_size, learning_rate
        self.seen_per_class, self.precision = seen_per_class, precision
        self.softmax = SoftmaxSettings(per_class, softmax_rate, softmax_epochs, softmax_batch)

    def begin(self, task: Task, option: Setting) -> AlignmentTraining:
        """A training that has not begun."""
        del option
        return AlignmentTraining(self, task)


class AlignmentTraining:
    """Both VAEs in training on one task.

    Attributes:
        networks: both VAEs.
        epoch: epochs done.
    """

    def __init__(self, method: CADAVAE, task: Task) -> None:
        self.method, self.task, self.epoch = method, task, 0
        device, seed = method.device, method.seed
        features = task.features.to(device)
        self.scaler = MinMax.fit(features)
        self.features = self.scaler.scale(features)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.labels = task.labels.to(device)
        self.semantics = task.semantics.to(features)
        self.described = functional.normalize(self.semantics, dim=1)
        networks = AlignedAutoencoders(features.shape[1], self.described.shape[1], method.widths)
        networks.draw_weights(seeded(seed, _WEIGHTS))
        self.networks = networks.to(features)
        self.optimizer = torch.optim.Adam(
            self.networks.parameters(), lr=method.learning_rate, amsgrad=True, fused=True
        )

    def train_epoch(self) -> Mapping[str, float]:
        """Train one epoch; returns the means of the four unweighted losses."""
        random = seeded(self.method.seed, _EPOCH, self.epoch, device=self.features.device)
        size = min(self.method.batch_size, len(self.labels))
        rounds = ceil(len(self.labels) / size)
        batches = draw_batches(self.labels, number=rounds, size=size, random=random)
        weights = self.features.new_tensor(
            (1.0, DIVERGENCE(self.epoch), CROSS_ALIGNMENT(self.epoch), DISTRIBUTION_ALIGNMENT(self.epoch))
        )
        sums = torch.zeros_like(weights)
        for images, labels in zip(batches.images, batches.labels, strict=True):
            with self._precision():
                losses = torch.stack(
                    alignment_losses(
                        self.networks,
                        self.features.index_select(0, images),
                        self.described.index_select(0, labels),
                        random,
                    )
                )
            self.optimizer.zero_grad(set_to_none=True)
            (losses @ weights).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            sums += losses.detach()
        self.epoch += 1
        return dict(zip(AlignmentLosses._fields, (sums / rounds).tolist(), strict=True))

    def _precision(self) -> AbstractContextManager[None]:
        low = self.method.precision == "bfloat16"
        return torch.autocast(self.features.device.type, torch.bfloat16, enabled=low)

    def models(self) -> Iterator[tuple[Setting, AlignedModel]]:
        """Draw latents with the encoders as they are, and train both classifiers on them."""
        method = self.method
        place = method.seed, _LATENTS, self.epoch
        random = seeded(*place, device=self.features.device)
        networks = copy.deepcopy(self.networks).requires_grad_(False)
        images = torch.cat([in_turn(self.labels, int(c), method.seen_per_class) for c in self.seen])
        with torch.no_grad():
            latents = reparametrized(*networks.visual.encode(self.features[images]), random)
            made = draw_latents(networks, self.described[self.unseen], method.softmax.per_class, random)
        real = latents, self.labels[images]
        pairs = SoftmaxPair.train(real, made, self.seen, self.unseen, method.softmax, place=place)
        for epoch, classifiers in pairs:
            model = AlignedModel(
                networks=networks,
                widths=method.widths,
                scaler=self.scaler,
                classifiers=classifiers,
                seen=self.seen,
                unseen=self.unseen,
                semantics=self.semantics,
                class_names=self.task.class_names,
            )
            yield {"classifier_epochs": epoch}, model


def in_turn(labels: Int[Tensor, " images"], label: int, number: int) -> Int[Tensor, " number"]:
    """`number` positions of images of a class: all of them in turn, as often as it takes."""
    own = (labels == label).nonzero()[:, 0]
    return own[torch.arange(number, device=own.device) % len(own)]


@dataclass(frozen=True)
class AlignedModel:
    """Both VAEs, and the classifiers on latents.

    Attributes:
        networks: both VAEs.
        widths: of their layers.
        scaler: scale of the features, of the training images.
        classifiers: on latents.
        seen: classes with training images.
        unseen: classes without.
        semantics: descriptions of all K classes, as they were given.
        class_names: names of all K classes, or none.
    """

    networks: AlignedAutoencoders
    widths: Widths
    scaler: MinMax
    classifiers: SoftmaxPair
    seen: Int[Tensor, " seen"]
    unseen: Int[Tensor, " unseen"]
    semantics: Float[Tensor, "classes semantic"]
    class_names: tuple[str, ...] = ()

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log probabilities over all classes; -inf for a class outside the task."""
        return self.classifiers.scores(self._latent(features), len(self.semantics))

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log probabilities among the unseen classes; -inf for every other class."""
        return self.classifiers.conventional_scores(self._latent(features), len(self.semantics))

    @torch.no_grad()
    def _latent(self, features: Tensor) -> Tensor:
        mean, _ = self.networks.visual.encode(self.scaler.scale(features.to(self.semantics)))
        return mean

    @torch.no_grad()
    def synthesize(
        self, semantics: Float[Tensor, "classes semantic"], number: int, generator: torch.Generator
    ) -> Float[Tensor, "classes number visual"]:
        """`number` features for each description: the feature decoder on latents of the description.

        Args:
            semantics: of any length; the classes need not be those of the task.
            number: features a class.
            generator: source of the noise, on the model's device.

        Returns:
            Features on the scale of the unscaled ones.
        """
        described = functional.normalize(semantics.to(self.semantics), dim=1)
        latents = draw_latents(self.networks, described, number, generator)
        made = self.networks.visual.decode(latents.flatten(0, 1)).view(len(semantics), number, -1)
        return self.scaler.unscale(made)

    def save(self) -> SavedModel:
        """The model as tensors and JSON values."""
        weights = {f"networks.{name}": weight for name, weight in self.networks.state_dict().items()}
        return SavedModel(
            CADAVAE.name,
            {
                **weights,
                **self.classifiers.tensors(),
                "scaler.minimum": self.scaler.minimum,
                "scaler.range": self.scaler.range,
                "seen": self.seen,
                "unseen": self.unseen,
                "semantics": self.semantics,
            },
            {"widths": asdict(self.widths), "class_names": list(self.class_names)},
        )

    @classmethod
    def load(cls, saved: SavedModel) -> AlignedModel:
        """The model that `saved` was made from, on the CPU."""
        tensors = {name: tensor.cpu() for name, tensor in saved.tensors.items()}
        prefix = "networks."
        weights = {n.removeprefix(prefix): w for n, w in tensors.items() if n.startswith(prefix)}
        widths, semantics = Widths(**saved.values["widths"]), tensors["semantics"]
        with torch.device("meta"):
            networks = AlignedAutoencoders(len(tensors["scaler.minimum"]), semantics.shape[1], widths)
        networks.load_state_dict(weights, assign=True)
        return cls(
            networks=networks.requires_grad_(False),
            widths=widths,
            scaler=MinMax(tensors["scaler.minimum"], tensors["scaler.range"]),
            classifiers=SoftmaxPair.load(tensors),
            seen=tensors["seen"],
            unseen=tensors["unseen"],
            semantics=semantics,
            class_names=tuple(saved.values["class_names"]),
        )
