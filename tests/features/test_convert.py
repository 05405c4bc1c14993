import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from dkgzsl.cli.main import main
from dkgzsl.data.convert import store_from_file, store_to_mat
from dkgzsl.data.formats.xlsa17 import read_features
from dkgzsl.errors import DataError
from dkgzsl.features.extraction import extract
from dkgzsl.features.store import open_store


@pytest.fixture
def region_map(tmp_path):
    tokens = np.random.default_rng(0).standard_normal((300, 5, 6)).astype(np.float32)
    labels = np.arange(300) % 3
    with h5py.File(tmp_path / "map.hdf5", "w") as file:
        file["feature_map"], file["labels"] = tokens, labels
    return tmp_path / "map.hdf5", tokens, labels


def test_region_maps_become_stores(region_map, tmp_path):
    path, tokens, labels = region_map
    assert store_from_file(path, tmp_path / "s", backbone="vit-b/16") == (300, 5, 6)
    store = open_store(tmp_path / "s")
    assert np.array_equal(store.tokens, tokens.astype(np.float16))
    assert np.array_equal(store.labels, labels)
    assert store.grid == (2, 2)
    assert store.record["backbone"]["name"] == "vit-b/16"


def test_maps_with_rows_and_columns_are_laid_out_row_by_row(region_map, tmp_path):
    path, _, labels = region_map
    maps = np.random.default_rng(1).standard_normal((2, 6, 2, 3)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["feature_map"], file["labels"], file["image_files"] = maps, labels[:2], ["a.jpg", "b.jpg"]
    store_from_file(path, tmp_path / "s", backbone="resnet101")
    store = open_store(tmp_path / "s")
    assert store.grid == (2, 3)
    assert store.paths == ("a.jpg", "b.jpg")
    assert np.array_equal(store.tokens[1, 1 + 3 * 1 + 2], maps[1, :, 1, 2].astype(np.float16))
    np.testing.assert_allclose(store.tokens[:, 0], maps.mean((2, 3)), atol=1e-3)


def test_mat_files_become_stores_of_global_tokens(tmp_path):
    features = np.random.default_rng(0).random((4, 7)).astype(np.float32)
    files = np.empty((7, 1), object)
    files[:, 0] = [f"{k}.jpg" for k in range(7)]
    savemat(
        tmp_path / "res101.mat", {"features": features, "labels": np.arange(1, 8)[:, None], "image_files": files}
    )
    assert store_from_file(tmp_path / "res101.mat", tmp_path / "s", backbone="resnet101") == (7, 1, 4)
    store = open_store(tmp_path / "s")
    assert np.array_equal(store.tokens[:, 0], features.T.astype(np.float16))
    assert store.labels.tolist() == list(range(7))
    assert store.paths[3] == "3.jpg"
    assert store.grid is None


def test_an_exported_store_is_read_as_an_xlsa17_file(tmp_path, photos, small_backbone):
    images = photos(5)
    (images.root / images.paths[2]).write_text("no picture")
    extract(images, small_backbone, tmp_path / "s")
    assert main(["data", "convert", str(tmp_path / "s"), "--out", str(tmp_path / "res101.mat")]) == 0
    kept = [0, 1, 3, 4]
    raw = loadmat(tmp_path / "res101.mat")
    assert raw["features"].shape == (small_backbone.channels, 4)
    assert raw["labels"].ravel().tolist() == [1 + images.labels[k] for k in kept]
    found = read_features(tmp_path / "res101.mat")
    assert np.array_equal(found["features"], open_store(tmp_path / "s").tokens[kept, 0].astype(np.float32))
    assert found["image_files"] == tuple(images.paths[k] for k in kept)
    assert main(["data", "convert", str(tmp_path / "s"), "--out", str(tmp_path / "res101.mat")]) == 2


def test_what_cannot_be_converted_says_why(region_map, tmp_path):
    path, tokens, labels = region_map
    with h5py.File(path, "a") as file:
        file["feature_map"][280, 0, 0] = 1e6
    with pytest.raises(DataError, match="image 256 are not finite"):
        store_from_file(path, tmp_path / "s", backbone="x")
    with h5py.File(path, "w") as file:
        file["feature_map"], file["labels"] = tokens[:, :4], labels
    with pytest.raises(DataError, match="no square grid"):
        store_from_file(path, tmp_path / "t", backbone="x")
    with h5py.File(path, "w") as file:
        file["feature_map"] = tokens
    with pytest.raises(DataError, match="no labels"):
        store_from_file(path, tmp_path / "u", backbone="x")
    with pytest.raises(DataError, match="no such file"):
        store_from_file(tmp_path / "none.mat", tmp_path / "u", backbone="x")
    assert not (tmp_path / "u").exists()


def test_the_verb_wants_the_backbone(region_map, tmp_path, capsys):
    assert main(["data", "convert", str(region_map[0]), "--out", str(tmp_path / "s")]) == 2
    assert "--backbone" in capsys.readouterr().err


def test_export_writes_nothing_where_it_cannot(tmp_path, photos, small_backbone):
    extract(photos(1), small_backbone, tmp_path / "s")
    with pytest.raises(DataError, match="cannot write"):
        store_to_mat(open_store(tmp_path / "s"), tmp_path / "nowhere" / "a.mat")
