"""Features of several backbones for the same images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dkgzsl import TrainConfig, load_dataset, train
from dkgzsl.data.assemble import with_extra_features
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.representation.blocks import read_blocks, read_store

FEW = ClosedFormSettings(components=(64,), shrinkage=(0.6,), kernel_width=(2.0,), ridge=(0.1,), episodes="off")


def test_shape_and_rows_are_the_first_backbones_and_all_are_read() -> None:
    alone = load_dataset("numbers", features="regions")
    problem = load_dataset("numbers", features="regions", extra_features=("pooled",))
    assert problem.features.shape == alone.features.shape
    assert problem.has_regions
    rows = np.array([5, 3, 3])
    np.testing.assert_array_equal(problem.features[rows], alone.features[rows])
    read = read_store(problem.features, rows, ("pooled", "extra"), None)
    np.testing.assert_array_equal(read["pooled"].numpy(), alone.features[rows][:, 0])
    pooled = load_dataset("numbers").features[rows]
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(read["extra"].numpy(), expected, rtol=1e-5)
    assert set(problem.provenance["extra"]) == {"pooled"}


def test_extra_features_of_other_images_are_refused() -> None:
    problem = load_dataset("numbers")
    shuffled = replace(problem, labels=problem.labels[::-1].copy())
    with pytest.raises(DataError, match="same images"):
        with_extra_features(problem, {"other": shuffled})
    fewer = replace(problem, labels=problem.labels[:-1], features=problem.features[:-1])
    with pytest.raises(DataError, match="same images"):
        with_extra_features(problem, {"other": fewer})


def test_one_backbones_tokens_are_not_enough_for_several() -> None:
    with pytest.raises(DataError, match="several backbones"):
        read_blocks(torch.zeros(2, 3, 4), ("pooled", "extra"), None)
    with pytest.raises(DataError, match="--extra-features"):
        read_store(load_dataset("numbers").features, np.arange(2), ("pooled", "extra"), None)


def test_train_tries_them_and_records_the_choice(tmp_path) -> None:
    config = TrainConfig(
        "numbers",
        extra_features=("regions",),
        representation=("pooled+extra",),
        settings=FEW,
        baseline="none",
        out=str(tmp_path / "run"),
    )
    trained = train(config)
    assert trained.details["seeds_detail"][0]["representation"] == "pooled+extra"
    assert trained.result["metrics"]["t1"]["mean"] > 0.8
    with pytest.raises(ConfigError, match="--extra-features"):
        train(replace(config, extra_features=(), out=str(tmp_path / "other")))
