"""The pure module against the package's own way from pixels to probabilities, before any graph is made."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("timm", reason="the extra `images` is not installed")

from dkgzsl.errors import RunError
from dkgzsl.inference.export.modules import PixelTokens, denoised_regions, recognition_module
from dkgzsl.methods.base import SavedModel
from dkgzsl.representation.blocks import VisualFeatures
from dkgzsl.representation.feature_denoising import FeatureDenoising
from inference.worlds_of_photos import (
    ATTRIBUTES,
    KINDS,
    expected_of_tokens,
    fitted,
    photos,
    recognizer,
    stored_tokens,
)

BLOCKS = [
    ("pooled",), ("mean",), ("maximum",), ("generalised",), ("refined",), ("scores",),
    ("pooled", "scores"), ("mean", "maximum", "generalised", "refined"),
]  # fmt: skip


class NotExportable:
    """A model without the capability."""

    seen = unseen = torch.arange(2)
    semantics = torch.zeros(4, 1)

    def scores(self, features):
        return features

    conventional_scores = scores

    def save(self) -> SavedModel:
        return SavedModel("nearest", {}, {})

    @classmethod
    def load(cls, saved: SavedModel) -> "NotExportable":
        return cls()


def compare(world, made=None) -> None:
    """Pixels to tokens, and tokens to probabilities, each by the module and by the package.

    Tokens are rounded to half precision. The module computes them in another layout of memory, so a token may fall
    on the other side of a rounding boundary: one step of half precision. It has moved a probability by 1.5e-5 on
    one processor and by 8e-6 on another. From the same tokens both ways are within 2e-6 of float64.
    """
    pixels, made = photos(12), made or recognizer(world)
    reader = PixelTokens(world.backbone)
    with torch.inference_mode():
        tokens = reader(torch.from_numpy(pixels))
        probabilities, score = (
            found.numpy() for found in recognition_module(made, reader)(torch.from_numpy(pixels))
        )
    ours, stored = tokens.numpy(), stored_tokens(world.backbone, pixels).numpy()
    step = np.spacing(np.maximum(np.abs(ours), np.abs(stored)).astype(np.float16)).astype(np.float32)
    assert (np.abs(ours - stored) <= step).all()
    assert (ours != stored).mean() < 0.01
    theirs, their_score = expected_of_tokens(made, tokens)
    assert probabilities.shape == (12, len(made.known_names))
    np.testing.assert_allclose(probabilities, theirs, atol=1e-5)
    np.testing.assert_allclose(score, their_score, rtol=1e-4)
    np.testing.assert_array_equal(probabilities.argmax(1), theirs.argmax(1))
    assert theirs.max(1).std() > 1e-3, "every image alike would prove nothing"


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
def test_every_block(blocks) -> None:
    compare(fitted("test_resnet", blocks))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(kind) -> None:
    compare(fitted("test_resnet", kind=kind))


@pytest.mark.parametrize("attention", ["on", "off"])
def test_with_the_denoising_encoder(attention) -> None:
    compare(fitted("test_resnet", ("pooled", "refined"), denoising="untrained", attention=attention))


def test_a_transformer_with_signed_features() -> None:
    compare(fitted("test_vit", ("pooled", "maximum", "scores")))


@pytest.mark.parametrize("kind", ["density", "balanced"])
def test_classes_that_were_added_and_removed(kind) -> None:
    world = fitted("test_resnet", kind=kind)
    vector = np.random.default_rng(0).normal(size=ATTRIBUTES)
    made = recognizer(world).with_class("new bird", vector).without_class("bird 6").without_class("bird 1")
    assert made.known_names == ("bird 0", "bird 2", "bird 3", "bird 4", "bird 5", "bird 7", "new bird")
    compare(world, made)


def test_a_class_number_outside_the_task_has_no_column() -> None:
    world = fitted("test_resnet")
    made = recognizer(world)
    model = made.model.with_classes(made.model.semantics, torch.tensor([5, 7]))
    compare(world, replace(made, model=model))


def test_a_class_with_a_few_photos() -> None:
    world = fitted("test_resnet", kind="balanced")
    model = world.model.with_photos(6, stored_tokens(world.backbone, photos(24)[6::8])[:, 0])
    compare(world, replace(recognizer(world), model=model))
    assert model.photos is not None


def test_vectors_are_enough_where_pooled_features_are_taken() -> None:
    world = fitted("test_resnet")
    made = recognizer(world)
    tokens = stored_tokens(world.backbone, photos(12))
    with torch.inference_mode():
        probabilities = recognition_module(made, None)(tokens[:, 0])[0].numpy()
    np.testing.assert_allclose(probabilities, made.probabilities(tokens), atol=1e-5)


def test_what_cannot_be_exported_is_refused() -> None:
    made = recognizer(fitted("test_resnet", ("pooled", "mean")))
    several = VisualFeatures(("pooled", "extra"), made.visual.scaling, None)
    with pytest.raises(RunError, match="several backbones"):
        recognition_module(replace(made, visual=several), None)
    with pytest.raises(RunError, match=r"this model \(nearest\) cannot be exported\n.*--method .*closed-form"):
        recognition_module(replace(made, model=NotExportable()), None)


def test_denoised_regions_where_the_cleaning_takes_some_away() -> None:
    torch.manual_seed(0)
    layer = FeatureDenoising(12, (7, 7), 3).eval()
    tokens = torch.randn(20, 50, 12) * torch.linspace(0.1, 40, 20)[:, None, None]
    with torch.no_grad():
        theirs = layer(tokens)
        ours = denoised_regions(layer, tokens)
    torch.testing.assert_close(ours, theirs.regions)
    dropped = (theirs.saliency == 0).float().mean()
    assert 0.02 < dropped < 0.98
