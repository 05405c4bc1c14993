"""The backbone of `numbers`: pictures of two digits to oriented gradients, in tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.data.numbers import features as drawn
from dkgzsl.data.numbers.pictures import INK, PAPER, STEP, gray_levels, number_picture
from dkgzsl.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image


class GradientTokens(nn.Module):
    """Ink (0 to 16) to the gradients of the whole picture, and those that each patch sees.

    The same as `dkgzsl.data.numbers.features.image_features` and `region_masks`, by operations that ONNX has.
    """

    directions: Tensor
    binomial: Tensor
    masks: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(
            "directions", torch.arange(drawn.DIRECTIONS, dtype=torch.float32).reshape(1, -1, 1, 1)
        )
        self.register_buffer("binomial", torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16)
        self.register_buffer("masks", torch.from_numpy(drawn.region_masks().astype(np.float32)))

    def forward(self, ink: Float[Tensor, "batch 1 8 16"]) -> Float[Tensor, "batch tokens channels"]:
        """The pooled feature, then each patch's own part of it."""
        paper = functional.pad(ink[:, 0], (1, 1, 1, 1))
        across = (paper[:, 1:-1, 2:] - paper[:, 1:-1, :-2]) / 2
        down = (paper[:, 2:, 1:-1] - paper[:, :-2, 1:-1]) / 2
        length = (across.square() + down.square()).sqrt()
        # By the arctangent of a quotient: two arguments are no operation of ONNX. Right of the axis first, then
        # the left half turned by half a circle; where there is no gradient, the length of 0 takes it out.
        slope = down / torch.where(across == 0, torch.full_like(across, 1e-20), across)
        turn = torch.atan(slope) / (2 * math.pi) * drawn.DIRECTIONS
        turn = torch.where(across < 0, turn + drawn.DIRECTIONS / 2, turn)
        away = (turn[:, None] - self.directions).abs()
        away = torch.minimum(away, (drawn.DIRECTIONS - away).abs())
        maps = length[:, None] * (1 - away).clamp(min=0)
        smooth = functional.conv2d(maps.flatten(0, 1)[:, None], self.binomial, padding=1)
        cells = functional.avg_pool2d(smooth, drawn.CELL) * drawn.CELL**2
        pooled = cells.reshape(-1, 1, drawn.CHANNELS)
        return torch.cat([pooled, pooled * self.masks], dim=1)


@dataclass(frozen=True)
class NumberPreprocessing:
    """Finds the two digits of a picture and scales them to 8 x 16 pixels, dark on light."""

    image_size: tuple[int, int] = (drawn.HEIGHT, drawn.WIDTH)

    def pixels(self, image: Image) -> UInt8[np.ndarray, "3 height width"]:
        """The picture that the backbone sees."""
        return np.repeat(gray_levels(number_picture(image))[None], 3, axis=0)

    def scale(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1 height width"]:
        """Pixels as ink, 0 to 16."""
        return ((PAPER - pixels.float().mean(1, keepdim=True)) / STEP).clamp(max=INK)

    def record(self) -> dict[str, Any]:
        """The settings as JSON values."""
        settings: dict[str, Any] = drawn.backbone_record()["preprocessing"]
        return settings


@dataclass(frozen=True)
class OrientedGradients:
    """See `dkgzsl.features.backbones.Backbone` for the attributes."""

    name: str = drawn.NAME
    model: nn.Module = field(default_factory=GradientTokens)
    preprocessing: NumberPreprocessing = field(default_factory=NumberPreprocessing)
    grid: tuple[int, int] = drawn.GRID
    channels: int = drawn.CHANNELS
    weights: Mapping[str, Any] = field(default_factory=dict)

    @property
    def regions(self) -> int:
        """Number of patches."""
        return self.grid[0] * self.grid[1]

    def tokens(self, images: Float[Tensor, "batch 1 8 16"]) -> Float[Tensor, "batch tokens channels"]:
        """All channels, then those of each patch."""
        tokens: Tensor = self.model(images)
        return tokens

    def record(self) -> dict[str, Any]:
        """What is recorded of it."""
        return drawn.backbone_record()


def build(
    name: str, *, weights: Path | None = None, image_size: int | None = None, random_seed: int | None = None
) -> OrientedGradients:
    """Make the backbone; nothing is learned, so that there is nothing for `random_seed` to draw.

    Raises:
        ConfigError: a file of weights is given, or another image size than 8 (8 x 16 pixels).
    """
    del random_seed
    if weights is not None:
        raise ConfigError(f"{name} has no weights", where=str(weights), fix="leave --weights out")
    if image_size not in (None, drawn.HEIGHT):
        raise ConfigError(
            f"{name} only takes pictures of {drawn.HEIGHT} x {drawn.WIDTH} pixels", fix="leave --image-size out"
        )
    return OrientedGradients()
