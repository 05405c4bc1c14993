"""Region tokens streamed from a store that may be far larger than memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from dkgzsl.features.arrays import Features, MultiBackboneFeatures
from dkgzsl.features.checked_rows import CheckedRows

TokenArray = Features
"""[images, 1 + regions, channels], the global token first; an array or a memory map of any float type."""


def chunks(positions: Integer[np.ndarray, " images"], size: int) -> Iterator[Integer[np.ndarray, " chunk"]]:
    """The positions in their order, `size` at a time."""
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


def read_ahead(
    tokens: TokenArray, batches: Iterable[Integer[np.ndarray, " batch"]]
) -> Iterator[tuple[Integer[np.ndarray, " batch"], Tensor]]:
    """Each batch's positions and tokens (as stored), the next batch being read while this one is used."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as reader:
        pending = None
        for positions in batches:
            upcoming = (positions, reader.submit(read_tokens, tokens, positions))
            if pending is not None:
                yield pending[0], pending[1].result()
            pending = upcoming
        if pending is not None:
            yield pending[0], pending[1].result()


def read_tokens(tokens: TokenArray, positions: Integer[np.ndarray, " batch"]) -> Tensor:
    """Copy the tokens at `positions` [batch, 1 + R, C], leaving no page of a memory map resident.

    Pages that a process has touched through a map count as its memory until they are dropped; the system's
    page cache keeps them for the next pass where there is room.
    """
    batch = torch.from_numpy(np.ascontiguousarray(tokens[positions]))
    mapping = _mapping_of(tokens)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
    return batch


def _mapping_of(array: TokenArray) -> mmap.mmap | None:
    """The read-only file map under an array or a view of one; None where there is none.

    A writable map is left alone: pages not yet written would be dropped on a private one.
    """
    base: object = array.main if isinstance(array, MultiBackboneFeatures) else array
    base = base.mapped if isinstance(base, CheckedRows) else base
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and base.mode != "r":
            return None
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
