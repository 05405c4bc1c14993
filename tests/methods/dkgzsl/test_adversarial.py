"""The fast training against the one written after the formulas, and its own promises."""

from dataclasses import replace

import pytest
import torch
from reference_training import ReferenceTraining
from toys import Toy

from dkgzsl.errors import ConfigError
from dkgzsl.methods.dkgzsl.settings import AdversarialSettings
from dkgzsl.methods.dkgzsl.training import AdversarialTraining

SETTINGS = AdversarialSettings(
    hidden_size=16, batch_size=8, learning_rate=1e-3, fusion_learning_rate=5e-4, gamma=10.0
)
EPOCHS = 2  # 5 generator steps and 25 critic steps a pass: 100 critic steps, 20 generator steps


def pair(toy: Toy, dtype: torch.dtype) -> tuple[AdversarialTraining, ReferenceTraining]:
    features, semantics = toy.features.to(dtype), toy.semantics.to(dtype)
    fast = AdversarialTraining(features, toy.labels, semantics, SETTINGS, seed=3)
    return fast, ReferenceTraining(features, toy.labels, semantics, SETTINGS, seed=3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_a_hundred_steps_equal_the_formulas(toy: Toy, dtype: torch.dtype, tolerance: float) -> None:
    """Weights move by up to 0.1 in 100 steps of 1e-3; in float32 Adam enlarges the rounding of small gradients."""
    fast, reference = pair(toy, dtype)
    start = {name: weight.clone() for name, weight in fast.networks.state_dict().items()}
    for _ in range(EPOCHS):
        fast.train_epoch()
        reference.train_epoch()
    expected = reference.networks.state_dict()
    for name, weight in fast.networks.state_dict().items():
        if name == "critic.score.bias":  # no part of the objective: there the reference moves by rounding alone
            continue
        assert (weight - expected[name]).abs().max() < tolerance, name
        assert (weight - start[name]).abs().max() > 5e-3, f"{name} did not move"
    torch.testing.assert_close(float(fast.penalty_weight), reference.penalty_weight, rtol=1e-5, atol=0)


def test_one_critic_step_an_iteration_equals_the_formulas(toy: Toy) -> None:
    """Then the batch that guides the generator is the only one."""
    settings = replace(SETTINGS, critic_steps=1)
    features, semantics = toy.features.double(), toy.semantics.double()
    fast = AdversarialTraining(features, toy.labels, semantics, settings, seed=3)
    reference = ReferenceTraining(features, toy.labels, semantics, settings, seed=3)
    fast.train_epoch()
    reference.train_epoch()
    expected = reference.networks.state_dict()
    for name, weight in fast.networks.state_dict().items():
        assert (weight - expected[name]).abs().max() < (1e-6 if name == "critic.score.bias" else 1e-9), name


def test_figures_are_the_means_of_what_the_reference_sees(toy: Toy) -> None:
    fast, _ = pair(toy, torch.float64)
    figures = fast.train_epoch()
    assert set(figures) == {"distance", "penalty", "knowledge_loss", "generator_loss", "penalty_weight"}
    assert figures["penalty"] > 0
    assert figures["knowledge_loss"] < 0.1 * 12  # an untrained network is near 12 log 2 times 0.1


def test_the_same_seed_gives_the_same_bits_and_another_does_not(toy: Toy) -> None:
    def trained(seed: int) -> torch.Tensor:
        training = AdversarialTraining(*toy, SETTINGS, seed=seed)
        training.train_epoch()
        return training.networks.generator.visual.weight

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_restored_training_continues_bit_for_bit(toy: Toy) -> None:
    straight = AdversarialTraining(*toy, SETTINGS, seed=1)
    straight.train_epoch()
    kept = {name: tensor.clone() for name, tensor in straight.state().items()}
    straight.train_epoch()

    resumed = AdversarialTraining(*toy, SETTINGS, seed=1)
    resumed.restore(kept, epoch=1)
    resumed.train_epoch()
    for name, tensor in straight.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name


def test_a_state_of_another_size_is_refused(toy: Toy) -> None:
    other = AdversarialTraining(*toy, replace(SETTINGS, hidden_size=8), seed=1)
    with pytest.raises(ValueError, match="another size"):
        AdversarialTraining(*toy, SETTINGS, seed=1).restore(other.state(), epoch=0)


def test_bfloat16_follows_float32(toy: Toy) -> None:
    full = AdversarialTraining(*toy, SETTINGS, seed=1)
    low = AdversarialTraining(*toy, replace(SETTINGS, precision="bfloat16"), seed=1)
    expected, figures = full.train_epoch(), low.train_epoch()
    assert figures["distance"] == pytest.approx(expected["distance"], rel=0.1, abs=0.05)
    assert figures["knowledge_loss"] == pytest.approx(expected["knowledge_loss"], rel=0.02)
    assert low.networks.generator.visual.weight.dtype == torch.float32


def test_the_last_batch_need_not_be_full(toy: Toy) -> None:
    few = Toy(toy.features[:3], toy.labels[:3], toy.semantics)
    figures = AdversarialTraining(*few, SETTINGS, seed=1).train_epoch()
    assert all(value == value for value in figures.values())


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("hidden_size", 1), ("gamma", 0.0), ("fusion_weight", -0.1)]
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(SETTINGS, **{name: value})
