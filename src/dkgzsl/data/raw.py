"""What files hold, before it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float, Int, UInt8

from dkgzsl.errors import DataError
from dkgzsl.features.arrays import Features

LARGEST: Final = 100_000_000
"""No data set has as many images or classes; above it, a number is no label and no position."""
MOST_CLASSES: Final = 1_000_000
"""Classes without names are named by their numbers, up to so many."""


@dataclass(frozen=True)
class RawData:
    """The content of a data set's files: readers fill it, checks examine it, `assemble` makes a problem of it.

    Attributes:
        name: the data set's name, for people.
        where: file or folder it was read from, for messages.
        parts: positions from 0 by part: `trainval`, `test_seen`, `test_unseen` and, where there, `train`, `val`.
        tables: class descriptions by source, each [K, S].
        class_names: K names, where the files have them.
        labels: class of each image from 0, where the files have them.
        features: [N, C] or [N, 1 + R, C], where the files have them.
        image_files: N paths, where the files have them.
        pictures: the images [N, height, width, 3] from 0 to 255, where they are small and lie in no files.
        counts_from: number of the first image and class in the file itself: 1 in MATLAB, 0 in HDF5 and Python.
        described_only: classes without any image are meant to be there.
        attribute_names: names of a table's columns, by source.
        attribute_vectors: word vectors of the attributes [M, 300].
        unreadable: why an image cannot be read, by its position; it is in no part.
        notes: what was decided while reading, for people.
    """

    name: str
    where: str
    parts: Mapping[str, Int[np.ndarray, " _"]]
    tables: Mapping[str, Float[np.ndarray, "_ _"]]
    class_names: tuple[str, ...] | None = None
    labels: Int[np.ndarray, " _"] | None = None
    features: Features | None = None
    image_files: tuple[str, ...] | None = None
    pictures: UInt8[np.ndarray, "_ _ _ 3"] | None = None
    counts_from: int = 0
    described_only: bool = False
    attribute_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attribute_vectors: Float[np.ndarray, "_ _"] | None = None
    unreadable: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def number_of_classes(self) -> int:
        """K, by the names where there are any, or else by the first table's rows."""
        if self.class_names is not None:
            return len(self.class_names)
        return max((len(table) for table in self.tables.values()), default=0)

    @property
    def number_of_images(self) -> int | None:
        """N, by the labels, or else by the features; None where the files have neither."""
        if self.labels is not None:
            return len(self.labels)
        return None if self.features is None else len(self.features)

    def named(self, label: int) -> str:
        """The class's name, for messages."""
        if self.class_names is not None and 0 <= label < len(self.class_names):
            return self.class_names[label]
        return f"class {label + self.counts_from}"


def validation_classes(raw: RawData) -> Int[np.ndarray, " _"] | None:
    """Classes of the training images that `val` lists; None where the files name none that can be used.

    Only images that are also in `trainval` count: `train` and `val` of the official files contain every seen test
    image (PROTOCOL: trap 1). Classes that `train` lists as well cannot be treated as unseen.
    """
    if raw.labels is None or "val" not in raw.parts:
        return None
    trainval = raw.parts["trainval"]
    val = np.unique(raw.labels[np.intersect1d(raw.parts["val"], trainval)])
    train = np.unique(raw.labels[np.intersect1d(raw.parts.get("train", trainval), trainval)])
    if not len(val) or np.isin(val, train).any() or not len(np.setdiff1d(raw.labels[trainval], val)):
        return None
    return val


def whole_numbers(values: np.ndarray, *, what: str, where: str | Path, first: int) -> Int[np.ndarray, " _"]:
    """Labels or positions as integers from 0.

    Args:
        values: numbers of any type and shape.
        what: their name in the file, for messages.
        where: the file, for messages.
        first: the number that the file starts to count from.

    Raises:
        DataError: they are no whole numbers.
    """
    flat = np.ravel(values)
    if flat.dtype.kind not in "iufb" or not np.isfinite(flat).all() or (flat != np.round(flat)).any():
        raise DataError(f"{what} holds values that are not whole numbers", where=str(where))
    if len(flat) and not -LARGEST <= float(flat.min()) <= float(flat.max()) <= LARGEST:
        raise DataError(
            f"{what} holds numbers above {LARGEST:,}", where=str(where), fix="check that they are counts"
        )
    return flat.astype(np.int64) - first


def count_classes(labels: Int[np.ndarray, " _"], table: tuple[int, ...]) -> int:
    """How many classes there are, where no names say it: the side of the table that is nearest to the labels.

    Labels that do not fit it exactly are then found out of range, which is the likelier mistake.
    """
    named = int(labels.max(initial=-1)) + 1
    return min(table, key=lambda side: abs(side - named), default=named)


def orient(
    table: np.ndarray, *, count: int, axis: int, what: str, of: str, where: str | Path, ties: bool = False
) -> np.ndarray:
    """Turn a matrix so that its first axis is the one with `count` entries; returns a view.

    Args:
        table: a matrix.
        count: how many rows it must have when turned: images or classes.
        axis: the axis that has them by the format's rule.
        what: the matrix's name in the file, for messages.
        of: what is counted, for messages.
        where: the file, for messages.
        ties: whether a square matrix is taken by the format's rule rather than refused.

    Raises:
        DataError: neither axis fits, or both do.
    """
    if table.ndim != 2:
        raise DataError(f"{what} must be a matrix, not of shape {table.shape}", where=str(where))
    rows, columns = table.shape
    if count not in (rows, columns):
        raise DataError(
            f"{what} of shape {rows} x {columns} fits no orientation: neither side is the number of {of}, {count}",
            where=str(where),
            fix=f"check that {what} and the {of} come from the same release",
        )
    if rows == columns and not ties:
        raise DataError(
            f"{what} is square ({rows} x {columns}): which side are the {of} is not known",
            where=str(where),
            fix="give the arrays in Python instead: dkgzsl.data.arrays.problem_from_arrays",
        )
    along = axis if rows == columns else (0 if rows == count else 1)
    return table if along == 0 else table.T
