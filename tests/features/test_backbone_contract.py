"""What every kind of backbone in the registry keeps to, tried on a small model of it."""

import json
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from dkgzsl.features.backbones import Backbone, build_backbone, kinds, rebuild_backbone
from dkgzsl.features.extraction import Runner, extract
from dkgzsl.features.preprocessing import Preprocessing
from dkgzsl.features.store import open_store
from dkgzsl.inference.export.modules import PixelTokens
from dkgzsl.inference.photos import PhotoReader


def tiny_clip(tmp_path_factory) -> tuple[str, dict]:
    open_clip = pytest.importorskip("open_clip", reason="the extra `clip` is not installed")
    folder = tmp_path_factory.mktemp("clip")
    vision = {"image_size": 32, "layers": 2, "width": 24, "head_width": 6, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}
    (folder / "test-contract.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return "clip:test-contract", {}


CASES: dict[str, Callable] = {
    "timm": lambda _: ("test_resnet", {"image_size": 64}),
    "clip": tiny_clip,
    "oriented-gradients": lambda _: ("oriented-gradients", {}),
}
"""By kind: the name of a small model, and the options of `build_backbone`."""


def test_every_kind_has_a_case() -> None:
    assert set(CASES) == set(kinds())


@pytest.fixture(scope="module", params=kinds())
def backbone(request, tmp_path_factory) -> Backbone:
    name, options = CASES[request.param](tmp_path_factory)
    return build_backbone(name, random_seed=0, **options)


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    return Image.fromarray(pixels)


def tokens_of(backbone: Backbone, pixels: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return backbone.tokens(backbone.preprocessing.scale(torch.from_numpy(pixels)))


def test_it_has_all_members_of_the_protocol(backbone) -> None:
    assert isinstance(backbone, Backbone)
    assert isinstance(backbone.preprocessing, Preprocessing)
    assert backbone.regions == backbone.grid[0] * backbone.grid[1]
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not backbone.model.training or not list(backbone.model.parameters())


def test_pixels_are_a_picture_of_its_size(backbone, picture) -> None:
    pixels = backbone.preprocessing.pixels(picture)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, *backbone.preprocessing.image_size)


def test_tokens_are_a_global_one_and_the_regions_image_by_image(backbone, picture) -> None:
    pixels = backbone.preprocessing.pixels(picture)
    batch = np.stack([pixels, pixels[:, ::-1].copy(), pixels])
    tokens = tokens_of(backbone, batch)
    assert tokens.shape == (3, 1 + backbone.regions, backbone.channels)
    assert torch.isfinite(tokens).all()
    torch.testing.assert_close(tokens[0], tokens[2])
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3
    torch.testing.assert_close(tokens_of(backbone, batch[1:2])[0], tokens[1], atol=1e-5, rtol=1e-4)


def test_its_record_makes_it_again(backbone, picture) -> None:
    record = json.loads(json.dumps(backbone.record()))
    assert record["grid"] == list(backbone.grid)
    assert record["preprocessing"]["image_size"] == list(backbone.preprocessing.image_size)
    assert {"crop_mode", "crop_share"} <= record["preprocessing"].keys()
    again = rebuild_backbone(record)
    assert json.loads(json.dumps(again.record())) == record
    pixels = backbone.preprocessing.pixels(picture)[None]
    torch.testing.assert_close(tokens_of(again, pixels), tokens_of(backbone, pixels))


def test_predicted_features_are_the_extracted_ones(backbone, photos, tmp_path) -> None:
    images = photos(5)
    extract(images, backbone, tmp_path / "store", batch_size=2, device="cpu")
    store = open_store(tmp_path / "store")
    assert store.grid == backbone.grid
    paths = [images.root / path for path in images.paths]
    (read,) = PhotoReader(store.record, device="cpu").read(paths)
    np.testing.assert_allclose(read.features, store.tokens, rtol=2e-3, atol=2e-3)
    assert read.pixels.shape == (5, *backbone.preprocessing.image_size, 3)
    (pooled,) = PhotoReader(store.record, pooled=True, device="cpu").read(paths)
    np.testing.assert_array_equal(pooled.features, read.features[:, 0])


def test_it_is_traced_for_the_export(backbone, picture) -> None:
    pixels = backbone.preprocessing.pixels(picture)
    batch = torch.from_numpy(np.stack([pixels, pixels[:, :, ::-1].copy()]))
    inputs = batch.permute(0, 2, 3, 1).contiguous()
    module = PixelTokens(backbone).eval()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of each size that it takes for a number
        traced = torch.jit.trace(module, inputs)
        ours = traced(inputs[[1, 0, 1]])
    run = Runner(backbone, torch.device("cpu"), torch.float32)
    theirs = run(batch[[1, 0, 1]].numpy()).astype(np.float32)
    np.testing.assert_allclose(theirs, ours.numpy(), rtol=2e-3, atol=2e-3)
