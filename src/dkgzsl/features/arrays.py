"""Features as arrays: in memory, mapped, staying in an HDF5 file, or of several backbones for the same images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from dkgzsl.errors import DataError
from dkgzsl.features.hdf5_chunks import Chunks

_CHUNK_BYTES: Final = 64 * 2**20


@runtime_checkable
class Rows(Protocol):
    """What has rows of numbers: shape, type and length of an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""
        ...

    def __len__(self) -> int: ...


class StoredArray:
    """A read-only view of one HDF5 data set, like an array: region maps do not fit in memory.

    What is sliced is read and returned as an ordinary array. Rows are taken in any order and repeatedly, which
    h5py alone refuses. The file is opened at the first access of each process, so that the array can be handed to
    the workers of a data loader.

    Args:
        path: the HDF5 file.
        key: name of the data set in it.

    Raises:
        DataError: the file cannot be read; reading entries raises it, too.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self._process: int | None = None
        self._dataset: Any = None
        self._chunks: Chunks | None = None
        dataset = self._open()
        self.shape: tuple[int, ...] = tuple(dataset.shape)
        self.dtype: np.dtype[Any] = dataset.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes that the whole array would take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read entries: integers, slices, or an array of positions (or a mask) on the first axis."""
        first, *others = index if isinstance(index, tuple) else (index,)
        if isinstance(first, np.ndarray | list):
            rows = np.asarray(first)
            if rows.dtype == bool:
                rows = np.flatnonzero(rows)
            rows = np.where(rows < 0, rows + len(self), rows).astype(np.int64)
            if not len(rows):
                return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *others)]
            unique, inverse = np.unique(rows, return_inverse=True)
            return np.asarray(self._read_rows(unique)[inverse][(slice(None), *others)])
        return np.asarray(self._read(index))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array that stays in its file can only be read as a copy")
        return np.asarray(self._read(...), dtype=dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None, "_dataset": None, "_chunks": None}

    def __repr__(self) -> str:
        return f"StoredArray({str(self.path)!r}, {self.key!r}, shape={self.shape}, dtype={self.dtype})"

    def _read_rows(self, rows: np.ndarray) -> np.ndarray:
        # h5py's own row lists are slow for long lists: read the spans between them, block by block, and pick.
        block = max(1, _CHUNK_BYTES // max(1, self.nbytes // len(self)))
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        done = 0
        while done < len(rows):
            start = int(rows[done])
            stop = int(np.searchsorted(rows, start + block))
            span = self._read(slice(start, int(rows[stop - 1]) + 1))
            out[done:stop] = span[rows[done:stop] - start]
            done = stop
        return out

    def _read(self, index: Any) -> Any:
        dataset = self._open()
        try:
            return self._chunks.read(index) if self._chunks is not None else dataset[index]
        except (OSError, RuntimeError) as error:  # a chunk is damaged, or the file has gone
            raise self._unreadable(error) from error

    def _open(self) -> Any:
        if self._process != os.getpid():
            import h5py

            try:
                dataset = h5py.File(self.path, "r")[self.key]
            except (OSError, KeyError, RuntimeError) as error:
                raise self._unreadable(error) from error
            self._dataset, self._process = dataset, os.getpid()
            self._chunks = Chunks(dataset) if Chunks.serve(dataset) else None
        return self._dataset

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(
            f"{self.key} of {self.path.name} cannot be read: {error}",
            where=str(self.path),
            fix="make the file again; it may have been cut off",
        )


class MultiBackboneFeatures:
    """The features of one backbone, and those of others for the same images.

    Shape and rows are those of the first backbone's array; the others are reached by name.

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


def rows_of(features: Rows, *, block_bytes: int = _CHUNK_BYTES) -> list[slice]:
    """Slices over the first axis, each of at most `block_bytes` as float64 (at least one row)."""
    row = 8 * int(np.prod(features.shape[1:]))
    step = max(1, block_bytes // max(1, row))
    return [slice(start, min(start + step, len(features))) for start in range(0, len(features), step)]
