"""Scalings of features and descriptions, fitted on training images alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from dkgzsl.errors import ConfigError, RunError, nearest

SHORTEST, LONGEST = 1.0, 25.0
"""Bounds of the mean length of the descriptions that networks take."""


def description_scale(semantics: Float[Tensor, "classes semantic"]) -> float:
    """The factor for all descriptions: 1 where the mean length of the rows is from 1 to 25.

    The released code takes the rows as the data set's file has them: the field's attributes have length 1, its
    sentence embeddings near 20. Descriptions on other scales (percentages, counts) are scaled to the nearer bound.
    """
    length = float(torch.linalg.vector_norm(semantics, dim=1).mean())
    return min(max(length, SHORTEST), LONGEST) / length if length > 0 else 1.0


@dataclass(frozen=True)
class MinMax:
    """Scaling of each feature to [0, 1] over the training images.

    Features of other images may lie outside [0, 1]. A feature that is constant in training becomes 0 there.

    Attributes:
        minimum: of each feature over the training images.
        range: maximum less minimum; 1 where that is 0.
    """

    minimum: Float[Tensor, " visual"]
    range: Float[Tensor, " visual"]

    @classmethod
    def fit(cls, features: Float[Tensor, "images visual"]) -> MinMax:
        """Fit on training features; never call it with held-out images."""
        minimum, maximum = features.aminmax(dim=0)
        extent = maximum - minimum
        return cls(minimum, extent.masked_fill(extent == 0, 1.0))

    def scale(self, features: Float[Tensor, "*images visual"]) -> Float[Tensor, "*images visual"]:
        """Scale features."""
        return (features - self.minimum) / self.range

    def unscale(self, scaled: Float[Tensor, "*images visual"]) -> Float[Tensor, "*images visual"]:
        """Scale back: the inverse of `scale`."""
        return scaled * self.range + self.minimum


SCALINGS: Final = ("none", "min-max", "unit", "square-root", "standard")
"""none: unchanged; min-max: each feature to [0, 1]; unit: each image to length 1; square-root: of each value;
standard: each feature to mean 0 and deviation 1."""


@dataclass(frozen=True)
class Scaling:
    """A scaling of features, one of those that peers choose among on validation classes.

    Attributes:
        name: one of `SCALINGS`.
        shift: subtracted from each feature; 0 where the scaling subtracts nothing.
        divisor: divides each feature after that; 1 where the scaling divides by nothing.
    """

    name: str
    shift: Float[Tensor, " visual"]
    divisor: Float[Tensor, " visual"]

    @classmethod
    def fit(cls, name: str, features: Float[Tensor, "images visual"]) -> Scaling:
        """Fit on training features; never call it with held-out images.

        Args:
            name: one of `SCALINGS`.
            features: of the training images.

        Raises:
            ConfigError: the name is unknown, or it is `square-root` and a feature is negative.
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
        """Scale features. Under the square root a negative feature, which training did not have, counts as 0."""
        features = features.to(self.shift)
        if self.name == "unit":
            return torch.nn.functional.normalize(features, dim=1)
        if self.name == "square-root":
            return features.clamp(min=0).sqrt()
        return features if self.name == "none" else (features - self.shift) / self.divisor

    def restore(self, scaled: Float[Tensor, "*images visual"], length: float) -> Float[Tensor, "*images visual"]:
        """Back to the features' own scale.

        Args:
            scaled: on this scale; below 0 counts as 0 where the scale is the square root.
            length: of the features, where the scale is `unit`; ignored elsewhere.
        """
        if self.name == "unit":
            return torch.nn.functional.normalize(scaled, dim=-1) * length
        if self.name == "square-root":
            return scaled.clamp(min=0).square()
        return scaled if self.name == "none" else scaled * self.divisor + self.shift

    def tensors(self) -> dict[str, Tensor]:
        """Tensors by name that `load` takes."""
        return {"scaling.shift": self.shift, "scaling.divisor": self.divisor}

    @classmethod
    def load(cls, name: str, tensors: Mapping[str, Tensor]) -> Scaling:
        """The scaling whose `tensors` are among these; other names are ignored."""
        return cls(name, tensors["scaling.shift"], tensors["scaling.divisor"])


def fitting_scalings(names: Sequence[str], features: Float[Tensor, "images visual"]) -> tuple[str, ...]:
    """The scalings that fit the training features: `square-root` is left out where a feature is negative.

    Raises:
        RunError: none is left.
    """
    negative = "square-root" in names and bool((features < 0).any())
    kept = tuple(name for name in names if not (negative and name == "square-root"))
    if not kept:
        raise RunError("negative features have no square root", fix="name another scaling")
    return kept


def check_names(given: Sequence[str], known: Sequence[str], setting: str) -> None:
    """Check a setting that lists names.

    Args:
        given: its names.
        known: the names that there are.
        setting: its own name, for the message.

    Raises:
        ConfigError: it lists none, or an unknown one.
    """
    if not given:
        raise ConfigError(f"{setting} must name at least one value to try")
    for name in given:
        if name not in known:
            raise ConfigError(f"{setting} cannot be {name!r}", fix=nearest(name, known, of="choices"))
