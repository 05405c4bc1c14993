"""Poolings of an image's regions into one vector, beside the backbone's own: they learn nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from dkgzsl.errors import DataError

Pooling = Literal["pooled", "mean", "maximum", "generalised"]
POWER = 3.0
"""Exponent of the generalised mean: between the mean (1) and the maximum (infinite)."""


def pool(
    tokens: Float[Tensor, "batch tokens channels"], which: Sequence[Pooling]
) -> dict[str, Float[Tensor, "batch channels"]]:
    """Pool tokens, the global one first.

    `pooled` is the global token itself (average pool of a CNN, class token of a ViT), the others are over the
    regions; `generalised` is (mean x^3)^(1/3) (GeM; Radenovic et al., 2019, arXiv 1711.02512).

    Raises:
        DataError: the generalised mean of negative features.
    """
    regions = tokens[:, 1:]
    pooled: dict[str, Tensor] = {}
    for kind in which:
        if kind == "pooled":
            pooled[kind] = tokens[:, 0]
        elif kind == "mean":
            pooled[kind] = regions.mean(dim=1)
        elif kind == "maximum":
            pooled[kind] = regions.amax(dim=1)
        else:
            if bool((regions < 0).any()):
                raise DataError(
                    "the generalised mean needs features that are never negative",
                    fix="take the maximum, or the mean, for this backbone",
                )
            pooled[kind] = regions.pow(POWER).mean(dim=1).pow(1 / POWER)
    return pooled
