"""Where attributes and saliency lie on a photo: maps over regions drawn onto what the backbone saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

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


class Strong(NamedTuple):
    """An attribute that shows more than usual.

    Attributes:
        attribute: its position.
        strength: deviations above its mean over the training images.
    """

    attribute: int
    strength: float


def strongest(
    scores: Float[np.ndarray, " attributes"],
    mean: Float[np.ndarray, " attributes"],
    deviation: Float[np.ndarray, " attributes"],
    number: int,
) -> list[Strong]:
    """The attributes whose scores stand out most against the training images', strongest first.

    Raw scores of two attributes have no common scale, since each has its own random start.
    """
    strength = (scores - mean) / np.where(deviation > 0, deviation, np.inf)
    order = np.argsort(-strength, kind="stable")[:number]
    return [Strong(int(i), float(strength[i])) for i in order]


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
        draw.text((left, 3), _fitting(draw, caption, width), fill="black")
        sheet.paste(Image.fromarray(pixels), (left, _CAPTION))
    return sheet


def attribute_panels(
    pixels: Pixels,
    attention: Float[np.ndarray, "attributes regions"],
    strong: Sequence[Strong],
    names: Sequence[str],
    grid: tuple[int, int],
) -> Image:
    """The photo, then where each of its strongest attributes lies, by name."""
    shown = [
        (f"{names[s.attribute]} ({s.strength:+.1f})", overlay(pixels, attention[s.attribute], grid))
        for s in strong
    ]
    return panels([("photo", pixels), *shown])


def saliency_panels(
    pixels: Pixels,
    before: Float[np.ndarray, " regions"],
    after: Float[np.ndarray, " regions"],
    grid: tuple[int, int],
) -> Image:
    """The photo, FDE's saliency before training, and after."""
    return panels(
        [
            ("photo", pixels),
            ("saliency, untrained", overlay(pixels, before, grid)),
            ("saliency, trained", overlay(pixels, after, grid)),
        ]
    )


def _fitting(draw: object, caption: str, width: int) -> str:
    """The caption, its end cut until it fits; the beginning of `has_bill_shape::cone` says least, its end most."""
    length = draw.textlength  # type: ignore[attr-defined]
    if length(caption) <= width:
        return caption
    while caption and length(".." + caption) > width:
        caption = caption[1:]
    return ".." + caption
