"""Chunks of a compressed HDF5 data set, unpacked by Python's zlib: never to more bytes than a chunk has.

HDF5's own filter unpacks a chunk to whatever size it claims, in this process. Here a chunk is read as it lies in
the file, and one that unpacks to another size is damaged.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

_GZIP: Final = 1
_SHUFFLE: Final = 2
_BLOCK: Final = 64 * 2**20


class Chunks:
    """Rows of a data set whose chunks are plain numbers, shuffled and packed by gzip, or neither.

    Args:
        dataset: of h5py.
    """

    def __init__(self, dataset: Any) -> None:
        made = dataset.id.get_create_plist()
        self._dataset = dataset
        self._filters = [made.get_filter(at)[0] for at in range(made.get_nfilters())]
        self._bytes = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize

    @staticmethod
    def serve(dataset: Any) -> bool:
        """Whether a data set is one that this class reads."""
        if not dataset.chunks or not dataset.shape or dataset.dtype.kind not in "fiu":
            return False
        made = dataset.id.get_create_plist()
        return all(made.get_filter(at)[0] in (_GZIP, _SHUFFLE) for at in range(made.get_nfilters()))

    def read(self, index: Any) -> np.ndarray:
        """Entries: an integer, a slice or `...` on the first axis, with whatever NumPy takes on the others.

        Rows are read in blocks, so that a part of each row takes no more memory than the part and a block.

        Raises:
            OSError: a chunk is damaged, or the file cannot be read.
        """
        first, *others = index if isinstance(index, tuple) else (index,)
        if first is Ellipsis:
            given = len(self._dataset.shape) - len(others)
            first, others = slice(None), [*[slice(None)] * (given - 1), *others]
        count = len(self._dataset)
        if not isinstance(first, slice):
            at = range(count)[first]
            row: np.ndarray = self._rows(at, at + 1)[0]
            return row[tuple(others)] if others else row
        wanted = range(count)[first]
        steps = wanted if wanted.step > 0 else wanted[::-1]
        parts = [block[(slice(None), *others)] for block in self._blocks(steps)]
        found = np.concatenate(parts) if parts else self._rows(0, 0)[(slice(None), *others)]
        found = found.astype(self._dataset.dtype, copy=False)  # NumPy joins in this machine's order of bytes
        return found if wanted.step > 0 else found[::-1]

    def _blocks(self, wanted: range) -> Iterator[np.ndarray]:
        """The wanted rows, in blocks that begin where chunks do."""
        row = max(1, self._dataset.nbytes // max(1, len(self._dataset)))
        height = self._dataset.chunks[0]
        step = max(1, _BLOCK // (row * height)) * height
        for start in range(wanted.start // step * step, wanted.stop, step) if len(wanted) else ():
            stop = min(start + step, wanted[-1] + 1)
            low = max(start, wanted.start)
            low += -(low - wanted.start) % wanted.step
            if low < stop:
                yield self._rows(low, stop)[:: wanted.step]

    def _rows(self, start: int, stop: int) -> np.ndarray:
        shape, chunk = self._dataset.shape, self._dataset.chunks
        out = np.empty((stop - start, *shape[1:]), self._dataset.dtype)
        first = range(start // chunk[0] * chunk[0], stop, chunk[0])
        rest = [range(0, size, side) for size, side in zip(shape[1:], chunk[1:], strict=True)]
        for origin in itertools.product(first, *rest):
            content = self._chunk(origin)
            low, high = max(origin[0], start), min(origin[0] + chunk[0], stop)
            to = [slice(low - start, high - start)]
            part = [slice(low - origin[0], high - origin[0])]
            for at, size, side in zip(origin[1:], shape[1:], chunk[1:], strict=True):
                to.append(slice(at, min(at + side, size)))
                part.append(slice(0, min(side, size - at)))
            out[tuple(to)] = content[tuple(part)]
        return out

    def _chunk(self, origin: tuple[int, ...]) -> np.ndarray:
        dataset = self._dataset
        if dataset.id.get_chunk_info_by_coord(origin).byte_offset is None:  # never written
            return np.full(dataset.chunks, dataset.fillvalue, dataset.dtype)
        skipped, content = dataset.id.read_direct_chunk(origin)
        for at, one in reversed(list(enumerate(self._filters))):
            if skipped >> at & 1:
                continue
            if one == _GZIP:
                content = self._unpacked(content)
            elif len(content) == self._bytes:
                columns = np.frombuffer(content, np.uint8).reshape(dataset.dtype.itemsize, -1)
                content = columns.T.tobytes()
        if len(content) != self._bytes:
            raise OSError(f"the chunk at {list(origin)} has {len(content):,} bytes, not {self._bytes:,}")
        return np.frombuffer(content, dataset.dtype).reshape(dataset.chunks)

    def _unpacked(self, content: bytes) -> bytes:
        unpacker = zlib.decompressobj()
        try:
            found = unpacker.decompress(content, self._bytes + 1)
        except zlib.error as error:
            raise OSError(f"a chunk is damaged: {error}") from error
        if len(found) > self._bytes or not unpacker.eof:
            raise OSError(f"a chunk unpacks to another size than its {self._bytes:,} bytes")
        return found
