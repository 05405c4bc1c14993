"""Attention maps: where the strongest attributes of a few test photos lie, computed from stored region tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.config import RefinementConfig
from dkgzsl.data.names import spoken_attribute
from dkgzsl.data.problem import Problem
from dkgzsl.features.stream import read_tokens
from dkgzsl.representation.attributes import attributes_for
from dkgzsl.representation.blocks import read_store
from dkgzsl.representation.overlay import strongest
from dkgzsl.representation.representation import FittedBlocks, grid_of

PHOTOS = 6
ATTRIBUTES = 3
_WITHOUT_VECTORS = RefinementConfig(vectors="random")
_USUAL = 256  # training images from which the usual score of an attribute is estimated


@dataclass(frozen=True)
class AttentionMaps:
    """Attention maps of the strongest attributes of each photo.

    Attributes:
        images: positions of the photos in the problem.
        attributes: positions of the attributes, the strongest first.
        strengths: their scores in standard deviations above the mean over training images.
        maps: attention over the regions, row by row; the weights of one map sum to 1.
        grid: rows and columns of the regions.
        names: names of the attributes, photo by photo.
        preprocessing: how a photo was cropped and scaled for the backbone; None where this was not recorded.
    """

    images: Int[Tensor, " photos"]
    attributes: Int[Tensor, "photos strongest"]
    strengths: Float[Tensor, "photos strongest"]
    maps: Float[Tensor, "photos strongest regions"]
    grid: tuple[int, int]
    names: tuple[tuple[str, ...], ...]
    preprocessing: Mapping[str, Any] | None

    def tensors(self) -> dict[str, Tensor]:
        """As tensors of a file; `values` has the other fields."""
        return {
            "images": self.images.int(),
            "attributes": self.attributes.int(),
            "strengths": self.strengths,
            "maps": self.maps,
        }

    def values(self) -> dict[str, Any]:
        """The fields that are no tensors, as JSON values."""
        return {
            "grid": list(self.grid),
            "names": [list(row) for row in self.names],
            "preprocessing": self.preprocessing,
        }

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> AttentionMaps:
        """Attention maps from what `tensors` and `values` returned."""
        rows, columns = values["grid"]
        return cls(
            images=tensors["images"].long(),
            attributes=tensors["attributes"].long(),
            strengths=tensors["strengths"],
            maps=tensors["maps"],
            grid=(rows, columns),
            names=tuple(tuple(row) for row in values["names"]),
            preprocessing=values["preprocessing"],
        )


def attention_maps(problem: Problem, fitted: object, images: Sequence[int]) -> AttentionMaps | None:
    """Compute the attention maps of some images; None for a run without attribute attention (ARA).

    Args:
        problem: its features are region features.
        fitted: the representation of the run.
        images: positions of the photos.
    """
    refiner = fitted.visual.refiner if isinstance(fitted, FittedBlocks) else None
    if refiner is None or refiner.attention_layer is None or not len(images):
        return None
    assert isinstance(fitted, FittedBlocks), "a refiner was found above"
    device = next(refiner.parameters()).device
    positions = np.asarray(images, dtype=np.int64)
    tokens = read_tokens(problem.features, positions).to(device).float()
    scores = refiner.attribute_scores(tokens).cpu().numpy()
    attention = refiner.attention(tokens).float().cpu()
    training = np.sort(problem.parts.trainval)
    sample = training[np.linspace(0, len(training) - 1, min(_USUAL, len(training))).astype(int)]
    known = fitted.blocks is not None and fitted.known is problem.features and "scores" in fitted.blocks
    if known and fitted.blocks is not None:
        usual = fitted.blocks["scores"][torch.from_numpy(sample)].numpy()
    else:
        usual = read_store(problem.features, sample, ["scores"], refiner)["scores"].numpy()
    strong = [strongest(row, usual.mean(0), usual.std(0), ATTRIBUTES) for row in scores]
    chosen = torch.tensor([[one.attribute for one in row] for row in strong])
    named = attributes_for(problem, _WITHOUT_VECTORS, seed=0).names
    store = problem.provenance.get("store") or {}
    return AttentionMaps(
        images=torch.from_numpy(positions),
        attributes=chosen,
        strengths=torch.tensor([[one.strength for one in row] for row in strong]),
        maps=torch.stack([maps[row] for maps, row in zip(attention, chosen, strict=True)]),
        grid=grid_of(problem),
        names=tuple(
            tuple(spoken_attribute(named[a]) if named else f"attribute {a}" for a in row)
            for row in chosen.tolist()
        ),
        preprocessing=store.get("preprocessing"),
    )
