"""Which representations are tried where nothing is said."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dkgzsl.config import TrainConfig
from dkgzsl.data.arrays import problem_from_arrays
from dkgzsl.representation.blocks import read_store
from dkgzsl.runs.plan import FEWEST_FOR_SCORES, plan_of


def problem(seen: int):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(seen + 4), 4)
    features = rng.random((len(labels), 5, 6)).astype(np.float32)
    attributes = rng.random((seen + 4, 7))
    names = {"att": [f"a{n}" for n in range(7)]}
    unseen = list(range(seen, seen + 4))
    return problem_from_arrays(features, labels, {"att": attributes}, unseen=unseen, attribute_names=names)


@pytest.mark.parametrize(
    ("seen", "tried"), [(FEWEST_FOR_SCORES - 1, ("pooled",)), (FEWEST_FOR_SCORES, ("pooled", "pooled+scores"))]
)
def test_scores_are_left_out_where_classes_are_few_and_that_is_said(seen, tried):
    plan = plan_of(TrainConfig(device="cpu"), problem(seen))
    assert plan.config.representation == tried
    said = [note for note in plan.notes if "pooled+scores is not tried" in note]
    assert len(said) == (1 if seen < FEWEST_FOR_SCORES else 0)
    assert all(f"{seen} seen classes" in note and "--representation pooled pooled+scores" in note for note in said)


def test_who_asks_for_scores_gets_them():
    plan = plan_of(TrainConfig(device="cpu", representation=("pooled", "pooled+scores")), problem(6))
    assert plan.config.representation == ("pooled", "pooled+scores")
    assert not plan.notes


def test_a_store_of_global_tokens_alone_has_no_regions():
    whole = problem(FEWEST_FOR_SCORES)
    alone = replace(whole, features=whole.features[:, :1])
    assert plan_of(TrainConfig(device="cpu"), alone).config.representation == ("pooled",)
    expected = torch.from_numpy(whole.features[:5, 0])
    assert torch.equal(read_store(alone.features, np.arange(5), ["mean"], None)["mean"], expected)
