"""How a digit is drawn, in words: the table behind the semantics `strokes` of `numbers`."""

from __future__ import annotations

from typing import Final

import numpy as np
from jaxtyping import Float

# One row a feature, one column a digit 0 to 9; 1 there, 0 not there, between: some write it so.
_TABLE: Final[dict[str, tuple[float, ...]]] = {
    # the seven segments of a display
    "segment_top": (1, 0, 1, 1, 0, 1, 1, 1, 1, 1),
    "segment_upper_right": (1, 1, 1, 1, 1, 0, 0, 1, 1, 1),
    "segment_lower_right": (1, 1, 0, 1, 1, 1, 1, 1, 1, 1),
    "segment_bottom": (1, 0, 1, 1, 0, 1, 1, 0, 1, 1),
    "segment_lower_left": (1, 0, 1, 0, 0, 0, 1, 0, 1, 0),
    "segment_upper_left": (1, 0, 0, 0, 1, 1, 1, 0, 1, 1),
    "segment_middle": (0, 0, 1, 1, 1, 1, 1, 0, 1, 1),
    # closed loops
    "loop_whole": (1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "loop_above": (0, 0, 0, 0, 0, 0, 0, 0, 1, 1),
    "loop_below": (0, 0, 0.2, 0, 0, 0, 1, 0, 1, 0),
    # straight strokes by direction and place
    "upright_left": (0, 0, 0, 0, 0.7, 0.6, 0.3, 0, 0, 0),
    "upright_middle": (0, 1, 0, 0, 0.5, 0, 0, 0.3, 0, 0),
    "upright_right": (0, 0, 0, 0, 0.6, 0, 0, 0, 0, 0.6),
    "level_top": (0, 0, 0, 0.3, 0, 1, 0, 1, 0, 0),
    "level_middle": (0, 0, 0, 0.2, 1, 0, 0, 0.6, 0, 0),
    "level_bottom": (0, 0.3, 1, 0, 0, 0, 0, 0, 0, 0),
    "rising_above": (0, 0.5, 0, 0, 0.6, 0, 0.5, 0.5, 0.4, 0),
    "rising_below": (0, 0, 0.8, 0, 0, 0, 0, 0.8, 0.3, 0.3),
    "falling": (0, 0, 0, 0, 0, 0, 0.2, 0, 0.6, 0),
    # curves by the side on which they open
    "opens_left_above": (0, 0, 1, 1, 0, 0, 0, 0.3, 0, 0),
    "opens_left_below": (0, 0, 0, 1, 0, 1, 0, 0, 0, 0.7),
    "opens_right_above": (0, 0, 0, 0, 0, 0.8, 0.8, 0, 0, 0),
    "opens_right_below": (0, 0, 0.6, 0, 0, 0, 0, 0, 0, 0),
    "opens_up": (0, 0, 0, 0, 0.9, 0, 0, 0, 0, 0),
    # ends, corners, meetings of strokes
    "end_upper_left": (0, 0.4, 0.8, 0.8, 0.6, 0, 0, 1, 0, 0),
    "end_upper_right": (0, 0.3, 0, 0, 0.5, 1, 0.6, 0, 0, 0),
    "end_lower_left": (0, 0, 0.3, 1, 0, 1, 0, 0.5, 0, 0.7),
    "end_lower_right": (0, 0, 1, 0, 0.4, 0, 0, 0, 0, 0.2),
    "end_bottom_middle": (0, 1, 0, 0, 0.7, 0, 0, 0.7, 0, 0.3),
    "corner_upper_right": (0, 0, 0, 0.2, 0, 0, 0, 1, 0, 0),
    "corner_upper_left": (0, 0, 0, 0, 0, 1, 0, 0, 0, 0),
    "meeting_left_middle": (0, 0, 0, 0, 0.3, 0, 0.8, 0, 0, 0),
    "meeting_right_middle": (0, 0, 0, 0.6, 0.6, 0, 0, 0, 0, 0.9),
    "crossing_middle": (0, 0, 0, 0, 0.6, 0, 0, 0.5, 1, 0),
    # the drawing as a whole
    "narrow": (0, 1, 0, 0, 0, 0, 0.2, 0, 0.3, 0),
    "hollow_middle": (1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "heavy_above": (0, 0, 0, 0, 0, 0.3, 0, 0.5, 0.2, 1),
    "heavy_below": (0, 0, 0.5, 0.2, 0, 0, 1, 0, 0.2, 0),
}

STROKES: Final[tuple[str, ...]] = tuple(_TABLE)
"""Names of the features."""


def stroke_table() -> Float[np.ndarray, "10 strokes"]:
    """The digits 0 to 9 described by their strokes, entries from 0 to 1, columns as `STROKES`."""
    return np.array(list(_TABLE.values()), dtype=np.float64).T.copy()
