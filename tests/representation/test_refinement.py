"""SOVR trained on a toy world: attributes that show in one region each."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from dkgzsl.config import RefinementConfig
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.representation.attribute_attention import class_scores
from dkgzsl.representation.blocks import VisualFeatures, fit_visual, read_store
from dkgzsl.representation.sovr import FeatureKind, Refiner, SavedRefiner, train_refiner

GRID, CHANNELS, ATTRIBUTES, CLASSES, EACH = (4, 5), 24, 6, 8, 12
FAST = RefinementConfig(steps=150, batch_size=16, learning_rate=1e-3)


class World:
    """Attribute i, where a class has it, adds its own direction at region 3 i of every image of the class."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.attributes = (generator.random((CLASSES, ATTRIBUTES)) < 0.5).astype(np.float32)
        self.attributes[np.arange(CLASSES), np.arange(CLASSES) % ATTRIBUTES] = 1
        self.attributes += 0.1 * generator.random((CLASSES, ATTRIBUTES), np.float32)
        self.labels = np.repeat(np.arange(CLASSES), EACH)
        directions = np.abs(generator.normal(size=(ATTRIBUTES, CHANNELS))).astype(np.float32)
        regions = np.abs(generator.normal(size=(CLASSES * EACH, GRID[0] * GRID[1], CHANNELS))).astype(np.float32)
        for image, label in enumerate(self.labels):
            for attribute in np.flatnonzero(self.attributes[label] > 0.5):
                regions[image, 3 * attribute] += 4 * directions[attribute]
        self.tokens = np.concatenate([regions.mean(axis=1, keepdims=True), regions], axis=1).astype(np.float16)
        self.vectors = generator.normal(size=(ATTRIBUTES, 7)).astype(np.float32)
        self.training = np.flatnonzero(self.labels < 6)

    def train(self, config: RefinementConfig = FAST, *, seed: int = 0, **changed: np.ndarray) -> Refiner:
        return train_refiner(
            changed.get("tokens", self.tokens),
            changed.get("labels", self.labels),
            changed.get("training", self.training),
            grid=GRID,
            attributes=changed.get("attributes", self.attributes),
            vectors=changed.get("vectors", self.vectors),
            config=config,
            seed=seed,
            record={"vectors": "random"},
        )


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def all_tokens(world: World) -> torch.Tensor:
    return torch.from_numpy(world.tokens).float()


def _read(refiner: Refiner, tokens: torch.Tensor, kind: FeatureKind) -> torch.Tensor:
    return refiner.read(tokens, [kind])[kind]


def _accuracy(refiner: Refiner, world: World, tokens: torch.Tensor) -> float:
    scores = class_scores(_read(refiner, tokens[world.training], "scores"), torch.from_numpy(world.attributes))
    return float((scores[:, :6].argmax(dim=1).numpy() == world.labels[world.training]).mean())


def test_training_learns(world: World, all_tokens: torch.Tensor) -> None:
    assert _accuracy(world.train(replace(FAST, steps=0)), world, all_tokens) < 0.5
    assert _accuracy(world.train(replace(FAST, steps=500)), world, all_tokens) > 0.9


@pytest.mark.parametrize("denoising", ["trained", "off"])
def test_the_seed_decides_everything(world: World, denoising: str) -> None:
    config = replace(FAST, steps=5, denoising=denoising)
    first, again, other = (world.train(config, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_only_training_images_and_seen_classes_are_read(world: World) -> None:
    """All else is replaced by NaN, and nothing changes."""
    config = replace(FAST, steps=5, denoising="trained")
    tokens, labels, attributes = world.tokens.copy(), world.labels.copy(), world.attributes.copy()
    held = np.setdiff1d(np.arange(len(labels)), world.training)
    tokens[held], labels[held], attributes[6:] = np.nan, 7, np.nan
    clean = world.train(config).state_dict()
    spoilt = world.train(config, tokens=tokens, labels=labels, attributes=attributes).state_dict()
    assert all(torch.equal(clean[name], spoilt[name]) for name in clean)


@pytest.mark.parametrize(("denoising", "attention"), [*product(["trained", "untrained", "off"], ["on", "off"])])
def test_every_ablation_trains_what_it_says(
    world: World, all_tokens: torch.Tensor, denoising: str, attention: str
) -> None:
    config = replace(FAST, steps=3, denoising=denoising, attention=attention)
    refiner, start = world.train(config), world.train(replace(config, steps=0))
    moved = {
        name.split(".")[0]
        for name, tensor in refiner.state_dict().items()
        if not torch.equal(tensor, start.state_dict()[name])
    }
    expected = {"denoising"} if denoising == "trained" else set()
    assert moved == expected | ({"attention_layer"} if attention == "on" else set())
    assert refiner.record["steps"] == (3 if moved else 0)
    assert refiner.record["vectors"] == "random"
    refined = _read(refiner, all_tokens, "refined")
    assert refined.shape == (96, CHANNELS)
    if denoising == "off" and attention == "off":
        torch.testing.assert_close(refined, all_tokens[:, 1:].mean(dim=1))
    if denoising == "off":
        with pytest.raises(ConfigError, match="no saliency without FDE"):
            refiner.saliency(all_tokens)
    else:
        changed = not torch.equal(refiner.saliency(all_tokens), refiner.initial_saliency(all_tokens))
        assert changed == (denoising == "trained")
    if attention == "off":
        with pytest.raises(ConfigError, match="without ARA"):
            refiner.attend(all_tokens)
        with pytest.raises(ConfigError, match="without ARA"):
            _read(refiner, all_tokens, "scores")


def test_half_precision_stays_close(world: World, all_tokens: torch.Tensor) -> None:
    config = replace(FAST, precision="bfloat16", steps=60)
    half, full = world.train(config), world.train(replace(config, precision="float32"))
    ours, theirs = (_read(one, all_tokens, "scores") for one in (half, full))
    assert ours.dtype == torch.float32
    assert float(torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1]) > 0.99
    assert not torch.equal(ours, theirs)


def test_a_saved_refiner_is_the_same_one(world: World, all_tokens: torch.Tensor) -> None:
    refiner = world.train(replace(FAST, steps=3, denoising="trained"))
    saved = refiner.save()
    loaded = Refiner.load(SavedRefiner(saved.tensors, json.loads(json.dumps(dict(saved.values)))))
    assert loaded.config == refiner.config
    assert loaded.record == refiner.record
    for kind in ("refined", "scores"):
        assert torch.equal(_read(refiner, all_tokens, kind), _read(loaded, all_tokens, kind))
    assert torch.equal(refiner.saliency(all_tokens), loaded.saliency(all_tokens))
    assert torch.equal(refiner.initial_saliency(all_tokens), loaded.initial_saliency(all_tokens))


def test_a_concatenation_is_fitted_on_training_images_alone(world: World, all_tokens: torch.Tensor) -> None:
    refiner = world.train(replace(FAST, steps=3))
    features = read_store(world.tokens, np.arange(96), ["pooled", "refined", "scores"], refiner)
    torch.testing.assert_close(features["pooled"], all_tokens[:, 0])
    torch.testing.assert_close(features["scores"], _read(refiner, all_tokens, "scores"))
    visual = fit_visual(features, world.training, blocks=["pooled", "scores"], refiner=refiner)
    together = visual(all_tokens)
    own = together[world.training]
    torch.testing.assert_close(own.mean(dim=0), torch.zeros(CHANNELS + ATTRIBUTES), atol=1e-5, rtol=0)
    variances = own.var(dim=0, correction=0)
    assert float(variances[:CHANNELS].sum()) == pytest.approx(1, rel=1e-4)
    assert float(variances[CHANNELS:].sum()) == pytest.approx(0.25, rel=1e-4)
    # Non-negative features by their square root, signed ones as they are.
    root = all_tokens[:, 0].sqrt()
    along = torch.corrcoef(torch.stack([together[:, 0], root[:, 0]]))
    assert float(along[0, 1]) == pytest.approx(1, abs=1e-5)
    saved = visual.save()
    loaded = VisualFeatures.load(SavedRefiner(saved.tensors, json.loads(json.dumps(dict(saved.values)))))
    torch.testing.assert_close(loaded(all_tokens), together)


def test_a_single_block_is_passed_on_as_it_is(world: World, all_tokens: torch.Tensor) -> None:
    features = read_store(world.tokens, np.arange(96), ["pooled"], None)
    visual = fit_visual(features, world.training, blocks=["pooled"], refiner=None)
    assert torch.equal(visual(all_tokens), all_tokens[:, 0])
    assert visual.save().values["refiner"] is None


def test_what_does_not_fit_is_an_error(world: World) -> None:
    with pytest.raises(DataError, match="do not hold one global token and 4 x 5 regions"):
        world.train(tokens=world.tokens[:, 1:])
    with pytest.raises(DataError, match="6 attributes a class, but 5 attribute vectors"):
        world.train(vectors=world.vectors[:5])
    spoilt = world.tokens.copy()
    spoilt[0, 3] = np.inf
    with pytest.raises(DataError, match="diverged at step"):
        world.train(tokens=spoilt)
