"""Bounded memory: rows are computed with in blocks, one ahead, and what was freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

In = TypeVar("In")
Out = TypeVar("Out")

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


def used_behind(function: Callable[[In], Out], blocks: Iterator[In]) -> Iterator[Out]:
    """`function` of each block, in order, in a thread that works while the next block is computed.

    Where torch computes with one thread, everything happens in this one.

    Args:
        function: of one block; it must not touch what computes the blocks.
        blocks: computed as they are asked for.
    """
    if torch.get_num_threads() == 1:
        yield from map(function, blocks)
        return
    with ThreadPoolExecutor(max_workers=1) as worker:
        before: Future[Out] | None = None
        for block in blocks:
            if before is not None:
                yield before.result()
            before = worker.submit(function, block)
        if before is not None:
            yield before.result()


def give_memory_back() -> None:
    """Give freed memory back to the system, where the C library keeps it (glibc)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
