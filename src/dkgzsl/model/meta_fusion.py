"""From visual knowledge to the guidance of a generator layer (MFU, the meta-fusion unit)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.model.knowledge_transfer import Knowledge


class Guidance(NamedTuple):
    """What is added to the generator's two layers: vectors of one given length, the guidance weight.

    Attributes:
        hidden: added to the hidden layer.
        visual: added to the output layer, before the sigmoid.
    """

    hidden: Float[Tensor, "rows hidden"]
    visual: Float[Tensor, "rows visual"]


class FusionUnit(nn.Module):
    """One MFU: m = MLP(k) + normalize(W a + b) * scale, the second term in training only.

    MLP is d -> inner -> d with ReLU between; `normalize` divides a row by its Euclidean length.

    Args:
        semantic_size: length of a class description a.
        inner_size: width of the MLP's inner layer (published: half the hidden size, at both levels).
        size: d, the length of k and m.
    """

    def __init__(self, semantic_size: int, inner_size: int, size: int) -> None:
        super().__init__()
        self.knowledge = nn.Sequential(nn.Linear(size, inner_size), nn.ReLU(), nn.Linear(inner_size, size))
        self.semantic = nn.Linear(semantic_size, size)
        self.scale = nn.Parameter(torch.zeros(size))

    def forward(
        self, knowledge: Float[Tensor, "classes d"], semantic_term: Float[Tensor, "classes d"] | None
    ) -> Float[Tensor, "classes d"]:
        """m of each class; `semantic_term` None is the form used at synthesis."""
        fused: Tensor = self.knowledge(knowledge)
        return fused if semantic_term is None else fused + semantic_term

    def semantic_term(self, semantics: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes d"]:
        """The second term of m. It changes with the unit's weights alone, not with the knowledge."""
        return functional.normalize(self.semantic(semantics), dim=1) * self.scale


class MetaFusion(nn.Module):
    """The two MFUs of DKGZSL (IEEE TCSVT 2025), one for each layer of the generator.

    The second takes k2 before the sigmoid.
    """

    def __init__(self, semantic_size: int, hidden_size: int, visual_size: int) -> None:
        super().__init__()
        self.hidden = FusionUnit(semantic_size, hidden_size // 2, hidden_size)
        self.visual = FusionUnit(semantic_size, hidden_size // 2, visual_size)

    def forward(
        self, knowledge: Knowledge, semantic_terms: Guidance | None = None, *, weight: float = 0.1
    ) -> Guidance:
        """weight * normalize(m) of both levels, a row a class; without `semantic_terms` as used at synthesis.

        The knowledge gets no gradient: KTN learns from its reconstruction alone.
        """
        terms = (None, None) if semantic_terms is None else semantic_terms
        hidden = self.hidden(knowledge.hidden.detach(), terms[0])
        visual = self.visual(knowledge.visual.detach(), terms[1])
        return Guidance(
            weight * functional.normalize(hidden, dim=1),
            weight * functional.normalize(visual, dim=1),
        )

    def semantic_terms(self, semantics: Float[Tensor, "classes semantic"]) -> Guidance:
        """The part of both units that the description alone decides, for training."""
        return Guidance(self.hidden.semantic_term(semantics), self.visual.semantic_term(semantics))
