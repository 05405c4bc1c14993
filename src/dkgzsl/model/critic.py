"""The conditional critic: how real a feature looks for a class."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2
"""Slope of the leaky ReLU below zero."""


class Critic(nn.Module):
    """D(x, a) = w2 . leaky_relu(W [x; a] + b) + b2, of DKGZSL (IEEE TCSVT 2025).

    Args:
        visual_size: length of a visual feature x.
        semantic_size: length of a class description a.
        hidden_size: width of the hidden layer.
    """

    def __init__(self, visual_size: int, semantic_size: int, hidden_size: int) -> None:
        super().__init__()
        self.visual_size = visual_size
        self.hidden = nn.Linear(visual_size + semantic_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1)

    def forward(
        self, features: Float[Tensor, "images visual"], class_part: Float[Tensor, "images hidden"]
    ) -> Float[Tensor, "images 1"]:
        """The critic's score of each image; `class_part` is that of each image's class."""
        hidden = self.preactivation(features, class_part)
        return self.score(functional.leaky_relu(hidden, SLOPE))  # type: ignore[no-any-return]

    def preactivation(
        self, features: Float[Tensor, "images visual"], class_part: Float[Tensor, "images hidden"]
    ) -> Float[Tensor, "images hidden"]:
        """The hidden layer before its leaky ReLU: affine in the feature, so that of a mixture is the mixture."""
        return features @ self.hidden.weight[:, : self.visual_size].T + class_part

    def class_part(self, semantics: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes hidden"]:
        """The description's share of the hidden layer, bias included: the same for all images of a class."""
        return functional.linear(semantics, self.hidden.weight[:, self.visual_size :], self.hidden.bias)
