"""Data sets by name or folder, and what is said where they are not there."""

import numpy as np
import pytest

from dkgzsl import load_dataset
from dkgzsl.data.catalog import KNOWN, features_of, lookup
from dkgzsl.errors import DataError
from formats.files import write_feature_map, write_xlsa17
from formats.toy import toy


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DKGZSL_HOME", str(tmp_path))
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["CUB", "cub", "Cub"])
def test_a_benchmark_is_found_in_upper_and_lower_case(root, name):
    write_xlsa17(root / "CUB", toy(), features="vgg_fc7")
    problem = load_dataset(name, features="vgg_fc7")
    assert problem.name == "CUB"
    assert problem.provenance["features"] == "vgg_fc7"


def test_a_folder_a_name_below_the_root_and_a_given_root_lead_to_the_same(root, tmp_path):
    folder = write_xlsa17(root / "MINE", toy())
    for name, options in (("MINE", {}), (folder, {}), ("MINE", {"data_root": root})):
        np.testing.assert_array_equal(load_dataset(name, **options).labels, toy().labels)


@pytest.mark.parametrize(
    ("backbone", "file"), [("resnet101", "res101"), ("vit-b/16", "vit_b16"), ("resnet50", "resnet50")]
)
def test_the_backbone_names_the_feature_file_and_the_file_the_backbone(root, backbone, file):
    write_xlsa17(root / "CUB", toy(), features=file)
    assert features_of(backbone) == file
    assert load_dataset("CUB", backbone=backbone).provenance["backbone"] == backbone
    known = None if file == "resnet50" else backbone
    assert load_dataset("CUB", features=file).provenance["backbone"] == known


def test_feature_maps_are_found_by_name_and_by_path(root):
    path = write_feature_map(root / "CUB" / "vit_b16.hdf5", toy(regions=4))
    assert load_dataset("CUB", backbone="vit-b/16").has_regions
    assert load_dataset(path).has_regions


def test_the_published_command_without_data_says_what_to_fetch_and_where_it_belongs(root):
    with pytest.raises(DataError) as caught:
        load_dataset("CUB", backbone="vit-b/16")
    message = str(caught.value)
    for words in (
        "CUB lacks vit_b16.mat (or vit_b16.hdf5) and att_splits.mat",
        str(root / "CUB"),
        "dkgzsl data fetch CUB\n",
        "brings res101.mat and att_splits.mat: xlsa17.zip",
        "dkgzsl data fetch CUB --what images\n",
        "CUB_200_2011.tgz",
        "dkgzsl extract CUB --backbone vit-b/16 --out STORE",
    ):
        assert words in message
    assert len(message.splitlines()) < 10


def test_features_that_are_missing_beside_others_name_the_others(root):
    write_xlsa17(root / "AWA2", toy(), features="vgg_fc7")
    with pytest.raises(DataError, match=r"AWA2 lacks res101\.mat") as caught:
        load_dataset("AWA2")
    assert "att_splits.mat" not in caught.value.what
    with pytest.raises(DataError, match=r"AWA2 lacks vgg_fc8\.mat") as caught:
        load_dataset("AWA2", features="vgg_fc8")
    assert "vgg_fc7" in caught.value.fix
    write_xlsa17(root / "MINE", toy(), features="vgg_fc7")
    with pytest.raises(DataError, match="MINE has no features 'vgg_fc8'") as caught:
        load_dataset("MINE", features="vgg_fc8")
    assert "vgg_fc7" in caught.value.where


@pytest.mark.parametrize(
    ("name", "options", "message", "hint"),
    [
        ("CUP", {}, "unknown data set 'CUP'", "'CUB'"),
        ("number", {}, "unknown data set", "'numbers'"),
        ("numbers", {"semantics": "stroke"}, "no semantics named 'stroke'", "'strokes'"),
        ("numbers", {"features": "res101"}, "no features 'res101'", "pooled, regions"),
        ("TOY", {"semantics": "sents"}, "no semantics 'sents'", "att"),
        ("TOY", {"unseen": [1]}, "fixed by its split", "leave"),
    ],
)
def test_what_is_unknown_names_the_nearest_known(root, name, options, message, hint):
    write_xlsa17(root / "TOY", toy())
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(name, **options)
    assert hint in caught.value.fix


def test_numbers_take_unseen_numbers_and_regions(root):
    assert load_dataset("numbers", unseen=["07", 42]).unseen_classes.tolist() == [7, 42]
    assert load_dataset("numbers", features="regions").has_regions


def test_the_catalogue_adds_up():
    for entry in KNOWN.values():
        assert entry.trainval + entry.test_seen + entry.test_unseen == entry.images
        assert lookup(entry.name.lower()) is entry
    with pytest.raises(DataError, match="unknown data set"):
        lookup("ImageNet")
