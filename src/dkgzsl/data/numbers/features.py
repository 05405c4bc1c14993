"""Features of the embedded numbers: how much ink edge runs in which direction, each channel at its place.

`dkgzsl.data.numbers.backbone` is the same as a backbone, for pictures that are no part of the data set.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float

NAME: Final = "oriented-gradients"
"""Name of the backbone."""
HEIGHT, WIDTH = 8, 16
DIRECTIONS: Final = 8
CELL: Final = 2
PATCH: Final = 4
GRID: Final = (5, 5)
_STEPS: Final = (1, 3)  # down and across between patches: 5 x 5 of them cover the 8 x 16 pixels
_DOWN, _ACROSS = HEIGHT // CELL, WIDTH // CELL
CHANNELS: Final = DIRECTIONS * _DOWN * _ACROSS


def backbone_record() -> dict[str, Any]:
    """What is recorded of the backbone; JSON values."""
    return {
        "backbone": {
            "name": NAME,
            "parameters": 0,
            "note": f"gradients in {DIRECTIONS} directions and {_DOWN} x {_ACROSS} cells; nothing is learned",
        },
        "weights": {},
        "preprocessing": {
            "image_size": [HEIGHT, WIDTH],
            "crop_mode": "digits",  # of a larger picture: see `dkgzsl.data.numbers.pictures.number_picture`
            "crop_share": 1.0,
            "interpolation": "box",
            "levels": "255 paper, 15 less for each unit of ink",
            "region_size": [PATCH, PATCH],
        },
        "grid": list(GRID),
        "global_token": "all channels",
        "token_order": "global token, then regions row by row from the top left",
    }


def feature_record() -> dict[str, Any]:
    """What is recorded of the features of `numbers`, as that of a feature store; they were never in one."""
    return {**backbone_record(), "stored_as": "float32"}


def image_features(images: Float[np.ndarray, "images 8 16"]) -> Float[np.ndarray, "images channels"]:
    """256 channels, all non-negative and unscaled: gradient energy in 8 directions and 4 x 8 cells.

    Gradients are central differences of the picture on blank paper. Each pixel's gradient length is shared
    between the two nearest of eight directions, smoothed by a 3 x 3 binomial mask and summed over cells of 2 x 2
    pixels (after Dalal & Triggs, 2005, without their block normalisation). Validation classes preferred these
    channels to the pixels, and to both together.
    """
    paper = np.pad(images.astype(np.float32), ((0, 0), (1, 1), (1, 1)))
    across = (paper[:, 1:-1, 2:] - paper[:, 1:-1, :-2]) / 2
    down = (paper[:, 2:, 1:-1] - paper[:, :-2, 1:-1]) / 2
    length = np.hypot(across, down)
    turn = np.arctan2(down, across) / (2 * np.pi) * DIRECTIONS % DIRECTIONS
    maps = np.stack([length * _share(turn, direction) for direction in range(DIRECTIONS)], 1)
    cells = _smooth(maps).reshape(len(images), DIRECTIONS, _DOWN, CELL, _ACROSS, CELL).sum((3, 5))
    return np.asarray(cells.reshape(len(images), CHANNELS), dtype=np.float32)


@cache
def region_masks() -> Bool[np.ndarray, "25 channels"]:
    """Which channels each patch sees, patches row by row: those whose centre lies in it."""
    cell_y, cell_x = np.divmod(np.arange(CHANNELS) % (_DOWN * _ACROSS), _ACROSS)
    middle = (CELL - 1) / 2
    y, x = CELL * cell_y + middle, CELL * cell_x + middle
    top = _STEPS[0] * np.repeat(np.arange(GRID[0]), GRID[1])[:, None]
    left = _STEPS[1] * np.tile(np.arange(GRID[1]), GRID[0])[:, None]
    return np.asarray((y >= top) & (y < top + PATCH) & (x >= left) & (x < left + PATCH))


def _share(turn: np.ndarray, direction: int) -> np.ndarray:
    away = np.abs(turn - direction)
    return np.asarray(np.maximum(0, 1 - np.minimum(away, DIRECTIONS - away)))


def _smooth(maps: np.ndarray) -> np.ndarray:
    wide = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    tall = (wide[..., :-2, :] + 2 * wide[..., 1:-1, :] + wide[..., 2:, :]) / 4
    return np.asarray((tall[..., :-2] + 2 * tall[..., 1:-1] + tall[..., 2:]) / 4)
