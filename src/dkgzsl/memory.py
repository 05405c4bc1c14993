"""Bounded memory: rows are computed with in blocks, and what was freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from jaxtyping import Float
from torch import Tensor

BLOCK: Final = 8192
"""Rows that are read and computed with at once."""


def blocks_of(
    features: Float[Tensor, "images visual"], size: int = BLOCK
) -> Iterator[tuple[slice, Float[Tensor, "block visual"]]]:
    """Rows in blocks, each with its place; where one holds all, it is the tensor itself, which caches know."""
    if len(features) <= size:
        yield slice(0, len(features)), features
        return
    for first in range(0, len(features), size):
        rows = slice(first, first + size)
        yield rows, features[rows]


def give_memory_back() -> None:
    """Give freed memory back to the system, where the C library keeps it (glibc)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
