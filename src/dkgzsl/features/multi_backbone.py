"""Features of several backbones for the same images, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dkgzsl.features.hdf5_array import StoredArray


class MultiBackboneFeatures:
    """The features of one backbone, and those of others for the same images.

    To whoever asks for shape or rows it is the first backbone's array; the others are asked for by name.

    Args:
        main: features of the first backbone [N, C] or [N, 1 + R, C].
        others: features of further backbones for the same N images, by name.
    """

    def __init__(self, main: Features, others: Mapping[str, Features]) -> None:
        self.main, self.others = main, dict(others)
        self.shape: tuple[int, ...] = tuple(main.shape)
        self.dtype: np.dtype[Any] = main.dtype

    @property
    def ndim(self) -> int:
        """Number of axes of the first backbone's features."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of the first backbone's entries."""
        return self.main.size

    @property
    def nbytes(self) -> int:
        """Bytes that the first backbone's features would take in memory."""
        return self.main.nbytes

    def __len__(self) -> int:
        return len(self.main)

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.asarray(self.main[key])


Features = np.ndarray | StoredArray | MultiBackboneFeatures
"""An array, a memory map, an array that stays in its file, or several of these for the same images."""
