"""ARA, attribute-region attention: in which regions an attribute shows, and how strongly (DKGZSL, TCSVT 2025)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dkgzsl.cache import WeightCache, must_recompute

_PUBLISHED_REGIONS = 196
_PUBLISHED_KEPT = 80


class AttentionOutput(NamedTuple):
    """ARA's output for a batch, in float32 whatever the precision around it.

    Attributes:
        attention: each attribute's attention map: weights over the regions that sum to 1.
        scores: how strongly each attribute shows; without bounds.
        refined: the refined feature, the mean over the attributes of their features.
    """

    attention: Float[Tensor, "batch attributes regions"]
    scores: Float[Tensor, "batch attributes"]
    refined: Float[Tensor, "batch channels"]


class AttributeAttention(nn.Module):
    """ARA: region features to one feature and one score an attribute.

    F are the regions (`regions`), scaled to unit length; V the attributes' vectors (`vectors`) of unit length.
    Attention A = softmax over regions of top-k(V W2 F), where the regions outside the top k stay in the softmax as
    0; an attribute's feature H = A F^T; its score s_i = V_i W1 H_i; a class's score s . attributes of the class.

    For a given A, the scores and the mean of H are linear in F, so neither needs H itself, a vector an attribute
    and image: s_i = sum_r A_ir (V_i W1 F_r), and the mean takes A's mean. `attribute_features` computes H.

    Args:
        vectors: where the attributes' vectors start (word vectors of their names); scaled to unit length.
        channels: size of a region feature.
        generator: draws W1; W2 starts at 0.
    """

    def __init__(
        self, vectors: Float[Tensor, "attributes word"], channels: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.vectors = nn.Parameter(nn.functional.normalize(vectors.float(), dim=1))
        self.score_weight = nn.Parameter(torch.randn(vectors.shape[1], channels, generator=generator))
        self.attention_weight = nn.Parameter(torch.zeros(vectors.shape[1], channels))
        self._cache: WeightCache[Tensor] = WeightCache()

    def forward(self, regions: Float[Tensor, "batch regions channels"]) -> AttentionOutput:
        """Attention maps, scores and refined feature of raw or denoised regions."""
        regions = nn.functional.normalize(regions.float(), dim=2)
        where, evidence = (regions @ self._maps().T).float().transpose(1, 2).chunk(2, dim=1)
        attention = _keep_largest(where).softmax(dim=2)
        refined = (attention.mean(dim=1, keepdim=True) @ regions).squeeze(1).float()
        return AttentionOutput(attention, (attention * evidence).sum(dim=2), refined)

    def _maps(self) -> Float[Tensor, "twice_attributes channels"]:
        """V W2 and V W1, concatenated for one product with the regions, which are by far the larger factor.

        They do not depend on the image. For a single image they are most of the work, so they are cached while the
        weights stay unchanged.
        """
        if must_recompute():
            return self._multiplied()
        weights = (self.vectors, self.attention_weight, self.score_weight)
        return self._cache.get(weights, torch.is_autocast_enabled(self.vectors.device.type), self._multiplied)

    def _multiplied(self) -> Tensor:
        return torch.cat([self.vectors @ self.attention_weight, self.vectors @ self.score_weight])

    def attribute_features(
        self, regions: Float[Tensor, "batch regions channels"]
    ) -> Float[Tensor, "batch attributes channels"]:
        """H: one feature an attribute."""
        output: AttentionOutput = self(regions)
        return output.attention @ nn.functional.normalize(regions.float(), dim=2)


def kept_regions(regions: int) -> int:
    """Number of regions that an attribute keeps: 80 of 196 as published, the same share of others, at least 1."""
    return max(1, round(_PUBLISHED_KEPT * regions / _PUBLISHED_REGIONS))


def class_scores(
    scores: Float[Tensor, "batch attributes"], attributes: Float[Tensor, "classes attributes"]
) -> Float[Tensor, "batch classes"]:
    """Scores of classes from the scores of attributes.

    Args:
        scores: of the attributes.
        attributes: of each class; scaled to unit length here.
    """
    return scores.float() @ nn.functional.normalize(attributes, dim=1).T


def seen_class_loss(
    scores: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    seen: Int[Tensor, " seen"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy of a softmax over the seen classes alone.

    Args:
        scores: of all classes.
        labels: class of each image, a seen one, numbered among all classes.
        seen: the seen classes, ascending.
    """
    return nn.functional.cross_entropy(scores[:, seen], torch.searchsorted(seen, labels))


def _keep_largest(
    where: Float[Tensor, "batch attributes regions"],
) -> Float[Tensor, "batch attributes regions"]:
    """Zero all but each attribute's largest regions; regions equal to the smallest of these stay, too."""
    where = where.contiguous()
    kept = kept_regions(int(where.shape[2]))  # while torch traces, a size is no int
    border = where.detach().topk(kept, dim=2, sorted=False).values.amin(2, keepdim=True)
    return where * (where >= border)
