"""Scales of the features that peers try: each fitted on training images only, the selector chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from dkgzsl.errors import ConfigError, nearest

SHORTEST, LONGEST = 1.0, 25.0
"""Mean length of the descriptions that the networks are given, at least and at most."""


def description_scale(semantics: Float[Tensor, "classes semantic"]) -> float:
    """The factor that all descriptions are multiplied by: 1 where the rows' mean length is from 1 to 25.

    The released code takes the rows as its file has them: the field's attributes have length 1, its sentence
    embeddings near 20. Descriptions on other scales (percentages, counts) are brought to the nearer end of
    that range.
    """
    length = float(torch.linalg.vector_norm(semantics, dim=1).mean())
    return min(max(length, SHORTEST), LONGEST) / length if length > 0 else 1.0


@dataclass(frozen=True)
class MinMax:
    """Each feature's minimum and range over the training images it was fitted on.

    Other images may fall outside [0, 1]; they are not cut. A feature that is constant in training maps to 0.
    """

    minimum: Float[Tensor, " visual"]
    range: Float[Tensor, " visual"]

    @classmethod
    def fit(cls, features: Float[Tensor, "images visual"]) -> MinMax:
        """The scale of training features; never call it with images that are held out."""
        minimum, maximum = features.aminmax(dim=0)
        extent = maximum - minimum
        return cls(minimum, extent.masked_fill(extent == 0, 1.0))

    def scale(self, features: Float[Tensor, "*images visual"]) -> Float[Tensor, "*images visual"]:
        """From the features' own scale."""
        return (features - self.minimum) / self.range

    def unscale(self, scaled: Float[Tensor, "*images visual"]) -> Float[Tensor, "*images visual"]:
        """Back to the features' own scale."""
        return scaled * self.range + self.minimum


SCALINGS: Final = ("none", "min-max", "unit", "square-root", "standard")
"""none: as they are; min-max: each feature to [0, 1]; unit: each image to length 1; square-root: of each value;
standard: each feature to mean 0 and deviation 1."""


@dataclass(frozen=True)
class Scaling:
    """One scale of the features.

    Attributes:
        name: one of `SCALINGS`.
        shift: what is subtracted from each feature; 0 where the scale has none.
        divisor: what it is divided by then; 1 where the scale has none.
    """

    name: str
    shift: Float[Tensor, " visual"]
    divisor: Float[Tensor, " visual"]

    @classmethod
    def fit(cls, name: str, features: Float[Tensor, "images visual"]) -> Scaling:
        """The scale of training features; never call it with images that are held out.

        Raises:
            ConfigError: the name is unknown, or a feature is negative and has no square root.
        """
        if name not in SCALINGS:
            raise ConfigError(f"unknown scaling {name!r}", fix=nearest(name, SCALINGS, of="scalings"))
        if name == "square-root" and bool((features < 0).any()):
            raise ConfigError("negative features have no square root", fix="leave the scaling square-root out")
        shift, divisor = torch.zeros_like(features[0]), torch.ones_like(features[0])
        if name == "min-max":
            scale = MinMax.fit(features)
            shift, divisor = scale.minimum, scale.range
        elif name == "standard":
            deviation, shift = torch.std_mean(features, dim=0, correction=0)
            divisor = deviation.masked_fill(deviation == 0, 1.0)
        return cls(name, shift, divisor)

    def __call__(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images visual"]:
        """Scaled features. A negative feature that training did not have counts as 0 under the root."""
        features = features.to(self.shift)
        if self.name == "unit":
            return torch.nn.functional.normalize(features, dim=1)
        if self.name == "square-root":
            return features.clamp(min=0).sqrt()
        return features if self.name == "none" else (features - self.shift) / self.divisor

    def tensors(self) -> dict[str, Tensor]:
        """Tensors by name, from which `load` makes the scale again."""
        return {"scaling.shift": self.shift, "scaling.divisor": self.divisor}

    @classmethod
    def load(cls, name: str, tensors: Mapping[str, Tensor]) -> Scaling:
        """What `tensors` was made from; other names are left alone."""
        return cls(name, tensors["scaling.shift"], tensors["scaling.divisor"])


def fitting_scalings(names: Sequence[str], features: Float[Tensor, "images visual"]) -> tuple[str, ...]:
    """The names without the square root where a training feature is negative."""
    negative = "square-root" in names and bool((features < 0).any())
    return tuple(name for name in names if not (negative and name == "square-root"))
