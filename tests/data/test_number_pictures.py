"""Pictures of numbers: those of the data set come back exactly, larger and turned ones nearly; their backbone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from dkgzsl.data.numbers.dataset import number_images, numbers
from dkgzsl.data.numbers.pictures import number_picture
from dkgzsl.errors import ConfigError
from dkgzsl.features.backbones import build_backbone
from dkgzsl.inference.photos import photo_reader
from dkgzsl.runs.model_record import RecognitionRecord


def gray(values: np.ndarray) -> np.ndarray:
    return np.round(values * 255 / 16).astype(np.uint8)


@pytest.mark.parametrize("dark", [True, False])
def test_pictures_of_the_data_set_come_back_exactly(dark) -> None:
    for values in number_images()[::500]:
        pixels = 255 - gray(values) if dark else gray(values)
        assert np.array_equal(number_picture(Image.fromarray(pixels)), values)


def test_a_larger_picture_with_margins_is_near() -> None:
    for values in number_images()[:3000:300]:
        large = Image.fromarray(255 - gray(values)).resize((160, 80), Image.Resampling.NEAREST)
        framed = np.pad(np.asarray(large), 20, constant_values=250)
        found = number_picture(Image.fromarray(framed))
        assert np.corrcoef(found.ravel(), values.ravel())[0, 1] > 0.6


def test_digits_are_parted_where_there_is_no_ink() -> None:
    paper = Image.new("L", (300, 150), 255)
    draw = ImageDraw.Draw(paper)
    draw.rectangle((20, 20, 100, 130), fill=0)
    draw.line((170, 20, 170, 130), fill=0, width=14)  # left of the right half's middle, right of the picture's
    found = number_picture(paper)
    assert found[:, :8].mean() > 8
    assert found[:, 8:].max(0).nonzero()[0].size <= 2


def test_blank_paper_is_blank() -> None:
    assert not number_picture(Image.new("L", (64, 32), 255)).any()


def test_the_backbone_sees_what_the_data_set_was_made_of() -> None:
    problem, backbone = numbers(regions=True), build_backbone("oriented-gradients")
    pixels = torch.from_numpy(np.ascontiguousarray(problem.pictures[::97].transpose(0, 3, 1, 2)))
    ink = backbone.preprocessing.scale(pixels)
    np.testing.assert_array_equal(ink[:, 0].numpy(), number_images()[::97])
    np.testing.assert_allclose(backbone.tokens(ink).numpy(), np.asarray(problem.features)[::97], atol=2e-4)


def test_a_blank_picture_has_no_gradients() -> None:
    backbone = build_backbone("oriented-gradients")
    pixels = backbone.preprocessing.pixels(Image.new("RGB", (64, 32), "white"))
    assert not backbone.tokens(backbone.preprocessing.scale(torch.from_numpy(pixels[None]))).any()


def test_nothing_of_the_backbone_can_be_chosen() -> None:
    with pytest.raises(ConfigError, match="has no weights"):
        build_backbone("oriented-gradients", weights=Path("weights.safetensors"))
    with pytest.raises(ConfigError, match="only takes pictures of 8 x 16 pixels"):
        build_backbone("oriented-gradients", image_size=224)


def test_records_of_runs_made_before_the_backbone_was_one_are_read() -> None:
    problem = numbers()
    now = RecognitionRecord.of(problem, None)
    before = json.loads(json.dumps({**now.to_json(), "images": {"embedded": "numbers"}}))
    assert RecognitionRecord.from_json(before).images == now.images
    assert photo_reader(RecognitionRecord.from_json(before), device="cpu").grid == (5, 5)
