"""CADA-VAE: cross and distribution aligned VAEs (arXiv 1812.01784).

One VAE for features, one for descriptions, a latent space of both. With the L1 norm as reconstruction, the loss
is L_VAE + gamma L_CA + delta L_DA (equation 8), where

- L_VAE: of both, reconstruction and beta times the divergence KL(q(z | .) || N(0, I)) (equation 3);
- L_CA, cross-alignment: each decoder on the latent of the other modality, |x - D_x(z_a)| + |a - D_a(z_x)|
  (equation 4);
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
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

from dkgzsl.config import check_ranges
from dkgzsl.methods.base import MethodInfo, Setting, Setup, Task
from dkgzsl.methods.peers.aligned_autoencoders import (
    AlignedAutoencoders,
    AlignmentLosses,
    Widths,
    alignment_losses,
    draw_latents,
)
from dkgzsl.methods.peers.aligned_model import AlignedModel
from dkgzsl.methods.peers.conditional_networks import reparametrized
from dkgzsl.methods.peers.epochwise import EpochwiseMethod, Precision
from dkgzsl.methods.peers.synthesized_softmax import LastStep, SoftmaxSettings
from dkgzsl.methods.search import Range, Space
from dkgzsl.methods.shared.scaling import MinMax
from dkgzsl.methods.shared.training import draw_batches, restore, seeded, state_of

_WEIGHTS, _EPOCH, _LATENTS = range(3)  # places of random streams


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


@dataclass(frozen=True)
class CADAVAESettings:
    """Two VAEs, of features and of descriptions, with one latent space; then a softmax on latents.

    Raises:
        ConfigError: a value is out of its range.
    """

    epochs: int = 100
    """Most passes over the training images; the epoch is chosen on validation classes."""
    widths: Widths = field(default_factory=Widths)
    batch_size: int = 50
    """Images per step."""
    learning_rate: float = 1.5e-4
    """Adam's learning rate."""
    per_class: int = 400
    """Latents drawn for each unseen class."""
    seen_per_class: int = 200
    """Latents of each seen class."""
    softmax_rate: float = 1e-3
    """Adam's learning rate of the last softmax."""
    softmax_epochs: int = 23
    """Most passes of the last softmax; the epoch is chosen on validation classes."""
    softmax_batch: int = 32
    """Latents per step of the last softmax."""
    precision: Precision = "float32"
    """Precision of the matrix products."""

    def __post_init__(self) -> None:
        counts = ("epochs", "batch_size", "per_class", "seen_per_class", "softmax_epochs", "softmax_batch")
        check_ranges(
            self,
            "cada-vae.",
            at_least=dict.fromkeys(counts, 1),
            above_zero=("learning_rate", "softmax_rate"),
        )


class CADAVAE(EpochwiseMethod):
    """CADA-VAE; the epochs of training and last softmax are chosen by the selector.

    Args:
        settings: of the training.
        setup: the seed decides first weights, latents and order.

    Raises:
        ConfigError: the minutes are out of range.
    """

    name = "cada-vae"
    first_evaluation = 16  # nothing is aligned before

    def __init__(self, settings: CADAVAESettings | None = None, setup: Setup | None = None) -> None:
        self.settings = one = settings or CADAVAESettings()
        super().__init__(one, setup)
        self.softmax = SoftmaxSettings(one.per_class, one.softmax_rate, one.softmax_epochs, one.softmax_batch)

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
        networks = AlignedAutoencoders(features.shape[1], self.described.shape[1], method.settings.widths)
        networks.draw_weights(seeded(seed, _WEIGHTS))
        self.networks = networks.to(features)
        self.optimizer = torch.optim.Adam(
            self.networks.parameters(), lr=method.settings.learning_rate, amsgrad=True, fused=True
        )

    def train_epoch(self) -> Mapping[str, float]:
        """Train one epoch; returns the means of the four unweighted losses."""
        random = seeded(self.method.seed, _EPOCH, self.epoch, device=self.features.device)
        size = min(self.method.settings.batch_size, len(self.labels))
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
        low = self.method.settings.precision == "bfloat16"
        return torch.autocast(self.features.device.type, torch.bfloat16, enabled=low)

    def state(self) -> Mapping[str, Tensor]:
        """Networks and moments."""
        return state_of({"networks": self.optimizer}, {})

    def restore(self, tensors: Mapping[str, Tensor], *, epoch: int) -> None:
        """Go on from a `state` as it was after `epoch` epochs."""
        restore(tensors, {"networks": self.optimizer}, {})
        self.epoch = epoch

    def models(self) -> Iterator[tuple[Setting, AlignedModel]]:
        """Draw latents with the encoders as they are, and train both classifiers on them."""
        method = self.method
        place = method.seed, _LATENTS, self.epoch
        random = seeded(*place, device=self.features.device)
        networks = copy.deepcopy(self.networks).requires_grad_(False)
        images = torch.cat([in_turn(self.labels, int(c), method.settings.seen_per_class) for c in self.seen])
        with torch.no_grad():
            latents = reparametrized(*networks.visual.encode(self.features[images]), random)
            made = draw_latents(networks, self.described[self.unseen], method.softmax.per_class, random)
        last_step = LastStep(latents, self.labels[images], method.softmax, place)
        for epoch, classifiers in last_step.train(made, self.unseen):
            model = AlignedModel(
                networks=networks,
                widths=method.settings.widths,
                scaler=self.scaler,
                classifiers=classifiers,
                classifier_epochs=epoch,
                last_step=last_step,
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


def search(settings: CADAVAESettings, images: int) -> Space:
    """What `tune` tries."""
    del settings, images
    return {
        "learning_rate": Range(1e-5, 1e-2, log=True),
        "widths.latent": Range(16, 256, log=True, whole=True),
        "softmax_rate": Range(1e-4, 1e-2, log=True),
    }


INFO = MethodInfo(
    name="cada-vae",
    title="CADA-VAE",
    paper="Schönfeld, Ebrahimi, Sinha, Darrell and Akata, Generalized zero- and few-shot learning via aligned "
    "variational autoencoders, CVPR 2019",
    settings=CADAVAESettings,
    make=CADAVAE,
    models={"cada-vae": AlignedModel},
    iterative=True,
    search=search,
    keeps_features=lambda _: "latent vectors, not photos, of training images",
)
