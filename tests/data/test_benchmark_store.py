import numpy as np
import pytest
from scipy.io import savemat

from dkgzsl.data.load import list_images, load_dataset
from dkgzsl.errors import DataError
from dkgzsl.features.store_writer import StoreWriter


@pytest.fixture
def benchmark(tmp_path):
    """Three classes of four images in the xlsa17 layout, paths as on the machine of its authors."""
    folder = tmp_path / "data" / "BIRDS"
    labels = np.repeat([1, 2, 3], 4)
    files = np.empty((12, 1), object)
    files[:, 0] = [f"/their/disk/BIRDS//jpg/class{k}/{i}.jpg" for i, k in enumerate(labels)]
    for i, k in enumerate(labels):
        path = folder / "images" / f"class{k}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    savemat(folder / "res101.mat", {"features": np.ones((5, 12)), "labels": labels[:, None], "image_files": files})
    names = np.empty((3, 1), object)
    names[:, 0] = ["ant", "bee", "fly"]
    parts = {"trainval_loc": [1, 2, 3, 5, 6, 7], "test_seen_loc": [4, 8], "test_unseen_loc": [9, 10, 11, 12]}
    savemat(
        folder / "att_splits.mat",
        {
            "att": np.arange(6.0).reshape(2, 3) + 1,
            "allclasses_names": names,
            **{part: np.array(positions)[:, None] for part, positions in parts.items()},
        },
    )
    return folder


def test_images_are_listed_in_the_order_of_the_split(benchmark):
    listed = list_images("BIRDS", data_root=benchmark.parent)
    assert listed.root == benchmark
    assert listed.paths[4] == "images/class2/4.jpg"
    assert all((benchmark / path).is_file() for path in listed.paths)
    assert listed.labels == [0] * 4 + [1] * 4 + [2] * 4
    assert listed.class_names == ("ant", "bee", "fly")


def test_images_that_are_not_there(benchmark):
    (benchmark / "images").rename(benchmark / "photos")
    with pytest.raises(DataError, match="--what images"):
        list_images(benchmark)


def test_a_feature_file_that_lists_no_images(benchmark):
    savemat(benchmark / "res101.mat", {"features": np.ones((5, 12)), "labels": np.ones((12, 1))})
    with pytest.raises(DataError, match="does not list images"):
        list_images(benchmark)


def test_a_store_takes_the_place_of_the_feature_file(benchmark, tmp_path):
    listed = list_images(benchmark)
    record = {
        "class_names": list(listed.class_names),
        "grid": [1, 1],
        "batch_size": 4,
        "backbone": {"name": "net"},
    }
    given = {"record": record, "paths": listed.paths, "labels": listed.labels}
    tokens = np.arange(12 * 2 * 3, dtype=np.float16).reshape(12, 2, 3)
    with StoreWriter(tmp_path / "s", **given, tokens=2, channels=3) as store:
        store.append(tokens, [("0", "bad" if k in (1, 11) else None) for k in range(12)])
    problem = load_dataset("BIRDS", data_root=benchmark.parent, features=tmp_path / "s")
    assert np.array_equal(problem.features, tokens)
    assert problem.labels.tolist() == listed.labels
    assert problem.parts.trainval.tolist() == [0, 2, 4, 5, 6]
    assert problem.parts.test_seen.tolist() == [3, 7]
    assert problem.parts.test_unseen.tolist() == [8, 9, 10]
    assert problem.provenance["backbone"] == "net"
    assert problem.provenance["unreadable_images"] == 2
