"""Compressed HDF5 data sets by Python's zlib: what h5py reads, and never more bytes than a chunk has."""

import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

from dkgzsl.errors import DataError
from dkgzsl.features import hdf5_chunks
from dkgzsl.features.arrays import StoredArray
from dkgzsl.features.hdf5_chunks import Chunks

SHAPE = (23, 5, 6)
LAYOUTS = {
    "gzip": {"compression": "gzip", "chunks": (4, 5, 6)},
    "shuffled": {"compression": "gzip", "shuffle": True, "chunks": (3, 2, 4)},
    "plain chunks": {"chunks": (5, 5, 6)},
    "one row a chunk": {"compression": "gzip", "shuffle": True, "chunks": (1, 5, 6)},
}
INDEXES = (
    0, -1, 22, slice(None), slice(3, 17), slice(20, None), slice(None, None, -1), slice(1, 20, 7),
    slice(18, 2, -3), slice(5, 5), (slice(None), 0), (slice(2, 9), slice(1, 3)), (4, 2),
    (slice(None), slice(None), 3), ..., (..., 2), (slice(1, 20, 4), 2, slice(1, 5)),
)  # fmt: skip


def made(path, kind="f4", **layout):
    values = np.random.default_rng(0).normal(size=SHAPE).astype(kind)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, **layout)
    return values


@pytest.mark.parametrize("kind", ["<f4", ">f8", "<i2", "u1"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("block", [1, 700, 2**26])
def test_any_entries_are_those_that_h5py_reads(tmp_path, monkeypatch, layout, kind, block) -> None:
    monkeypatch.setattr(hdf5_chunks, "_BLOCK", block)
    values = made(tmp_path / "a.h5", kind, **LAYOUTS[layout])
    with h5py.File(tmp_path / "a.h5") as file:
        assert Chunks.serve(file["x"])
        chunks = Chunks(file["x"])
        for index in INDEXES:
            found = chunks.read(index)
            assert np.array_equal(found, values[index]), index
            assert found.dtype == file["x"].dtype


def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        one = file.create_dataset("x", (9, 4), "f4", chunks=(2, 4), compression="gzip", fillvalue=7)
        one[4:5] = 1
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(Chunks(file["x"]).read(...), file["x"][...])


@pytest.mark.parametrize("layout", [{"compression": "lzf"}, {"fletcher32": True}, {}])
def test_other_filters_are_not_served(tmp_path, layout) -> None:
    made(tmp_path / "a.h5", **layout, **({"chunks": (4, 5, 6)} if layout else {}))
    with h5py.File(tmp_path / "a.h5") as file:
        assert not Chunks.serve(file["x"])


def with_chunk(path, content) -> StoredArray:
    """A file whose first chunk has this content as it lies there."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", SHAPE, "f4", chunks=(4, 5, 6), compression="gzip")
        dataset.id.write_direct_chunk((0, 0, 0), content)
    return StoredArray(path, "x")


def test_a_chunk_that_unpacks_to_a_gigabyte_takes_none(tmp_path) -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(1024)) + packer.flush()
    stored = with_chunk(tmp_path / "a.h5", bomb)
    tracemalloc.start()
    with pytest.raises(DataError, match="another size"):
        stored[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20


@pytest.mark.parametrize("content", [b"x", b"x" * 50, zlib.compress(bytes(480))[:-3], zlib.compress(bytes(479))])
def test_a_damaged_chunk_is_our_error(tmp_path, content) -> None:
    with pytest.raises(DataError, match=r"x of a\.h5 cannot be read"):
        with_chunk(tmp_path / "a.h5", content)[0]


def test_a_flipped_bit_in_a_chunk_is_noticed(tmp_path) -> None:
    whole = bytearray(zlib.compress(np.arange(120, dtype="f4").tobytes()))
    assert np.array_equal(with_chunk(tmp_path / "whole.h5", bytes(whole))[0].ravel(), np.arange(30))
    whole[len(whole) // 2] ^= 1
    with pytest.raises(DataError):
        with_chunk(tmp_path / "a.h5", bytes(whole))[0]
