"""Pictures of numbers: those of the data set come back exactly, larger and turned ones nearly."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dkgzsl.data.numbers.dataset import number_images
from dkgzsl.data.numbers.pictures import number_picture


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
