"""Maps over regions drawn onto what the backbone saw of a photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float, UInt8

if TYPE_CHECKING:
    from PIL.Image import Image


Pixels = UInt8[np.ndarray, "height width 3"]

# Dark blue over red to light yellow: ordered by lightness, so it reads in print and to the colour-blind.
_COLOURS: Final = np.array(
    [(20, 20, 70), (90, 30, 120), (170, 45, 110), (230, 90, 70), (250, 160, 60), (255, 240, 150)], np.float32
)
_OPACITY: Final = 0.65
_GAP: Final = 8
_CAPTION: Final = 18


def overlay(pixels: Pixels, weights: Float[np.ndarray, " regions"], grid: tuple[int, int]) -> Pixels:
    """A map over regions on its photo: the largest weight bright and opaque, the smallest clear.

    Args:
        pixels: the crop that the backbone saw, so that the regions lie where they belong.
        weights: a weight a region, row by row from the top left.
        grid: rows and columns of the regions.
    """
    from PIL import Image

    spread = float(np.ptp(weights))
    level = (weights - weights.min()) / spread if spread > 0 else np.zeros_like(weights)
    height, width, _ = pixels.shape
    small = Image.fromarray(level.astype(np.float32).reshape(grid))
    heat = np.clip(np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)), 0, 1)
    place = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(heat, place, _COLOURS[:, channel]) for channel in range(3)], axis=2)
    opacity = _OPACITY * heat[..., None]
    blended: Pixels = np.round(pixels * (1 - opacity) + colour * opacity).astype(np.uint8)
    return blended


def panels(pictures: Sequence[tuple[str, Pixels]]) -> Image:
    """Pictures of one size in a row, each under its caption; save it as a PNG.

    Args:
        pictures: caption and pixels of each.
    """
    from PIL import Image, ImageDraw

    height, width, _ = pictures[0][1].shape
    sheet = Image.new("RGB", (len(pictures) * (width + _GAP) - _GAP, height + _CAPTION), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (caption, pixels) in enumerate(pictures):
        left = column * (width + _GAP)
        draw.text((left, 3), _shortened(draw, caption, width), fill="black")
        sheet.paste(Image.fromarray(pixels), (left, _CAPTION))
    return sheet


def map_panels(
    pixels: Pixels, maps: Sequence[tuple[str, Float[np.ndarray, " regions"]]], grid: tuple[int, int]
) -> Image:
    """The photo, then each map drawn on it.

    Args:
        pixels: the crop that the backbone saw.
        maps: caption, and weights over the regions.
        grid: rows and columns of the regions.
    """
    drawn = [(caption, overlay(pixels, weights, grid)) for caption, weights in maps]
    return panels([("photo", pixels), *drawn])


def _shortened(draw: object, caption: str, width: int) -> str:
    """The caption, its beginning cut until it fits: `has_bill_shape::cone` says most at its end."""
    length = draw.textlength  # type: ignore[attr-defined]
    if length(caption) <= width:
        return caption
    while caption and length(".." + caption) > width:
        caption = caption[1:]
    return ".." + caption
