"""Attention maps: where the strongest attributes of a few test photos lie, computed from stored region tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.data.problem import Problem
from dkgzsl.features.stream import read_tokens
from dkgzsl.representation.evidence import attribute_names, strengths, usual_scores
from dkgzsl.representation.representation import Fitted, FittedBlocks, grid_of

PHOTOS = 6
ATTRIBUTES = 3


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


def attention_maps(problem: Problem, fitted: Fitted, images: Sequence[int]) -> AttentionMaps | None:
    """Compute the attention maps of some images; None for a run without attribute attention (ARA).

    Args:
        problem: its features are region features.
        fitted: the representation of the run.
        images: positions of the photos.
    """
    usual = usual_scores(problem, fitted)
    if usual is None or not len(images):
        return None
    assert isinstance(fitted, FittedBlocks), "usual scores come from its refiner"
    refiner = fitted.visual.refiner
    assert refiner is not None, "usual scores come from it"
    positions = np.asarray(images, dtype=np.int64)
    tokens = read_tokens(problem.features, positions).to(next(refiner.parameters()).device).float()
    maps = refiner.attend(tokens)
    strength = torch.from_numpy(strengths(maps.scores.cpu().numpy(), usual))
    chosen = strength.argsort(dim=1, descending=True, stable=True)[:, :ATTRIBUTES]
    names = attribute_names(problem)
    store = problem.provenance.get("store") or {}
    return AttentionMaps(
        images=torch.from_numpy(positions),
        attributes=chosen,
        strengths=strength.gather(1, chosen),
        maps=torch.stack(
            [weights[row] for weights, row in zip(maps.attention.float().cpu(), chosen, strict=True)]
        ),
        grid=grid_of(problem),
        names=tuple(tuple(names[attribute] for attribute in row) for row in chosen.tolist()),
        preprocessing=store.get("preprocessing"),
    )
