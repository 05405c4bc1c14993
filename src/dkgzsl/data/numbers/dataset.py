"""The embedded data set `numbers`: two real handwritten digits next to each other, 00 to 99, no download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from dkgzsl.data.assemble import problem_of
from dkgzsl.data.formats.reader import Wanted
from dkgzsl.data.numbers.features import (
    CHANNELS,
    GRID,
    NAME,
    feature_record,
    image_features,
    region_masks,
)
from dkgzsl.data.numbers.pictures import gray_levels
from dkgzsl.data.problem import Problem
from dkgzsl.data.raw import RawData
from dkgzsl.errors import DataError, nearest

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


CLASS_NAMES: Final[tuple[str, ...]] = tuple(f"{number:02d}" for number in range(100))
TRAINING_IMAGES: Final = 60
TEST_SEEN_IMAGES: Final = 25
TEST_UNSEEN_IMAGES: Final = 40
_TRAINING_DIGITS: Final = 0.6
_SEED: Final = 20250
_MODULUS: Final = 5
_VALIDATION_REMAINDER: Final = 2


class NumbersReader:
    """The reader of `numbers`: it comes with the package, and no file is read."""

    datasets: Mapping[str, Mapping[str, Any]] = MappingProxyType(
        {
            "numbers": {
                "title": "Two-digit handwritten numbers",
                "images": 7600,
                "seen_classes": 80,
                "unseen_classes": 20,
                "semantics": {"strokes": 76, "names": 20},
                "features": ["pooled", "regions"],
                "here": "embedded",
                "licence": "CC BY 4.0 (digits of the UCI repository)",
            }
        }
    )

    def recognises(self, path: Path) -> bool:
        """No file or folder is."""
        del path
        return False

    def read(self, path: Path, wanted: Wanted) -> tuple[RawData, dict[str, Any]]:
        """Draw the images and compute their features.

        Raises:
            DataError: the features are neither `pooled` nor `regions`, or of another backbone; or see `numbers`.
        """
        del path
        if wanted.backbone not in (None, NAME):
            raise DataError(
                f"numbers has no features of the backbone {wanted.backbone!r}", fix="leave --backbone out"
            )
        if wanted.features not in (None, "pooled", "regions"):
            raise DataError(
                f"numbers has no features {str(wanted.features)!r}", fix="its features: pooled, regions"
            )
        return _read(wanted.unseen, regions=wanted.features == "regions")


def numbers(*, unseen: Sequence[int | str] | None = None, regions: bool = False) -> Problem:
    """Two-digit numbers from the digits of scikit-learn's `load_digits` (8 x 16 pixels, values 0 to 16).

    The 1,797 digits are first divided into training and test digits, so that no handwriting is in both. A seen
    number has 60 training and 25 test images, an unseen one 40 test images. By default the 20 numbers whose digit
    sum is a multiple of 5 are unseen: each digit is then missing twice in each place. Validation treats the 20
    numbers whose digit sum leaves remainder 2 as unseen, for the same reason. Its held-out images share digits
    with the images trained on; test images share none.

    Semantics: `strokes`, how the digit in each place is drawn (see `stroke_table`), and `names`, which
    digit stands in each place (one of ten).

    Args:
        unseen: the unseen numbers, as 7 or "07".
        regions: tokens [N, 26, C] instead of pooled features [N, C]; see `numbers_regions`.

    Raises:
        DataError: an unseen number is none of 00 to 99, or fewer than two numbers would be left to train on.
    """
    raw, provenance = _read(unseen, regions=regions)
    return problem_of(raw, semantics=provenance["default_semantics"], provenance=provenance)


def _read(unseen: Sequence[int | str] | None, *, regions: bool) -> tuple[RawData, dict[str, Any]]:
    hidden = default_unseen() if unseen is None else _numbers_of(unseen)
    images, labels, parts = _draw(tuple(hidden.tolist()))
    seen = np.setdiff1d(np.arange(100), hidden)
    validation = seen[_digit_sums()[seen] % _MODULUS == _VALIDATION_REMAINDER]
    is_val = np.isin(labels[parts["trainval"]], validation)
    if 0 < len(validation) < len(seen):
        parts = {**parts, "train": parts["trainval"][~is_val], "val": parts["trainval"][is_val]}
    pooled = image_features(images)
    raw = RawData(
        name="numbers",
        where="numbers",
        parts=parts,
        tables={"strokes": _by_place(stroke_table()), "names": _by_place(np.eye(10))},
        class_names=CLASS_NAMES,
        labels=labels,
        features=_with_regions(pooled) if regions else pooled,
        pictures=np.broadcast_to(gray_levels(images)[..., None], (*images.shape, 3)),
        attribute_names={
            "strokes": tuple(f"{place}_{stroke}" for place in ("left", "right") for stroke in STROKES),
            "names": tuple(f"{place}_is_{digit}" for place in ("left", "right") for digit in range(10)),
        },
    )
    return raw, {
        "format": "embedded",
        "features": "oriented gradients",
        "backbone": NAME,
        "store": feature_record(),
        "grid": list(GRID),
        "unseen": [CLASS_NAMES[k] for k in hidden],
        "default_semantics": "strokes",
    }


def numbers_regions(problem: Problem) -> Problem:
    """The same numbers with region tokens [N, 1 + 25, C] in place of pooled features [N, C].

    The global token is the pooled feature. Each region is a patch of 4 x 4 pixels, on a grid of 5 x 5 overlapping
    ones: the pooled feature with every channel outside the patch set to zero, so that the mean over the regions is
    the pooled feature weighted by how many patches see each channel.

    Raises:
        DataError: the problem's features are not those of `numbers`.
    """
    pooled = np.asarray(problem.features)
    if problem.name != "numbers" or pooled.ndim != 2 or pooled.shape[1] != CHANNELS:
        raise DataError(
            f"{problem.name} has no patches to be made into regions", fix="take the features of numbers"
        )
    return replace(problem, features=_with_regions(pooled))


def _with_regions(
    pooled: Float[np.ndarray, "images channels"],
) -> Float[np.ndarray, "images tokens channels"]:
    tokens = np.empty((len(pooled), 1 + len(region_masks()), CHANNELS), np.float32)
    tokens[:, 0] = pooled
    np.multiply(pooled[:, None], region_masks()[None], out=tokens[:, 1:])
    return tokens


def number_images(*, unseen: Sequence[int | str] | None = None) -> Float[np.ndarray, "images 8 16"]:
    """The pictures behind `numbers`, in the order of its images, values 0 (paper) to 16 (ink)."""
    hidden = default_unseen() if unseen is None else _numbers_of(unseen)
    return _draw(tuple(hidden.tolist()))[0]


def default_unseen() -> Int[np.ndarray, " unseen"]:
    """The 20 numbers whose digit sum is a multiple of 5."""
    return np.flatnonzero(_digit_sums() % _MODULUS == 0)


def _digit_sums() -> Int[np.ndarray, " numbers"]:
    return np.arange(100) // 10 + np.arange(100) % 10


def _by_place(table: Float[np.ndarray, "10 width"]) -> Float[np.ndarray, "100 twice_width"]:
    left, right = np.divmod(np.arange(100), 10)
    return np.concatenate([table[left], table[right]], 1)


def _numbers_of(unseen: Sequence[int | str]) -> Int[np.ndarray, " _"]:
    chosen = []
    for given in unseen:
        name = f"{given:02d}" if isinstance(given, int | np.integer) else str(given).zfill(2)
        if name not in CLASS_NAMES:
            raise DataError(f"{given!r} is no number from 00 to 99", fix=nearest(name, CLASS_NAMES, of="numbers"))
        chosen.append(int(name))
    hidden = np.unique(np.array(chosen, dtype=np.int64))
    if len(hidden) > 98:
        raise DataError("fewer than two numbers are left to train on", fix="make fewer numbers unseen")
    return hidden


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return digits.images.astype(np.float32), digits.target.astype(np.int64)


@cache
def _draw(hidden: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    # Each number's images are drawn by its own seed: they do not depend on which other numbers are unseen.
    pictures, digits = _digits()
    rng = np.random.default_rng(_SEED)
    training, test = {}, {}
    for digit in range(10):
        shuffled = rng.permutation(np.flatnonzero(digits == digit))
        cut = round(_TRAINING_DIGITS * len(shuffled))
        training[digit], test[digit] = shuffled[:cut], shuffled[cut:]
    pairs, labels, roles = [], [], []
    for number in range(100):
        plan = (
            [("test_unseen", test, TEST_UNSEEN_IMAGES)]
            if number in hidden
            else [("trainval", training, TRAINING_IMAGES), ("test_seen", test, TEST_SEEN_IMAGES)]
        )
        for role, pool, size in plan:
            place = np.random.default_rng([_SEED, number, len(role)])
            left = place.choice(pool[number // 10], size, replace=False)
            right = place.choice(pool[number % 10], size, replace=False)
            pairs.append(np.stack([left, right], 1))
            labels.append(np.full(size, number))
            roles.append(np.full(size, role))
    both, role_of = np.concatenate(pairs), np.concatenate(roles)
    images = np.concatenate([pictures[both[:, 0]], pictures[both[:, 1]]], 2)
    parts = {role: np.flatnonzero(role_of == role) for role in ("trainval", "test_seen", "test_unseen")}
    return images, np.concatenate(labels).astype(np.int64), parts
