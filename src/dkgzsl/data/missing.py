"""Values of class descriptions that are marked as not known: -1 among ratings from 0 upwards, as AwA has them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

UNKNOWN = -1.0
"""Lampert et al. (2014) write it where nobody rated the attribute of an animal."""
_MOST = 0.05


def unknown_entries(table: Float[np.ndarray, "classes semantic"]) -> Bool[np.ndarray, "classes semantic"]:
    """Entries that stand for "not known".

    They are the entries of -1 in a table whose other entries are ratings, from 0 to beyond 1, where at most 5 % of
    all are -1. In a table of -1 and 1 they are values like others.
    """
    unknown = np.asarray(table == UNKNOWN)
    is_rated = bool(((table >= 0) | unknown).all()) and bool((table > 1).any())
    return unknown if is_rated and unknown.mean() <= _MOST else np.zeros(table.shape, bool)


def with_known_means(
    table: Float[np.ndarray, "classes semantic"], unknown: Bool[np.ndarray, "classes semantic"]
) -> Float[np.ndarray, "classes semantic"]:
    """The table with each unknown entry replaced by the mean of the column's known ones, which says nothing."""
    if not unknown.any():
        return table
    known = np.where(unknown, 0, table).sum(0) / np.maximum(1, (~unknown).sum(0))
    return np.where(unknown, known, table)


def note_of(source: str, unknown: Bool[np.ndarray, "classes semantic"], names: tuple[str, ...] | None) -> str:
    """What is said of them, once."""
    rows = np.flatnonzero(unknown.any(1))
    of = (
        ""
        if names is None
        else f" (of {', '.join(names[int(k)] for k in rows[:3])}{', ...' if len(rows) > 3 else ''})"
    )
    return (
        f"{int(unknown.sum())} entries of {source!r} are -1, which means not known{of}: each takes "
        "the mean of the other classes"
    )
