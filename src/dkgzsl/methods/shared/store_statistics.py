"""Statistics of classes over the global tokens of a feature store, in one pass, by one process or a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.cluster.shares import map_shares
from dkgzsl.errors import DataError
from dkgzsl.features.store import FeatureStore
from dkgzsl.memory import BLOCK
from dkgzsl.methods.shared.class_statistics import ClassStatistics

_SHARE_BLOCKS = 8
"""Blocks of a share: its sums are as large as the covariance, so that it should have many rows."""


@dataclass(frozen=True)
class _Pass:
    store: FeatureStore
    origin: Float[Tensor, " visual"]
    block: int


def statistics_of_store(
    store: FeatureStore, rows: Int[np.ndarray, " rows"] | None = None, *, on: str | None = None, block: int = BLOCK
) -> ClassStatistics:
    """Counts, sums and second moments of the global tokens; memory does not depend on the number of images.

    Shares are whole blocks and are merged in their order, so that a cluster gives what one process gives (with the
    same number of threads to the last bit).

    Args:
        store: an opened store; on a cluster, each machine has it under the same path.
        rows: those that count, such as training images, ascending (default: all that could be read).
        on: where to compute (see `dkgzsl.cluster.shares`).
        block: rows that are read at once.

    Returns:
        Statistics of the classes of the store; the origin is the mean of the first block.

    Raises:
        ConfigError: the place or the cluster cannot be used.
        DataError: there is no row, or one is damaged.
        RunError: a share of the cluster was lost each time.
    """
    chosen = np.flatnonzero(store.readable) if rows is None else rows
    if not len(chosen):
        raise DataError("the store has no image to compute with", where=str(store.folder))
    common = _Pass(store, _tokens(store, chosen[:block]).mean(0), block)
    size = block * _SHARE_BLOCKS
    shares = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    return reduce(
        ClassStatistics.merge, (found for _, found in map_shares(statistics_of_share, common, shares, on=on))
    )


def statistics_of_share(common: _Pass, rows: Int[np.ndarray, " rows"]) -> ClassStatistics:
    """Statistics of some rows."""
    found = ClassStatistics.empty(len(common.store.class_names), common.origin)
    for start in range(0, len(rows), common.block):
        part = rows[start : start + common.block]
        found.add(_tokens(common.store, part), torch.from_numpy(common.store.labels[part]))
    return found


def _tokens(store: FeatureStore, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, "rows visual"]:
    return torch.from_numpy(np.asarray(store.tokens[rows, 0], np.float32))
