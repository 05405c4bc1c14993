"""The doctor finds what was planted, and nothing in what is sound."""

import numpy as np
import pytest

from dkgzsl.data.catalog import KNOWN
from dkgzsl.data.doctor import examine
from dkgzsl.data.load import read_unchecked
from formats.files import write_feature_map, write_xlsa17
from formats.official import write_official_shape
from formats.toy import toy


def findings(folder, **options):
    return examine(read_unchecked(folder, **options))


def named(found, check):
    return [finding for finding in found if finding.check == check]


def test_a_sound_data_set_has_notes_alone(tmp_path):
    found = findings(write_xlsa17(tmp_path / "TOY", toy()))
    assert {finding.severity for finding in found} <= {"note"}


@pytest.mark.parametrize(
    ("name", "train", "val"),
    [
        ("AWA1", 3404, 1554),
        ("AWA2", 4031, 1851),
        ("SUN", 2320, 260),
        ("FLO", 1173, 230),
        ("CUB", 1173, 591),
        ("APY", None, None),
    ],
)
def test_real_split_files_are_sound_and_their_published_lists_leak(xlsa17, name, train, val):
    found = findings(name, data_root=xlsa17)
    assert not [finding for finding in found if finding.severity != "note"]
    leak = named(found, "published lists")
    if train is None:
        assert not leak
        assert named(found, "validation")
    else:
        assert f"{train + val} of {KNOWN[name].test_seen} seen test images" in leak[0].message
        assert f"{train} in train_loc and {val} in val_loc" in leak[0].message
    assert bool(named(found, "not checked")) is (name != "CUB")


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("name", ["AWA1", "AWA2", "CUB", "SUN", "FLO", "APY"])
def test_a_real_split_that_is_off_by_one_is_found_without_features(xlsa17, tmp_path, name, by):
    from scipy.io import loadmat, savemat

    split = {key: value for key, value in loadmat(xlsa17 / name / "att_splits.mat").items() if key[0] != "_"}
    moved = {
        key: value.astype(float) + (by if key in ("trainval_loc", "test_seen_loc", "test_unseen_loc") else 0)
        if key.endswith("_loc")
        else value
        for key, value in split.items()
    }
    (tmp_path / name).mkdir()
    savemat(tmp_path / name / "att_splits.mat", moved)
    found = [f for f in findings(tmp_path / name) if f.severity in ("error", "warning")]
    assert found
    if by < 0:  # without features only a position of -1 proves the shift; one too many leaves a gap at the start
        assert found[0].severity == "error"
    assert f"adding {-by:+d} to all of them mends" in found[0].fix


def test_generated_official_files_are_sound(xlsa17, tmp_path):
    folder = write_official_shape(tmp_path, "SUN", xlsa17 / "SUN" / "att_splits.mat", channels=16)
    assert {finding.severity for finding in findings(folder)} == {"note"}


def planted():
    data = toy()
    labels, parts = data.labels, data.parts
    unseen, trained, tested = parts["test_unseen"], parts["trainval"], parts["test_seen"]
    twin, twin_across, flat, dead = (data.features.copy() for _ in range(4))
    twin[trained[0]] = twin[trained[1]]
    twin_across[trained[0]] = twin_across[unseen[0]]
    flat[4], dead[:, 1] = 0.5, 3
    same, negative, narrow = data.att.copy(), data.att.copy(), data.att.copy()
    same[2], negative[1, 1], narrow[:, 0] = same[6], -0.01, 0.5
    raw_list = data.with_parts(train=np.append(parts["train"], unseen[:2]))
    shared_lists = data.with_parts(val=np.flatnonzero(labels >= 3), train=parts["train"])
    return {
        "two roles": (
            data.with_parts(trainval=np.append(trained, unseen[0]), test_unseen=unseen[1:]),
            "error",
            "roles",
            "seen and unseen at once",
        ),
        "overlap": (data.with_parts(test_seen=np.append(tested, trained[:3])), "error", "overlap", "3 images"),
        "left out": (data.with_parts(trainval=trained[2:]), "warning", "coverage", "2 of 70 images"),
        "raw list": (raw_list, "warning", "published lists", "2 unseen test images are listed in train_loc"),
        "shared lists": (shared_lists, "warning", "validation", "share classes"),
        "twins": (data.but(features=twin), "note", "duplicate images", "1 images"),
        "twins across": (data.but(features=twin_across), "warning", "duplicate images", "1 of these pairs"),
        "flat image": (data.but(features=flat), "warning", "constant images", "1 images"),
        "dead feature": (data.but(features=dead), "note", "constant features", "1 of 5"),
        "same description": (data.but(att=same), "warning", "descriptions", "Toy_c and Toy_g have the same"),
        "negative entry": (
            data.but(att=negative),
            "note",
            "negative entries",
            "1 entries of 'att' are negative",
        ),
        "constant column": (data.but(att=narrow), "note", "descriptions", "1 columns of 'att'"),
        "empty class": (data.but(labels=np.where(labels == 2, 3, labels)), "error", "empty class", "Toy_c"),
    }


@pytest.mark.parametrize("trap", planted())
def test_each_planted_trap_is_found(tmp_path, trap):
    data, severity, check, words = planted()[trap]
    found = named(findings(write_xlsa17(tmp_path / "TOY", data)), check)
    assert any(finding.severity == severity and words in finding.message for finding in found), found


def test_errors_come_first_and_one_mistake_does_not_hide_the_others(tmp_path):
    data = toy()
    features, att = data.features.copy(), data.att.copy()
    features[1, 1], att[0, 0] = np.nan, np.nan
    doubled = np.append(data.parts["test_seen"], data.parts["trainval"][0])
    data = data.but(features=features, att=att).with_parts(test_seen=doubled)
    found = findings(write_xlsa17(tmp_path / "TOY", data))
    errors = [finding.check for finding in found if finding.severity == "error"]
    assert sorted(errors) == ["nan", "nan", "overlap"]
    assert [finding.severity for finding in found[:3]] == ["error"] * 3


def test_counts_unlike_the_official_ones_are_said(tmp_path):
    found = named(findings(write_xlsa17(tmp_path / "AWA2", toy())), "official counts")
    assert any("trainval: 40, where the official split of AWA2 has 23527" in finding.message for finding in found)
    assert any("'att' have 4 entries, officially 85" in finding.message for finding in found)


def test_images_in_the_folder_of_another_class_are_noticed(tmp_path):
    from scipy.io import loadmat, savemat

    data = toy()
    folder = write_xlsa17(tmp_path / "TOY", data)
    file = loadmat(folder / "res101.mat")
    names = [data.class_names[k] for k in data.labels]
    names[0] = data.class_names[(data.labels[0] + 1) % 7]
    paths = np.empty((len(names), 1), object)
    paths[:, 0] = [f"images/{name}/{k}.jpg" for k, name in enumerate(names)]
    savemat(folder / "res101.mat", {"features": file["features"], "labels": file["labels"], "image_files": paths})
    assert named(findings(folder), "file names")[0].message.startswith("1 images lie")


def test_every_region_is_looked_at(tmp_path):
    data = toy(regions=4)
    data = data.but(features=np.tile(data.features, (1, 1, 1)))
    data.features[37, 3, 2] = np.inf
    found = findings(write_feature_map(tmp_path / "TOY" / "map.hdf5", data))
    assert named(found, "nan")[0].message.endswith("(the first: 37)")


def test_the_embedded_numbers_are_sound():
    assert not [finding for finding in findings("numbers") if finding.severity != "note"]
