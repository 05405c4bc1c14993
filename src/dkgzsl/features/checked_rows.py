"""Rows of a feature store, each compared with its checksum when it is first read."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float16, Integer

from dkgzsl.errors import DataError
from dkgzsl.features.arrays import StoredArray

_BLOCK_BYTES: Final = 64 * 2**20


class RowSums(NamedTuple):
    """CRC-32 (zlib's) of a row's bytes as they lie in the file.

    Attributes:
        first: of the global token.
        others: of the region tokens.
    """

    first: int
    others: int

    @classmethod
    def of(cls, row: Float16[np.ndarray, "tokens channels"]) -> RowSums:
        """The sums of a row."""
        there = np.ascontiguousarray(row)
        return cls(zlib.crc32(there[:1].data), zlib.crc32(there[1:].data) if len(there) > 1 else 0)


class CheckedRows(StoredArray):
    """The tokens of a feature store [N, 1 + R, C], a read-only memory map whose rows are checked as they are read.

    Each row is checked once in a process, before it is first handed out: the global token for itself, the region
    tokens when they are asked for. Whole numbers, slices, and arrays of positions or a mask take rows; a second
    index takes tokens. What is returned is an ordinary array.

    Args:
        path: the file `tokens.npy`.
        sums: of each row.
        names: of each row, for messages.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no array.
    """

    def __init__(self, path: Path, sums: Sequence[RowSums], names: Sequence[str]) -> None:
        self.path, self.key = path, path.name
        self._sums, self._names = tuple(sums), tuple(names)
        self._mapped: np.ndarray | None = None
        mapped = self.mapped
        self.shape: tuple[int, ...] = mapped.shape
        self.dtype: np.dtype[Any] = mapped.dtype
        self._checked = np.zeros((len(self._sums), 2), dtype=bool)

    @property
    def mapped(self) -> np.ndarray:
        """The map under the rows, which nothing checks."""
        if self._mapped is None:
            self._mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return self._mapped

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read entries, and check their rows.

        Raises:
            DataError: a row is damaged.
        """
        first, *others = index if isinstance(index, tuple) else (index,)
        if first is None or first is Ellipsis:
            first, only_first = slice(None), False
        else:
            only_first = bool(others) and isinstance(others[0], int | np.integer) and others[0] == 0
        self._check(np.atleast_1d(np.arange(len(self))[first]), only_first=only_first)
        found = np.asarray(self.mapped.view(np.ndarray)[index])
        if found.nbytes > _BLOCK_BYTES and not np.shares_memory(found, self.mapped):
            self._release()
        return found

    def _release(self) -> None:
        """Give the pages back that were read: whoever copied them has no use for them in memory twice."""
        mapped = getattr(self.mapped, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype, copy=copy)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}

    def __repr__(self) -> str:
        return f"CheckedRows({str(self.path)!r}, shape={self.shape}, dtype={self.dtype})"

    def damaged(self) -> Iterator[int]:
        """Rows that differ from their checksums, ascending; every row is read again."""
        row_bytes = 2 * int(np.prod(self.shape[1:]))
        step = max(1, _BLOCK_BYTES // max(1, row_bytes))
        for start in range(0, len(self), step):
            block = np.array(self.mapped[start : start + step])
            for row, tokens in enumerate(block, start=start):
                if RowSums.of(tokens) != self._sums[row]:
                    yield row

    def _check(self, rows: Integer[np.ndarray, " rows"], *, only_first: bool) -> None:
        for part in (0,) if only_first else (0, 1):
            for row in np.unique(rows[~self._checked[rows, part]]).tolist():
                self._check_part(row, part)

    def _check_part(self, row: int, part: int) -> None:
        tokens = self.mapped[row, :1] if part == 0 else self.mapped[row, 1:]
        found = zlib.crc32(tokens.data) if len(tokens) else 0
        if found != self._sums[row][part]:
            raise damaged_row(self.path.parent, row, self._names[row])
        self._checked[row, part] = True


def damaged_row(folder: Path, row: int, name: str) -> DataError:
    """The error for a row that differs from its checksum."""
    return DataError(
        f"the features of image {row} ({name}) are damaged: tokens.npy differs from its checksum there",
        where=str(folder),
        fix=f"extract again with --overwrite, or take the store from a backup; dkgzsl data check {folder} --deep "
        "names every damaged row",
    )
