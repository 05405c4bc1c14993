"""The method's HDF5 format, and arrays that stay in their file."""

import pickle

import h5py
import numpy as np
import pytest

from dkgzsl.data.load import load_dataset
from dkgzsl.data.splits import validation_cut
from dkgzsl.errors import DataError
from dkgzsl.features.arrays import StoredArray, rows_of
from formats.files import write_feature_map, write_xlsa17
from formats.toy import ATTRIBUTES, toy


@pytest.mark.parametrize(("chunked", "kind"), [(False, np.memmap), (True, StoredArray)])
@pytest.mark.parametrize("transposed", [(), ("att", "original_att")])
def test_reads_what_was_written_and_leaves_the_map_in_its_file(tmp_path, chunked, kind, transposed):
    data, vectors = toy(regions=4), np.random.default_rng(0).random((ATTRIBUTES, 300))
    path = write_feature_map(
        tmp_path / "TOY" / "vit_b16.hdf5", data, chunked=chunked, transposed=transposed, vectors=vectors
    )
    problem = load_dataset(path)
    assert isinstance(problem.features, kind)
    assert problem.has_regions
    np.testing.assert_array_equal(np.asarray(problem.features), data.features)
    np.testing.assert_array_equal(problem.semantics, data.att)
    np.testing.assert_array_equal(problem.semantic_sources["att_original"], data.original_att)
    np.testing.assert_array_equal(problem.attribute_vectors, vectors)
    np.testing.assert_array_equal(problem.parts.test_unseen, data.parts["test_unseen"])
    assert problem.name == "TOY"
    validation_cut(problem, seed=0)


def test_split_files_beside_it_add_names_sources_and_validation_classes(tmp_path):
    data = toy(regions=4)
    path = write_feature_map(tmp_path / "TOY" / "vit_b16.hdf5", data)
    write_xlsa17(tmp_path / "TOY", toy().but(original_att=None), semantics="sent")
    problem = load_dataset(path)
    assert set(problem.semantic_sources) == {"att", "att_original", "sent"}
    assert problem.class_names[0] == "Toy_a"
    assert problem.parts.validation_classes.tolist() == [4]


@pytest.mark.parametrize("key", ["feature_map", "labels", "att", "trainval_loc", "test_unseen_loc"])
def test_a_missing_data_set_is_named(tmp_path, key):
    path = write_feature_map(tmp_path / "TOY" / "map.h5", toy(), without=(key,))
    with pytest.raises(DataError, match=f"map.h5 has no {key}"):
        load_dataset(path)


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "map.h5").write_text("no map")
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        load_dataset(tmp_path / "map.h5")


def test_nan_in_a_region_is_refused(tmp_path):
    data = toy(regions=4)
    data.features[3, 2, 1] = np.nan
    with pytest.raises(DataError, match="NaN or infinity in 1 images"):
        load_dataset(write_feature_map(tmp_path / "TOY" / "map.h5", data, chunked=True))


@pytest.fixture
def stored(tmp_path):
    values = np.random.default_rng(0).random((50, 3, 4)).astype(np.float16)
    with h5py.File(tmp_path / "values.h5", "w") as file:
        file.create_dataset("values", data=values, chunks=(7, 3, 4))
    return StoredArray(tmp_path / "values.h5", "values"), values


@pytest.mark.parametrize(
    "index",
    [
        3,
        slice(4, 20, 3),
        np.array([9, 2, 2, 49, 0]),
        [5, 1],
        np.arange(50) % 3 == 0,
        np.array([-1, 0]),
        np.array([], int),
        (np.array([7, 3]), 0),
        (slice(2, 5), slice(1, None), 2),
        (np.array([7, 3]), slice(1, None), 2),
    ],
)
def test_a_stored_array_answers_as_the_array_would(stored, index):
    lazy, values = stored
    np.testing.assert_array_equal(lazy[index], values[index])
    assert lazy[index].dtype == values.dtype


def test_a_stored_array_has_the_shape_and_travels_to_other_processes(stored):
    lazy, values = stored
    assert (lazy.shape, lazy.dtype, lazy.ndim, len(lazy), lazy.nbytes) == (
        values.shape,
        values.dtype,
        3,
        50,
        values.nbytes,
    )
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy))[:], values)
    np.testing.assert_array_equal(np.asarray(lazy, dtype=np.float32), values.astype(np.float32))
    blocks = rows_of(lazy, block_bytes=1000)
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate([lazy[rows] for rows in blocks]), values)


def test_a_row_out_of_range_is_no_other_row(stored):
    lazy, _ = stored
    with pytest.raises(IndexError):
        lazy[np.array([50])]
