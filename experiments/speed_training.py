"""Stages of `speed.py`: an iteration of DKGZSL, and what an evaluation of an epoch costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.methods.dkgzsl.model import ClassifierTraining
from dkgzsl.methods.dkgzsl.settings import AdversarialSettings
from dkgzsl.methods.dkgzsl.training import AdversarialTraining
from dkgzsl.methods.shared.training import Batches, draw_batches, seeded
from speed_reference import Rates, ReferenceLoop
from speed_stages import Sizes, Stage, products

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Pair:
    """The package's training and the reference, with the same weights, images and batches."""

    package: AdversarialTraining
    reference: ReferenceLoop
    batches: Batches

    @classmethod
    def of(
        cls, sizes: Sizes, *, dtype: torch.dtype = torch.float32, precision: Precision = "float32", seed: int = 0
    ) -> Pair:
        """Random features in [0, 1], descriptions of unit length, CUB's published rates."""
        random = seeded(seed)
        features = torch.rand(sizes.images, sizes.visual, generator=random, dtype=dtype)
        semantics = torch.randn(sizes.seen, sizes.semantic, generator=random, dtype=dtype)
        semantics = functional.normalize(semantics, dim=1)
        labels = torch.arange(sizes.images) % sizes.seen
        settings = AdversarialSettings(
            hidden_size=sizes.hidden,
            batch_size=sizes.batch,
            learning_rate=1e-4,
            fusion_learning_rate=1e-5,
            gamma=10.0,
            precision=precision,
        )
        package = AdversarialTraining(features, labels, semantics, settings, seed=seed)
        rates = Rates(
            settings.learning_rate,
            settings.fusion_learning_rate,
            settings.gamma,
            settings.knowledge_weight,
            settings.fusion_weight,
        )
        reference = ReferenceLoop(features, semantics, labels, sizes.hidden, rates, settings.penalty_weight)
        reference.load(package.networks.state_dict())
        batches = draw_batches(labels, number=settings.critic_steps, size=sizes.batch, random=random)
        return cls(package, reference, batches)

    def run_package(self, random: torch.Generator, *, guided: bool) -> Tensor:
        """One iteration; returns distance, penalty, KTN's loss and the generator's."""
        return self.package.iteration(self.batches, 0, random, guided=guided)

    def run_reference(self, random: torch.Generator, *, guided: bool) -> dict[str, float]:
        """The same by the reference."""
        return self.reference.iteration(list(self.batches.images), random, guided=guided)


def needed(sizes: Sizes, classes: int, steps: int, *, guided: bool) -> Counter[tuple[int, int, int]]:
    """The matrix products that one iteration needs: images once, classes of a batch once.

    Args:
        sizes: of the networks.
        classes: different ones in a batch.
        steps: of the critic, for one of the generator.
        guided: whether MFU guides.
    """
    b, c, s, h, v, inner = sizes.batch, classes, sizes.semantic, sizes.hidden, sizes.visual, sizes.hidden // 2
    found: Counter[tuple[int, int, int]] = Counter()

    def add(times: int, *shapes: tuple[int, int, int]) -> None:
        found.update({shape: times * shapes.count(shape) for shape in set(shapes)})

    forward = [(c, s, h), (c, h, v)]
    fusion = [(c, h, inner), (c, inner, h), (c, v, inner), (c, inner, v)]
    add(steps, *forward, (v, c, h), (c, v, h), (h, c, s))  # KTN: forward, then by k2, by k1, by W
    add(steps, (2 * b, v, h), (c, s, h), (b, h, v), (h, 3 * b, v), (h, c, s))  # critic, penalty included
    add(1, (steps * b, s, h), (steps * b, h, v), (sizes.seen, s, h))  # generated features of all critic steps
    add(1, (b, s, h), (b, h, v), (b, v, h), (c, s, h))  # generator's step: forward, through the critic
    add(1, (b, h, v), (v, b, h), (b, v, h), (h, b, s), (h, c, s))  # ... and back
    if guided:
        add(steps, *forward, *fusion)  # knowledge after each step, and MFU
        add(1, (sizes.seen, s, h), (sizes.seen, s, v))
        add(1, (h, c, inner), (c, h, inner), (inner, c, h), (h, c, s))  # MFU's step, hidden level
        add(1, (v, c, inner), (c, v, inner), (inner, c, v), (v, c, s))  # ... and the visual one
    return found


def _iteration(sizes: Sizes, *, guided: bool, precision: Precision) -> Stage:
    pair, random, other = Pair.of(sizes, precision=precision), seeded(1), seeded(1)
    steps, classes = pair.batches.classes.shape
    shapes = needed(sizes, classes, steps, guided=guided)
    return Stage(
        size=f"{sizes.visual} features, {sizes.semantic} semantics, hidden {sizes.hidden}, batch {sizes.batch}",
        package=lambda: pair.run_package(random, guided=guided),
        reference=lambda: pair.run_reference(other, guided=guided),
        reference_is="published loop, float32",
        limits={f"products, {precision}": products(shapes, getattr(torch, precision))},
    )


class PlainClassifier:
    """The softmax classifier as a plain loop: a linear layer, automatic differentiation, scoring after each epoch.

    Args:
        features: to train on.
        labels: from 0 on.
        classes: number of classes.
        batch: images a step.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int, batch: int) -> None:
        self.features, self.labels, self.classes, self.batch = features, labels, classes, batch

    def train(self, held_out: Tensor, held_labels: Tensor) -> float:
        """One epoch, and the mean accuracy over classes on held-out images."""
        network = nn.Sequential(nn.Linear(self.features.shape[1], self.classes), nn.LogSoftmax(dim=1))
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.999))
        order = torch.randperm(len(self.features))
        features, labels = self.features[order], self.labels[order]
        for start in range(0, len(order), self.batch):
            here = slice(start, start + self.batch)
            network.zero_grad()
            functional.nll_loss(network(features[here]), labels[here]).backward()
            optimizer.step()
        predicted = torch.empty_like(held_labels)
        with torch.no_grad():
            for start in range(0, len(held_out), self.batch):
                here = slice(start, start + self.batch)
                predicted[here] = network(held_out[here]).argmax(dim=1)
        return sum(float((predicted[held_labels == c] == c).float().mean()) for c in held_labels.unique())


def _evaluation(sizes: Sizes) -> Stage:
    pair, k = Pair.of(sizes), sizes.seen + sizes.unseen
    package, reference = pair.package, pair.reference
    described = functional.normalize(torch.randn(sizes.unseen, sizes.semantic, generator=seeded(2)), dim=1)
    held_out = torch.rand(sizes.images // 2, sizes.visual)
    held_labels = torch.arange(len(held_out)) % k
    last = ClassifierTraining(package.features, package.labels, sizes.per_class, 1e-3, 0, 1)
    unseen = torch.arange(sizes.seen, k)

    def ours() -> list[Tensor]:
        made = package.networks.snapshot()
        trained = last.train(made, described, unseen, fusion_weight=0.1, epochs=1)
        return [one.log_probabilities(held_out) for pair in trained for one in pair]

    @torch.no_grad()
    def synthesized() -> Tensor:
        made = []
        for description in described:
            a = description.expand(sizes.per_class, -1)
            k1, k2 = reference.knowledge(a)
            levels = [unit.mlp(level) for unit, level in zip(reference.fusion, (k1, k2), strict=True)]
            guidance = [0.1 * functional.normalize(level, dim=1) for level in levels]
            made.append(reference.generator(torch.randn(a.shape), a, (guidance[0], guidance[1])))
        return torch.cat(made)

    def plain() -> list[float]:
        made, labels = synthesized(), torch.arange(sizes.unseen).repeat_interleave(sizes.per_class)
        joint = torch.cat([package.features, made]), torch.cat([package.labels, labels + sizes.seen])
        generalized = PlainClassifier(*joint, k, sizes.per_class)
        conventional = PlainClassifier(made, labels, sizes.unseen, sizes.per_class)
        return [
            generalized.train(held_out, held_labels),
            conventional.train(held_out, held_labels % sizes.unseen),
        ]

    made, v, n = sizes.unseen * sizes.per_class, sizes.visual, sizes.per_class
    shapes = Counter({(n, sizes.semantic, sizes.hidden): sizes.unseen, (n, sizes.hidden, v): sizes.unseen})
    for images, classes in ((sizes.images + made, k), (made, sizes.unseen)):
        shapes.update({(n, v, classes): images // n, (classes, n, v): images // n, (len(held_out), v, classes): 1})
    return Stage(
        size=f"{made} features synthesized, two classifiers, one of their 25 epochs",
        package=ours,
        reference=plain,
        reference_is="published loop",
        limits={"products": products(shapes)},
    )


def training_stages(sizes: Sizes) -> dict[str, Callable[[], Stage]]:
    """Iterations in both precisions, and the evaluation of an epoch."""
    return {
        "iteration-unguided": partial(_iteration, sizes, guided=False, precision="float32"),
        "iteration-guided": partial(_iteration, sizes, guided=True, precision="float32"),
        "iteration-unguided-bfloat16": partial(_iteration, sizes, guided=False, precision="bfloat16"),
        "iteration-guided-bfloat16": partial(_iteration, sizes, guided=True, precision="bfloat16"),
        "evaluation": partial(_evaluation, sizes),
    }
