"""A picture of a two-digit number, drawn or scanned, as the 8 x 16 values that `numbers` is made of, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float, UInt8

from dkgzsl.data.numbers.features import HEIGHT, WIDTH

if TYPE_CHECKING:
    from PIL.Image import Image


INK: Final = 16.0
PAPER: Final = 255
STEP: Final = 15
"""Gray levels that a unit of ink is darker than paper: whole values of ink are exact."""
_BITMAP: Final = 32  # side of the bitmaps that the digits of scikit-learn were counted from, 4 x 4 to a pixel
_HALF: Final = 127.5
_EDGE: Final = 0.3  # share of the darkest ink from which on a pixel belongs to a digit


def number_picture(image: Image) -> Float[np.ndarray, "8 16"]:
    """Values 0 (paper) to 16 (ink), whichever of the two is the brighter one in the picture.

    A picture 16 pixels wide and 8 high is taken as it is. Any other is cut at the emptiest column of its middle
    half; each of the two digits is cut out, scaled to the height of 32 pixels, centred, and averaged down to
    8 x 8, as the digits of scikit-learn were.
    """
    gray = np.asarray(image.convert("L"), dtype=np.float32)
    small = gray.shape == (HEIGHT, WIDTH)
    edge = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    usual = float(np.median(gray if small else edge))  # small ones are filled by their digits, edges and all
    if usual > _HALF:
        ink = np.clip((255.0 if small else usual) - gray, 0, None)
    else:
        ink = np.clip(gray - (0.0 if small else usual), 0, None)
    darkest = float(ink.max())
    if darkest == 0:
        return np.zeros((HEIGHT, WIDTH), np.float32)
    if small:
        return np.asarray(np.rint(ink * (INK / (255.0 if darkest > _HALF else darkest))), dtype=np.float32)
    cut = _parting(ink)
    return np.concatenate([_digit(ink[:, :cut]), _digit(ink[:, cut:])], axis=1)


def gray_levels(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Values 0 (paper) to 16 (ink) as gray levels, dark on light."""
    return np.asarray(np.rint(PAPER - STEP * values), dtype=np.uint8)


def _parting(ink: np.ndarray) -> int:
    """The emptiest column of the middle half, the one nearest to the middle where several are."""
    width = ink.shape[1]
    columns = np.arange(width // 4, max(width // 4 + 1, width - width // 4))
    middle = (width - 1) / 2
    return int(columns[np.lexsort((np.abs(columns - middle), ink.sum(0)[columns]))[0]])


def _digit(ink: np.ndarray) -> Float[np.ndarray, "8 8"]:
    from PIL import Image

    drawn = ink >= _EDGE * ink.max() if ink.size and ink.max() > 0 else np.zeros((1, 1), bool)
    if not drawn.any():
        return np.zeros((HEIGHT, HEIGHT), np.float32)
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    width = min(_BITMAP, max(1, round(cut.shape[1] * _BITMAP / cut.shape[0])))
    scaled = Image.fromarray(cut).resize((width, _BITMAP), Image.Resampling.BOX)
    bitmap = np.zeros((_BITMAP, _BITMAP), np.float32)
    left = (_BITMAP - width) // 2
    bitmap[:, left : left + width] = np.asarray(scaled) / float(cut.max())
    step = _BITMAP // HEIGHT
    counted = bitmap.reshape(HEIGHT, step, HEIGHT, step).mean((1, 3))
    return np.asarray(INK * counted, dtype=np.float32)
