"""What episodes can learn on class descriptions: a weight a dimension, or a residual."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class DescriptionWeights(nn.Module):
    """a -> normalize(w * a), one positive weight a dimension, 1 at the start."""

    def __init__(self, semantic: int) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.zeros(semantic))

    def forward(self, descriptions: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes semantic"]:
        """Weighted descriptions of unit length."""
        return nn.functional.normalize(descriptions * self.log_weight.exp(), dim=1)


class DescriptionResidual(nn.Module):
    """a -> normalize(a + W2 relu(W1 a)), the identity at the start (W2 = 0)."""

    def __init__(self, semantic: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.inward = nn.Linear(semantic, hidden)
        self.dropout = nn.Dropout(dropout)
        self.outward = nn.Linear(hidden, semantic)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, descriptions: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes semantic"]:
        """Shifted descriptions of unit length."""
        shift = self.outward(self.dropout(self.inward(descriptions).relu()))
        return nn.functional.normalize(descriptions + shift, dim=1)
