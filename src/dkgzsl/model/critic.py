"""The conditional critic: how real a feature looks for a class."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2
"""Slope of the leaky ReLU below zero."""


class Critic(nn.Module):
    """D(x, a) = w2 . leaky_relu(W [x; a] + b) + b2, of DKGZSL (IEEE TCSVT 2025).

    W [x; a] is kept as the sum of two products, one for the feature and one for the description.

    Args:
        visual_size: length of a visual feature x.
        semantic_size: length of a class description a.
        hidden_size: width of the hidden layer.
    """

    def __init__(self, visual_size: int, semantic_size: int, hidden_size: int) -> None:
        super().__init__()
        self.visual = nn.Linear(visual_size, hidden_size, bias=False)
        self.semantic = nn.Linear(semantic_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1)

    def forward(
        self, features: Float[Tensor, "images visual"], class_part: Float[Tensor, "images hidden"]
    ) -> Float[Tensor, "images 1"]:
        """The critic's score of each image.

        Args:
            features: in [0, 1].
            class_part: `self.semantic` of the description of each image's class.
        """
        scores: Tensor = self.score(functional.leaky_relu(self.visual(features) + class_part, SLOPE))
        return scores
