"""f-CLSWGAN and f-VAEGAN-D2: the fast training against the one written after the formulas, and what each has."""

from dataclasses import replace

import pytest
import torch
from generative_makers import ADVERSARIAL as METHODS
from reference_wasserstein import ReferenceTraining

from dkgzsl.errors import ConfigError
from dkgzsl.methods.base import Task
from dkgzsl.methods.peers.f_clswgan import ClassificationTraining
from dkgzsl.methods.peers.f_vaegan import AutoencodingTraining


@pytest.mark.parametrize("name", METHODS)
def test_forty_steps_equal_the_formulas(task: Task, name: str) -> None:
    method = METHODS[name](seed=3)
    fast, start = method.begin(task, {}), method.begin(task, {})
    first = {name: weight.clone() for name, weight in fast.generator.state_dict().items()}
    reference = ReferenceTraining(start)
    for epoch in range(2):
        fast.train_epoch()
        reference.train_epoch(epoch)
    for network in ("generator", "critic", "encoder"):
        if network == "encoder" and name != "f-vaegan-d2":
            continue
        expected = getattr(start, network).state_dict()
        for key, weight in getattr(fast, network).state_dict().items():
            if (network, key) == ("critic", "score.bias"):  # no part of the objective
                continue
            assert (weight - expected[key]).abs().max() < 1e-9, f"{network}.{key}"
    moved = [(weight - first[key]).abs().max() for key, weight in fast.generator.state_dict().items()]
    assert min(moved) > 5e-3


@pytest.mark.parametrize("name", METHODS)
def test_figures_are_means_over_the_steps(task: Task, name: str) -> None:
    figures = METHODS[name]().begin(task, {}).train_epoch()
    assert set(figures) == {"distance", "penalty", "adversarial_loss", "added_loss"}
    assert 0 < figures["penalty"] < 1  # slopes are near 0 at first, where the penalty is 1
    untrained = 0.5 * torch.log(torch.tensor(5.0)) if name == "f-clswgan" else 12 * torch.log(torch.tensor(2.0))
    assert figures["added_loss"] == pytest.approx(float(untrained), rel=0.35)


def test_the_kept_softmax_knows_the_seen_classes_and_is_kept(task: Task) -> None:
    training = METHODS["f-clswgan"]().begin(task, {})
    assert isinstance(training, ClassificationTraining)
    before = training.kept.weight.clone()
    found = training.kept.log_probabilities(training.features).argmax(1)
    assert (found == training.rows).double().mean() > 0.9
    training.train_epoch()
    assert torch.equal(training.kept.weight, before)


def test_the_encoder_learns_to_reconstruct(task: Task) -> None:
    training = METHODS["f-vaegan-d2"](hidden_size=32, learning_rate=1e-2).begin(task, {})
    assert isinstance(training, AutoencodingTraining)
    losses = [training.train_epoch()["added_loss"] for _ in range(15)]
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_follows_float32(task: Task, name: str) -> None:
    single = replace(task, features=task.features.float(), semantics=task.semantics.float())
    full = METHODS[name]().begin(single, {}).train_epoch()
    low = METHODS[name](precision="bfloat16").begin(single, {})
    figures = low.train_epoch()
    for key in ("penalty", "added_loss"):
        assert figures[key] == pytest.approx(full[key], rel=0.03)
    assert low.generator.visual.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("beta", -1.0),
        ("hidden_size", 0),
        ("learning_rate", 0.0),
        ("per_class", 0),
        ("softmax_rate", 0.0),
        ("epochs", 0),
        ("minutes", 0.0),
    ],
)
def test_settings_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=r"must be"):
        METHODS["f-clswgan"](**{option: value})
