"""From region tokens to the one vector an image that methods take: pooled, refined, or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from dkgzsl.features.pooling import Pooling, pool
from dkgzsl.features.token_stream import TokenArray, chunks, read_ahead
from dkgzsl.learning.refinement import FeatureKind, Refiner, SavedRefiner
from dkgzsl.learning.side_by_side import SideBySide

Block = Literal["pooled", "mean", "maximum", "generalised", "refined", "scores"]
"""Poolings of the regions, SOVR's refined feature, or its attribute scores."""
WEIGHTS: Final[Mapping[str, float]] = {
    "pooled": 1.0,
    "mean": 1.0,
    "maximum": 1.0,
    "generalised": 1.0,
    "refined": 1.0,
    "scores": 0.5,
}
"""A block's standard deviation beside others; chosen on validation classes of CUB100 (docs/lab-notes.md)."""
_CHUNK = 64


@dataclass(frozen=True)
class VisualFeatures:
    """How an image's tokens become its vector: fitted on training images, applied to any.

    Attributes:
        blocks: what stands side by side.
        scaling: how the blocks are weighed.
        refiner: SOVR, where a block needs it.
    """

    blocks: tuple[Block, ...]
    scaling: SideBySide
    refiner: Refiner | None

    def __call__(self, tokens: Float[Tensor, "batch tokens channels"]) -> Float[Tensor, "batch features"]:
        """The vectors of a batch."""
        return self.scaling(read_blocks(tokens, self.blocks, self.refiner))

    def save(self) -> SavedRefiner:
        """Tensors and JSON values from which `load` makes it again."""
        tensors = {f"mean.{name}": mean for name, mean in zip(self.blocks, self.scaling.means, strict=True)}
        values: dict[str, Any] = {
            "blocks": list(self.blocks),
            "roots": list(self.scaling.roots),
            "scales": list(self.scaling.scales),
            "refiner": None,
        }
        if self.refiner is not None:
            saved = self.refiner.save()
            tensors |= {f"refiner.{name}": tensor for name, tensor in saved.tensors.items()}
            values["refiner"] = dict(saved.values)
        return SavedRefiner(tensors, values)

    @classmethod
    def load(cls, saved: SavedRefiner) -> VisualFeatures:
        """What `saved` was made from."""
        values, tensors = saved.values, saved.tensors
        blocks = tuple(values["blocks"])
        means = tuple(tensors[f"mean.{name}"] for name in blocks)
        scaling = SideBySide(blocks, tuple(values["roots"]), means, tuple(values["scales"]))
        refiner = None
        if values["refiner"] is not None:
            own = {k.removeprefix("refiner."): v for k, v in tensors.items() if k.startswith("refiner.")}
            refiner = Refiner.load(SavedRefiner(own, values["refiner"]))
        return cls(blocks, scaling, refiner)


def read_blocks(
    tokens: Float[Tensor, "batch tokens channels"], blocks: Sequence[Block], refiner: Refiner | None
) -> dict[str, Float[Tensor, "batch _"]]:
    """Each block of a batch."""
    poolings: list[Pooling] = [b for b in blocks if b in get_args(Pooling)]  # type: ignore[misc]
    refined: list[FeatureKind] = [b for b in blocks if b in get_args(FeatureKind)]  # type: ignore[misc]
    found = pool(tokens, poolings)
    if refined:
        if refiner is None:
            raise ValueError(f"{refined} need a refiner")
        found |= refiner.read(tokens, refined)
    return {block: found[block] for block in blocks}


def read_store(
    tokens: TokenArray,
    positions: Integer[np.ndarray, " images"],
    blocks: Sequence[Block],
    refiner: Refiner | None,
) -> dict[str, Float[Tensor, "images _"]]:
    """Each block of many images, in one streamed pass over a store; on the CPU."""
    device = torch.device("cpu") if refiner is None else next(refiner.parameters(), torch.zeros(0)).device
    found: dict[str, Tensor] = {}
    done = 0
    for _, stored in read_ahead(tokens, chunks(positions, _CHUNK)):
        for block, features in read_blocks(stored.to(device).float(), blocks, refiner).items():
            # Copied: a pooled block is a view that would keep all of its batch's tokens in memory.
            rows = found.setdefault(block, torch.empty(len(positions), features.shape[1]))
            rows[done : done + len(features)] = features
        done += len(stored)
    return found


def fit_visual(
    features: Mapping[str, Float[Tensor, "images _"]],
    training: Integer[np.ndarray, " training"],
    *,
    blocks: Sequence[Block],
    refiner: Refiner | None,
) -> VisualFeatures:
    """Weigh some of the blocks that `read_store` gave, by the training images alone.

    Args:
        features: of all images, by block.
        training: rows of the training images.
        blocks: those that stand side by side.
        refiner: where they came from.
    """
    chosen: dict[str, Tensor] = {block: features[block] for block in blocks}
    scaling = SideBySide.fit(chosen, WEIGHTS, torch.from_numpy(training.astype(np.int64)))
    needed = any(block in get_args(FeatureKind) for block in blocks)
    return VisualFeatures(tuple(blocks), scaling, refiner if needed else None)
