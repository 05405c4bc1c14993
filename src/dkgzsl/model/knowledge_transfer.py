"""From a class description to hierarchical visual knowledge (KTN, the knowledge transfer network)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Knowledge(NamedTuple):
    """What is known of the looks of each class, at the generator's two levels.

    Attributes:
        hidden: k1, at the hidden layer, not negative.
        visual: k2, at the output layer, before the sigmoid.
    """

    hidden: Float[Tensor, "classes hidden"]
    visual: Float[Tensor, "classes visual"]


class KnowledgeTransfer(nn.Module):
    """KTN of DKGZSL (IEEE TCSVT 2025): k1 = relu(W a + b), k2 = W' k1 + b', reconstruction sigmoid(k2).

    Args:
        semantic_size: length of a class description a.
        hidden_size: length of k1.
        visual_size: length of a visual feature, and of k2.
    """

    def __init__(self, semantic_size: int, hidden_size: int, visual_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(semantic_size, hidden_size)
        self.visual = nn.Linear(hidden_size, visual_size)

    def forward(self, semantics: Float[Tensor, "classes semantic"]) -> Knowledge:
        """The knowledge of each described class."""
        hidden = torch.relu(self.hidden(semantics))
        return Knowledge(hidden, self.visual(hidden))


def reconstruction_loss(
    visual: Float[Tensor, "images visual"], features: Float[Tensor, "images visual"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of sigmoid(k2) against features in [0, 1], summed over a feature, mean over images.

    The published objective takes it times 0.1. The released code adds 1e-12 inside the logarithm; here the
    logits are used, which needs no such guard.
    """
    return functional.binary_cross_entropy_with_logits(visual, features, reduction="sum") / len(features)
