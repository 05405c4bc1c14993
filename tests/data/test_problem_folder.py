import json

import numpy as np
import pytest

from dkgzsl.data.formats.image_folder import read_image_folder
from dkgzsl.data.formats.problem_folder import read_problem_folder, write_problem_folder
from dkgzsl.data.load import load_dataset
from dkgzsl.errors import DataError
from dkgzsl.features.checked_rows import CheckedRows
from dkgzsl.features.store import open_store
from dkgzsl.features.store_writer import StoreWriter

CLASSES = {"crow": "seen-train", "emu": "seen-val", "ox": "seen-train", "yak": "unseen"}


@pytest.fixture
def folder(tmp_path):
    """Four classes of ten images each; the unseen one in between the others by name in the tables."""
    folder = tmp_path / "mine"
    for name in CLASSES:
        (folder / "images" / name).mkdir(parents=True)
        for k in range(10):
            (folder / "images" / name / f"{k}.jpg").write_bytes(b"")
    (folder / "attributes.csv").write_text("class,tail,wings\nyak,3,0\nox,2,0\nemu,1,0\ncrow,0,1\n")
    (folder / "words.csv").write_text("class,w\ncrow,0.1\nemu,0.2\nox,0.3\nyak,0.4\n")
    (folder / "classes.csv").write_text("class,role\n" + "".join(f"{c},{r}\n" for c, r in CLASSES.items()))
    return folder


@pytest.fixture
def problem(folder, tmp_path):
    write_problem_folder(read_image_folder(folder, "attributes"), tmp_path / "p", name="mine")
    return tmp_path / "p"


def store_of(paths, folder, unreadable=()):
    """Token k of image i is 10 i + k."""
    record = {
        "class_names": list(CLASSES),
        "grid": [1, 2],
        "batch_size": 4,
        "backbone": {"name": "none"},
    }
    tokens = (10 * np.arange(len(paths))[:, None, None] + np.arange(3)[None, :, None]).astype(np.float16)
    labels = [list(CLASSES).index(path.split("/")[1]) for path in paths]
    with StoreWriter(folder, record=record, paths=paths, labels=labels, tokens=3, channels=1) as store:
        store.append(tokens, [("0", "bad" if path in unreadable else None) for path in paths])
    return folder


def test_a_written_problem_reads_back(folder, problem):
    found, listed = read_image_folder(folder, "attributes"), read_problem_folder(problem)
    assert listed.class_names == found.class_names == tuple(CLASSES)
    assert listed.roles == tuple(CLASSES.values())
    assert listed.paths == found.images
    assert listed.labels.tolist() == list(found.labels)
    assert listed.source == folder.resolve()
    assert listed.sources()["attributes"].tolist() == [[0, 1], [1, 0], [2, 0], [3, 0]]


def test_parts_follow_the_roles(problem, tmp_path):
    listed = read_problem_folder(problem)
    loaded = load_dataset(problem, features=store_of(listed.paths, tmp_path / "s"))
    parts, label = loaded.parts, listed.labels
    assert np.bincount(label[parts.trainval]).tolist() == [8, 8, 8]
    assert np.bincount(label[parts.test_seen]).tolist() == [2, 2, 2]
    assert label[parts.test_unseen].tolist() == [3] * 10
    everything = np.concatenate([parts.trainval, parts.test_seen, parts.test_unseen])
    assert sorted(everything) == list(range(40))
    assert parts.validation_classes.tolist() == [1]
    assert loaded.seen_classes.tolist() == [0, 1, 2]
    assert loaded.unseen_classes.tolist() == [3]
    assert loaded.semantics_name == "attributes"
    assert loaded.attribute_names["attributes"] == ("tail", "wings")
    assert loaded.provenance["backbone"] == "none"
    json.dumps(loaded.provenance)


def test_the_seed_redraws_the_seen_test_images(problem, tmp_path):
    store = store_of(read_problem_folder(problem).paths, tmp_path / "s")
    first, again, other = (
        load_dataset(problem, features=store, test_seed=seed).parts.test_seen for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_features_are_matched_by_path(problem, tmp_path):
    listed = read_problem_folder(problem)
    same = load_dataset(problem, features=store_of(listed.paths, tmp_path / "same"))
    assert isinstance(same.features, CheckedRows), "mapped, and checked as they are read"
    other = [*reversed(listed.paths), "images/yak/more.jpg"]
    turned = load_dataset(problem, features=store_of(other, tmp_path / "turned"))
    assert turned.features[:, 0, 0].tolist() == [10.0 * k for k in range(39, -1, -1)]
    with pytest.raises(DataError, match=r"lacks 1 of 40 images, the first is images/yak/9\.jpg"):
        load_dataset(problem, features=store_of(listed.paths[:-1], tmp_path / "less"))


def test_unreadable_images_are_in_no_part_and_change_no_other(problem, tmp_path):
    listed = read_problem_folder(problem)
    whole = load_dataset(problem, features=store_of(listed.paths, tmp_path / "s")).parts
    bad = [whole.trainval[0], whole.test_seen[0], whole.test_unseen[0]]
    store = store_of(listed.paths, tmp_path / "b", unreadable=[listed.paths[k] for k in bad])
    loaded = load_dataset(problem, features=store)
    assert loaded.provenance["unreadable_images"] == 3
    for part in ("trainval", "test_seen", "test_unseen"):
        assert np.array_equal(getattr(loaded.parts, part), getattr(whole, part)[1:])


def test_features_in_a_file_are_no_store(problem, tmp_path):
    np.savez(tmp_path / "features.npz", features=np.zeros((40, 3)), labels=np.zeros(40, int))
    with pytest.raises(DataError, match=r"takes a feature store, which is a folder") as error:
        load_dataset(str(problem), features=str(tmp_path / "features.npz"))
    assert "dkgzsl data convert FILE --out STORE" in str(error.value)
    assert "images/crow/0.jpg" in str(error.value)


def test_semantics_are_chosen_by_name(problem, tmp_path):
    store = store_of(read_problem_folder(problem).paths, tmp_path / "s")
    assert load_dataset(problem, features=store, semantics="words").semantics.shape == (4, 1)
    with pytest.raises(DataError, match="did you mean 'words'"):
        load_dataset(problem, features=store, semantics="word")


def test_nothing_is_overwritten_by_accident(folder, problem, tmp_path):
    found = read_image_folder(folder, "words")
    with pytest.raises(DataError, match="--overwrite"):
        write_problem_folder(found, problem, name="again")
    assert read_problem_folder(problem).name == "mine"
    write_problem_folder(found, problem, name="again", overwrite=True)
    assert read_problem_folder(problem).name == "again"
    with pytest.raises(DataError, match="something else"):
        write_problem_folder(found, folder, name="again", overwrite=True)
    assert (folder / "images").is_dir()


def test_nothing_is_half_written(folder, tmp_path, monkeypatch):
    found = read_image_folder(folder, "words")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dkgzsl.data.formats.problem_folder.write_csv", full)
    with pytest.raises(DataError, match="No space left"):
        write_problem_folder(found, tmp_path / "p", name="mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_damage_is_named(problem, tmp_path):
    with pytest.raises(DataError, match="no imported problem"):
        read_problem_folder(tmp_path)
    (problem / "problem.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_problem_folder(problem)


def test_a_store_whose_files_do_not_belong_together(problem, tmp_path):
    store = store_of(read_problem_folder(problem).paths, tmp_path / "s")
    np.save(store / "tokens.npy", np.zeros((40, 3, 2), np.float16))
    with pytest.raises(DataError, match="do not belong together"):
        open_store(store)


def test_two_writers_of_one_store_are_kept_apart(tmp_path):
    pytest.importorskip("fcntl", reason="this system has no such lock")
    given = {"record": {"class_names": ["a"], "grid": None, "batch_size": 1}, "paths": ["x"], "labels": [0]}
    with (
        StoreWriter(tmp_path / "s", **given, tokens=1, channels=1),
        pytest.raises(DataError, match="another process"),
    ):
        StoreWriter(tmp_path / "s", **given, tokens=1, channels=1)


def test_a_disk_too_small_is_said_before_the_work(tmp_path):
    with pytest.raises(DataError, match="GB are free"):
        StoreWriter(
            tmp_path / "s",
            record={"class_names": ["a"], "grid": None, "batch_size": 1},
            paths=["x"],
            labels=[0],
            tokens=10**9,
            channels=10**6,
        )
