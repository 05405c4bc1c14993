"""New classes in a softmax that is trained already: their rows are learned, the others stay where they stand.

The closed form keeps no features, so that what the new rows must not answer to is synthesized, too: old described
classes as often as in the first training, seen ones as often as they had images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.learning.adversarial import BETAS
from dkgzsl.learning.softmax import LinearClassifier


@dataclass(frozen=True)
class SoftmaxRecipe:
    """How a softmax was trained.

    Attributes:
        per_class: features synthesized for each described class; images a step, too.
        seen_per_class: mean number of real features of a seen class.
        epochs: passes.
        learning_rate: Adam's.
    """

    per_class: int
    seen_per_class: int
    epochs: int
    learning_rate: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SoftmaxRecipe:
        """The recipe that `content` was made from."""
        return cls(**content)


@torch.no_grad()
def with_rows(
    classifier: LinearClassifier,
    features: Float[Tensor, "images visual"],
    labels: Int[Tensor, " images"],
    classes: Int[Tensor, " classes"],
    *,
    like: Int[Tensor, " like"],
    recipe: SoftmaxRecipe,
    generator: torch.Generator,
) -> LinearClassifier:
    """A classifier over other classes: rows of known ones are kept, rows of new ones learned by cross-entropy.

    New rows start at the mean of those of `like`, and are trained by Adam (betas 0.5 and 0.999) as others were.

    Args:
        classifier: as it stands.
        features: synthesized, of old and new classes.
        labels: class of each, all of them in `classes`.
        classes: the classes to tell apart, ascending.
        like: old classes, of the kind of the new ones.
        recipe: how the others were trained.
        generator: of the features' device; decides the order.
    """
    old = torch.isin(classes, classifier.classes)
    kept = torch.isin(classifier.classes, classes)
    alike = torch.isin(classifier.classes, like)
    alike = alike if bool(alike.any()) else torch.ones_like(alike)
    weight = classifier.weight[alike].mean(0).repeat(len(classes), 1)
    bias = classifier.bias[alike].mean().repeat(len(classes))
    weight[old], bias[old] = classifier.weight[kept], classifier.bias[kept]
    if bool(old.all()):
        return LinearClassifier(weight, bias, classes)
    new_weight, new_bias = weight[~old].clone(), bias[~old].clone()
    optimizer = torch.optim.Adam([new_weight, new_bias], lr=recipe.learning_rate, betas=BETAS)
    rows = torch.searchsorted(classes, labels)
    features = features.to(weight)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(features), generator=generator, device=features.device)
        for images in torch.split(order, recipe.per_class):
            batch = features[images]
            weight[~old], bias[~old] = new_weight, new_bias
            error = torch.softmax(batch @ weight.T + bias, dim=1)
            target = rows[images][:, None]
            error.scatter_add_(1, target, error.new_full(target.shape, -1.0)).div_(len(images))
            new_weight.grad, new_bias.grad = error[:, ~old].T @ batch, error[:, ~old].sum(0)
            optimizer.step()
    weight[~old], bias[~old] = new_weight, new_bias
    return LinearClassifier(weight, bias, classes)
