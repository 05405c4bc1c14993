"""From an RGB image to the pixels that a backbone was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


@runtime_checkable
class Preprocessing(Protocol):
    """What a backbone wants images to look like."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels that the backbone sees."""
        ...

    def pixels(self, image: Image) -> UInt8[np.ndarray, "3 height width"]:
        """Resize and crop an upright RGB image; the result can be shown to people."""
        ...

    def scale(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch _ height width"]:
        """Pixels from 0 to 255 on the scale of the backbone's training; fixed tensor operations alone."""
        ...

    def record(self) -> dict[str, Any]:
        """The settings as JSON values: `image_size`, `crop_mode`, `crop_share` and what else decides pixels."""
        ...


@dataclass(frozen=True)
class PhotoPreprocessing:
    """Resizing, cropping and scaling of photos, as a model's own configuration gives them.

    Attributes:
        image_size: height and width that the backbone sees.
        crop_share: the crop's side over the resized image's side, 0 to 1.
        crop_mode: `center` (the short side is resized, the middle is kept), `squash` or `border` (timm's terms).
        interpolation: `bilinear`, `bicubic`, ...
        mean: subtracted from pixels in [0, 1], by channel.
        std: divisor after that.
    """

    image_size: tuple[int, int]
    crop_share: float
    crop_mode: str
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> PhotoPreprocessing:
        """From what timm's `resolve_model_data_config` says of a model."""
        _, height, width = config["input_size"]
        return cls(
            (height, width),
            float(config["crop_pct"]),
            str(config["crop_mode"]),
            str(config["interpolation"]),
            tuple(map(float, config["mean"])),
            tuple(map(float, config["std"])),
        )

    def pixels(self, image: Image) -> UInt8[np.ndarray, "3 height width"]:
        """Resize and crop an RGB image."""
        return np.asarray(self._transform(image))

    def scale(self, pixels: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Pixels from 0 to 255 on the scale of the backbone's training."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, 3, 1, 1)
        return (pixels.float() / 255 - mean) / std

    def record(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @cached_property
    def _transform(self) -> Any:
        from timm.data.transforms_factory import transforms_imagenet_eval

        return transforms_imagenet_eval(
            img_size=self.image_size,
            crop_pct=self.crop_share,
            crop_mode=self.crop_mode,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            normalize=False,
        )
