"""ARA, attribute-region attention: where each attribute shows, and how strongly (DKGZSL, TCSVT 2025)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dkgzsl.cache import KeptResult, keeps_nothing

_PUBLISHED_REGIONS = 196
_PUBLISHED_KEPT = 80


class AttentionMaps(NamedTuple):
    """What the attributes see in a batch, in float32 whatever the precision around it.

    Attributes:
        attention: each attribute's weights over the regions, summing to 1.
        scores: how strongly each attribute shows.
        refined: the refined feature, the mean over attributes of their attended features.
    """

    attention: Float[Tensor, "batch attributes regions"]
    scores: Float[Tensor, "batch attributes"]
    refined: Float[Tensor, "batch channels"]


class AttributeAttention(nn.Module):
    """ARA: region features to one attended feature and one score an attribute.

    With F the regions scaled to unit length, V the attributes' vectors of unit length:
    attention A = softmax over regions of top-k(V W2 F), cut regions staying in the softmax as 0; attended
    feature H = A F^T; score s_i = V_i W1 H_i; class score s . attributes of the class.

    Scores and the mean of the attended features are linear in F for a given attention, so neither needs H, a
    vector an attribute and image: s_i = sum_r A_ir (V_i W1 F_r), and the mean takes A's mean. `attended` has H.

    Args:
        vectors: a vector an attribute (word vectors of their names); scaled to unit length, learned from there.
        channels: size of a region feature.
        generator: draws W1.
    """

    def __init__(
        self, vectors: Float[Tensor, "attributes word"], channels: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.vectors = nn.Parameter(nn.functional.normalize(vectors.float(), dim=1))
        self.score_weight = nn.Parameter(torch.randn(vectors.shape[1], channels, generator=generator))
        self.attention_weight = nn.Parameter(torch.zeros(vectors.shape[1], channels))
        self._kept: KeptResult[Tensor] = KeptResult()

    def forward(self, regions: Float[Tensor, "batch regions channels"]) -> AttentionMaps:
        """Attention, scores and refined feature of raw or denoised regions."""
        regions = nn.functional.normalize(regions.float(), dim=2)
        where, evidence = (regions @ self._maps().T).float().transpose(1, 2).chunk(2, dim=1)
        attention = _keep_largest(where).softmax(dim=2)
        refined = (attention.mean(dim=1, keepdim=True) @ regions).squeeze(1).float()
        return AttentionMaps(attention, (attention * evidence).sum(dim=2), refined)

    def _maps(self) -> Float[Tensor, "twice_attributes channels"]:
        """V W2 and V W1 side by side: one product with the regions, which are by far the larger factor.

        They do not depend on the image. For one image they are most of the work, so they are kept while the
        weights stay as they are.
        """
        if keeps_nothing():
            return self._multiplied()
        weights = (self.vectors, self.attention_weight, self.score_weight)
        return self._kept.of(weights, torch.is_autocast_enabled(self.vectors.device.type), self._multiplied)

    def _multiplied(self) -> Tensor:
        return torch.cat([self.vectors @ self.attention_weight, self.vectors @ self.score_weight])

    def attended(
        self, regions: Float[Tensor, "batch regions channels"]
    ) -> Float[Tensor, "batch attributes channels"]:
        """H: one attended feature an attribute."""
        maps: AttentionMaps = self(regions)
        return maps.attention @ nn.functional.normalize(regions.float(), dim=2)


def kept_regions(regions: int) -> int:
    """Regions that an attribute keeps: 80 of 196 as published, the same share of other grids, at least 1."""
    return max(1, round(_PUBLISHED_KEPT * regions / _PUBLISHED_REGIONS))


def class_scores(
    scores: Float[Tensor, "batch attributes"], attributes: Float[Tensor, "classes attributes"]
) -> Float[Tensor, "batch classes"]:
    """Class scores of attribute scores; the rows of `attributes` are scaled to unit length."""
    return scores.float() @ nn.functional.normalize(attributes, dim=1).T


def seen_class_loss(
    scores: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    seen: Int[Tensor, " seen"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy with a softmax over the seen classes alone; `labels` number all classes.

    Args:
        scores: over all classes.
        labels: seen classes.
        seen: the seen classes, ascending.
    """
    return nn.functional.cross_entropy(scores[:, seen], torch.searchsorted(seen, labels))


def _keep_largest(
    where: Float[Tensor, "batch attributes regions"],
) -> Float[Tensor, "batch attributes regions"]:
    """Zero all but an attribute's largest regions; regions tied at the border all stay."""
    where = where.contiguous()
    kept = kept_regions(int(where.shape[2]))  # while torch traces, a size is no int
    border = where.detach().topk(kept, dim=2, sorted=False).values.amin(2, keepdim=True)
    return where * (where >= border)
