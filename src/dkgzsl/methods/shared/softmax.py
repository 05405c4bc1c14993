"""A softmax classifier of one linear layer, trained epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

BETAS = (0.5, 0.999)
"""Adam's decay rates, in all training of the published method and its peers."""


KEEPS_FEATURES = "the backbone's features, not the photos, of the training images"
"""What a model file holds where the classifier is trained again on real features when a class is added."""


@dataclass(frozen=True)
class LinearClassifier:
    """A linear classifier over some classes.

    Attributes:
        weight: a row for each class.
        bias: a number for each class.
        classes: the class of each row, ascending.
    """

    weight: Float[Tensor, "classes visual"]
    bias: Float[Tensor, " classes"]
    classes: Int[Tensor, " classes"]

    def log_probabilities(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Logarithms of the class probabilities; columns in the order of `classes`."""
        return torch.log_softmax(torch.addmm(self.bias, features, self.weight.T), dim=1)


@torch.no_grad()
def train_softmax(
    features: Float[Tensor, "images visual"],
    labels: Int[Tensor, " images"],
    classes: Int[Tensor, " classes"],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
) -> Iterator[LinearClassifier]:
    """Train by cross-entropy with Adam (betas 0.5 and 0.999), and yield the classifier after each epoch.

    Weights start at N(0, 0.02^2), biases at 0. An epoch is a permutation of the images, cut into batches, of
    which the last may be smaller. The gradient of softmax regression is written out: (probabilities - one-hot
    labels)^T features.

    Args:
        features: on the device of the computation. Products run in their precision (bfloat16 is the fast one);
            weights and Adam's moments are float32 or wider.
        labels: class of each image, one of `classes`.
        classes: the classes, ascending.
        epochs: passes over the images, 1 or more.
        batch_size: images a step.
        learning_rate: Adam's.
        generator: on the features' device; draws first weights and order.
    """
    low = features.dtype
    full = torch.float32 if low in (torch.bfloat16, torch.float16) else low
    device, (number, size) = features.device, features.shape
    weight = 0.02 * torch.randn(len(classes), size, generator=generator, device=device, dtype=full)
    bias = torch.zeros(len(classes), device=device, dtype=full)
    rows = torch.searchsorted(classes, labels)
    optimizer = torch.optim.Adam([weight, bias], lr=learning_rate, betas=BETAS, fused=True)
    for _ in range(epochs):
        order = torch.randperm(number, generator=generator, device=device)
        for images in torch.split(order, batch_size):
            batch = features.index_select(0, images)
            error = torch.softmax((batch @ weight.to(low).T).to(full) + bias, dim=1)
            target = rows.index_select(0, images)[:, None]
            error.scatter_add_(1, target, error.new_full(target.shape, -1.0)).div_(len(images))
            weight.grad, bias.grad = (error.to(low).T @ batch).to(full), error.sum(dim=0)
            optimizer.step()
        yield LinearClassifier(weight.clone(), bias.clone(), classes)


class LinearScores(nn.Module):
    """A linear classifier's logits as a module; its log normaliser is the same for every class and left out."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Float[Tensor, "classes features"], bias: Float[Tensor, " classes"]) -> None:
        super().__init__()
        self.register_buffer("weight", weight.T.contiguous().float())
        self.register_buffer("bias", bias.float())

    @classmethod
    def after_scaling(
        cls, classifier: LinearClassifier, shift: Float[Tensor, " features"], divisor: Float[Tensor, " features"]
    ) -> LinearScores:
        """The classifier of features (x - shift) / divisor as one of x, folded in float64."""
        weight = classifier.weight.double() / divisor.double()
        return cls(weight, classifier.bias.double() - weight @ shift.double())

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return features @ self.weight + self.bias
