"""The pure module against the package's own way from pixels to probabilities, before any graph is made."""

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("timm", reason="the extra `images` is not installed")

from dkgzsl.data.number_features import image_features
from dkgzsl.data.numbers import number_images, numbers
from dkgzsl.model.feature_denoising import FeatureDenoising
from dkgzsl.use.export_module import (
    Decision,
    NumberTokens,
    PixelTokens,
    TokenFeatures,
    denoised_regions,
    scores_module,
)
from use.worlds_of_photos import KINDS, calibration, expected, fitted, photos

BLOCKS = [
    ("pooled",), ("mean",), ("maximum",), ("generalised",), ("refined",), ("scores",),
    ("pooled", "scores"), ("mean", "maximum", "generalised", "refined"),
]  # fmt: skip


def compare(world, pixels: np.ndarray) -> None:
    unseen = torch.isin(torch.cat([world.model.seen, world.model.unseen]).sort().values, world.model.unseen)
    module = nn.Sequential(
        PixelTokens(world.backbone),
        TokenFeatures(world.visual),
        scores_module(world.model),
        Decision(unseen, *calibration(world)),
    ).eval()
    with torch.inference_mode():
        probabilities, fit = (found.numpy() for found in module(torch.from_numpy(pixels)))
    theirs, their_fit = expected(world, pixels)
    np.testing.assert_allclose(probabilities, theirs, atol=1e-5)
    np.testing.assert_allclose(fit, their_fit, rtol=1e-4)
    np.testing.assert_array_equal(probabilities.argmax(1), theirs.argmax(1))
    assert theirs.max(1).std() > 1e-3, "every image alike would prove nothing"


@pytest.mark.parametrize("blocks", BLOCKS, ids="+".join)
def test_every_block(blocks) -> None:
    compare(fitted("test_resnet", blocks), photos(12))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(kind) -> None:
    compare(fitted("test_resnet", kind=kind), photos(12))


@pytest.mark.parametrize("attention", ["on", "off"])
def test_with_the_denoising_encoder(attention) -> None:
    compare(fitted("test_resnet", ("pooled", "refined"), denoising="untrained", attention=attention), photos(12))


def test_a_transformer_with_signed_features() -> None:
    compare(fitted("test_vit", ("pooled", "maximum", "scores")), photos(12))


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


def test_pictures_of_numbers() -> None:
    images = number_images()[::97]
    tokens = NumberTokens()(torch.from_numpy(images.astype(np.uint8))).numpy()
    np.testing.assert_allclose(tokens[:, 0], image_features(images), atol=2e-4)
    stored = np.asarray(numbers(regions=True).features[::97])
    np.testing.assert_allclose(tokens, stored, atol=2e-4)


def test_a_blank_picture_has_no_gradients() -> None:
    tokens = NumberTokens()(torch.zeros(1, 8, 16, dtype=torch.uint8))
    assert torch.equal(tokens, torch.zeros_like(tokens))
