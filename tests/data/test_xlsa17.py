"""The xlsa17 layout: both MATLAB versions, the six real split files, and everything that must be refused."""

import numpy as np
import pytest
from scipy.io import loadmat

from dkgzsl.data.catalog import KNOWN
from dkgzsl.data.formats.matfile import mat_names, read_mat
from dkgzsl.data.formats.xlsa17 import read_split
from dkgzsl.data.load import load_dataset
from dkgzsl.data.splits import validation_cut
from dkgzsl.errors import DataError
from formats.files import write_feature_map, write_v5, write_v73, write_xlsa17
from formats.official import write_official_shape
from formats.toy import CLASSES, toy


@pytest.mark.parametrize("version", ["5", "7.3"])
@pytest.mark.parametrize("transposed", [(), ("features", "att", "original_att", "labels")])
def test_reads_what_was_written_in_either_version_and_orientation(tmp_path, version, transposed):
    data = toy()
    problem = load_dataset(write_xlsa17(tmp_path / "TOY", data, version=version, transposed=transposed))
    np.testing.assert_array_equal(problem.features, data.features)
    assert problem.features.dtype == np.float32
    np.testing.assert_array_equal(problem.labels, data.labels)
    np.testing.assert_array_equal(problem.semantic_sources["att"], data.att)
    np.testing.assert_array_equal(problem.semantic_sources["att_original"], data.original_att)
    for part in ("trainval", "test_seen", "test_unseen"):
        np.testing.assert_array_equal(getattr(problem.parts, part), data.parts[part])
    assert problem.parts.validation_classes.tolist() == [4]
    assert problem.class_names[:2] == ("Toy_a", "Toy_b")
    assert problem.image_files[3] == "images/0003.jpg"
    assert problem.seen_classes.tolist() == [0, 1, 2, 3, 4]
    assert problem.unseen_classes.tolist() == [5, 6]
    assert len(problem.provenance["files"]["att_splits.mat"]) == 64


def test_every_agreeing_split_file_becomes_a_source_and_lends_its_validation_classes(tmp_path):
    data = toy()
    folder = write_xlsa17(tmp_path / "TOY", data, without=("train_loc", "val_loc"))
    sentences = data.but(att=np.random.default_rng(1).random((CLASSES, 9)), original_att=None)
    write_xlsa17(folder, sentences, semantics="sent")
    moved = data.with_parts(test_seen=data.parts["trainval"], trainval=data.parts["test_seen"])
    write_xlsa17(folder, moved, semantics="other")
    problem = load_dataset(folder)
    assert set(problem.semantic_sources) == {"att", "att_original", "sent"}
    assert problem.semantics_name == "att"
    assert problem.parts.validation_classes.tolist() == [4]
    assert problem.provenance["validation"] == {"file": "sent_splits.mat", "borrowed": True}
    assert set(problem.provenance["left_out"]) == {"other_splits.mat"}
    assert load_dataset(folder, semantics="sent").semantics.shape == (CLASSES, 9)
    assert load_dataset(folder, semantics="att_original").semantics_name == "att_original"


def test_validation_classes_come_from_training_images_alone(tmp_path):
    data = toy()
    leaky = data.with_parts(val=np.append(data.parts["val"], data.parts["test_unseen"]))
    problem = load_dataset(write_xlsa17(tmp_path / "TOY", leaky))
    assert problem.parts.validation_classes.tolist() == [4]


def test_both_versions_give_matlabs_axes(tmp_path):
    contents = {"matrix": np.arange(6.0).reshape(2, 3), "names": ("one", "two")}
    write_v5(tmp_path / "5.mat", contents)
    write_v73(tmp_path / "7.mat", contents)
    for path in (tmp_path / "5.mat", tmp_path / "7.mat"):
        found = read_mat(path)
        np.testing.assert_array_equal(found["matrix"], contents["matrix"])
        assert found["names"].ravel().tolist() == ["one", "two"]
        assert set(mat_names(path)) == {"matrix", "names"}
        assert set(read_mat(path, ["names", "absent"])) == {"names"}


def test_classes_without_names_are_numbered(tmp_path):
    problem = load_dataset(write_xlsa17(tmp_path / "TOY", toy().but(class_names=None)))
    assert problem.class_names == tuple(f"class_{k}" for k in range(1, CLASSES + 1))


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_real_split_files_have_the_official_counts(xlsa17, name):
    entry, split = KNOWN[name], read_split(xlsa17 / name / "att_splits.mat")
    sizes = {part: len(split.parts[part]) for part in ("trainval", "test_seen", "test_unseen")}
    assert sizes == {"trainval": entry.trainval, "test_seen": entry.test_seen, "test_unseen": entry.test_unseen}
    assert sum(sizes.values()) == entry.images
    together = np.concatenate([split.parts[part] for part in sizes])
    np.testing.assert_array_equal(np.sort(together), np.arange(entry.images))
    assert split.tables["att"].shape == (entry.classes, entry.attributes)
    np.testing.assert_allclose(np.linalg.norm(split.tables["att"], axis=1), 1)


@pytest.mark.parametrize("semantics", ["att", "sent"])
def test_real_cub_has_its_classes_and_a_validation_cut_without_test_images(xlsa17, semantics):
    problem = load_dataset(xlsa17 / "CUB", features="vgg_fc7", semantics=semantics)
    file = loadmat(xlsa17 / "CUB" / "sent_splits.mat")
    assert (len(problem.seen_classes), len(problem.unseen_classes)) == (150, 50)
    assert problem.provenance["validation"]["borrowed"] is (semantics == "att")
    cut = validation_cut(problem, seed=3)
    assert (len(cut.seen_classes), len(cut.pseudo_unseen_classes)) == (100, 50)
    used = np.concatenate([cut.train, cut.held_seen, cut.held_unseen])
    np.testing.assert_array_equal(np.sort(used), np.sort(file["trainval_loc"].ravel().astype(int) - 1))
    # Trap 1: the published lists, taken raw, hold every seen test image.
    raw_lists = np.concatenate([file["train_loc"].ravel(), file["val_loc"].ravel()]).astype(int) - 1
    assert len(np.intersect1d(raw_lists, problem.parts.test_seen)) == 1764
    assert not len(np.intersect1d(used, problem.parts.test_seen))
    assert problem.class_names[30] == "American_Goldfinch"
    assert problem.attribute_names["att"][0].startswith("has_bill_shape")


@pytest.mark.parametrize("name", ["AWA2", "SUN"])
def test_generated_files_of_official_shape_read_as_the_official_ones_would(xlsa17, tmp_path, name):
    folder = write_official_shape(tmp_path, name, xlsa17 / name / "att_splits.mat", channels=3)
    problem, entry = load_dataset(folder), KNOWN[name]
    assert problem.features.shape == (entry.images, 3)
    assert len(problem.unseen_classes) == entry.unseen_classes
    assert len(problem.parts.validation_classes) == entry.validation_classes


def shifted(data, **by):
    return data.with_parts(**{part: data.parts[part] + number for part, number in by.items()})


def broken_toys():
    data = toy()
    nan_features, nan_att, zero_att = data.features.copy(), data.att.copy(), data.att.copy()
    nan_features[17, 2], nan_att[3, 1], zero_att[2] = np.nan, np.inf, 0
    stray, fractional = data.labels.copy(), data.labels.astype(float)
    stray[5], fractional[5] = CLASSES, 1.5
    empty = np.where(data.labels == 2, 3, data.labels)
    unseen, trained = data.parts["test_unseen"], data.parts["trainval"]
    return {
        "NaN in features": (data.but(features=nan_features), "features hold NaN or infinity in 1 images"),
        "infinity in descriptions": (data.but(att=nan_att), "hold NaN or infinity in 1 classes"),
        "zero description": (data.but(att=zero_att), "all zero for 1 classes"),
        "label too high": (data.but(labels=stray), "labels out of range"),
        "labels count from the wrong number": (data.but(labels=data.labels - 1), "labels out of range"),
        "label no whole number": (data.but(labels=fractional), "not whole numbers"),
        "empty class": (data.but(labels=empty), "1 classes have no image"),
        "labels missing": (data.but(labels=data.labels[:-1]), "fits no orientation|images with features"),
        "class description missing": (data.but(att=data.att[:-1]), "fits no orientation|labels out of range"),
        "parts overlap": (
            data.with_parts(test_unseen=np.append(unseen, trained[0])),
            "1 images are in trainval and in test_unseen",
        ),
        "image twice": (data.with_parts(trainval=np.append(trained, trained[:2])), "lists 2 images twice"),
        "position out of range": (data.with_parts(test_unseen=np.append(unseen, 70)), "out of range"),
        "all positions off by one": (shifted(data, trainval=-1, test_seen=-1, test_unseen=-1), "out of range"),
        "a class in two roles": (
            data.with_parts(trainval=np.append(trained, unseen[0]), test_unseen=unseen[1:]),
            "1 classes are seen and unseen at once",
        ),
        "tested, never trained": (
            data.with_parts(trainval=trained[data.labels[trained] != 1]),
            "1 classes of test_seen have no training image",
        ),
        "nothing to train": (
            data.with_parts(trainval=np.empty(0, int), test_seen=np.empty(0, int)),
            "trainval is empty",
        ),
    }


@pytest.mark.parametrize("mistake", broken_toys())
@pytest.mark.parametrize("form", ["5", "7.3", "feature map"])
def test_each_mistake_is_refused_with_one_clear_message(tmp_path, mistake, form):
    data, message = broken_toys()[mistake]
    if form == "feature map":
        path = write_feature_map(tmp_path / "TOY" / "map.hdf5", data)
    else:
        path = write_xlsa17(tmp_path / "TOY", data, version=form)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(path)
    assert "TOY" in caught.value.where
    assert len(str(caught.value).splitlines()) <= 3


def test_an_unseen_part_that_is_off_by_one_is_refused_and_the_mending_shift_named(tmp_path):
    data = toy()
    # Classes in blocks, as in the field's files: one step moves an image of the neighbouring class in.
    order = np.argsort(data.labels, kind="stable")
    place = np.argsort(order)
    parts = {part: place[positions] for part, positions in data.parts.items()}
    blocks = data.but(labels=data.labels[order], features=data.features[order], parts=parts)
    load_dataset(write_xlsa17(tmp_path / "GOOD", blocks))
    with pytest.raises(DataError, match=r"are in .* and in test_unseen") as caught:
        load_dataset(write_xlsa17(tmp_path / "BAD", shifted(blocks, test_unseen=-1)))
    assert "+1 to test_unseen mends" in caught.value.fix


def test_a_class_in_two_roles_without_any_overlap_is_refused(tmp_path):
    data = toy()
    one = data.parts["test_unseen"][:1]
    swapped = data.with_parts(
        trainval=np.append(data.parts["trainval"][1:], one),
        test_unseen=np.append(data.parts["test_unseen"][1:], data.parts["trainval"][:1]),
    )
    with pytest.raises(DataError, match="classes are seen and unseen at once"):
        load_dataset(write_xlsa17(tmp_path / "TOY", swapped))


@pytest.mark.parametrize("by", [-1, 1])
def test_labels_that_count_from_elsewhere_are_told_apart_from_a_wrong_table(tmp_path, by):
    data = toy().but(class_names=None, labels=toy().labels + by)
    with pytest.raises(DataError, match="labels out of range") as caught:
        load_dataset(write_xlsa17(tmp_path / "TOY", data))
    assert f"adding {-by} to each mends them" in caught.value.fix


@pytest.mark.parametrize("key", ["features", "labels", "att", "trainval_loc", "test_seen_loc", "test_unseen_loc"])
@pytest.mark.parametrize("version", ["5", "7.3"])
def test_a_missing_variable_is_named(tmp_path, key, version):
    folder = write_xlsa17(tmp_path / "TOY", toy(), version=version, without=(key,))
    with pytest.raises(DataError, match=f"mat has no {key}$|mat has no {key}\n"):
        load_dataset(folder)


def test_a_square_table_is_not_guessed(tmp_path):
    data = toy().but(att=np.random.default_rng(0).random((CLASSES, CLASSES)), original_att=None)
    with pytest.raises(DataError, match="att is square"):
        load_dataset(write_xlsa17(tmp_path / "TOY", data))


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    folder = write_xlsa17(tmp_path / "TOY", toy())
    content = (folder / "res101.mat").read_bytes()
    (folder / "res101.mat").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cannot be read as a MATLAB file|has no"):
        load_dataset(folder)
