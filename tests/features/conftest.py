"""Photos made on the spot, and a small backbone with random weights."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

pytest.importorskip("timm", reason="the extra `images` is not installed")

from PIL import Image

from dkgzsl.features.backbones import Backbone, build_backbone
from dkgzsl.features.extraction import ImageList


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_backbone() -> Backbone:
    return build_backbone("test_resnet", image_size=64, random_seed=0)


@pytest.fixture
def photos(tmp_path) -> Callable[[int], ImageList]:
    """Makes `number` JPEG files of different sizes in two classes."""

    def make(number: int) -> ImageList:
        root = tmp_path / "photos"
        root.mkdir()
        rng = np.random.default_rng(0)
        paths = []
        for k in range(number):
            size = (80 + 3 * (k % 7), 70 + 2 * (k % 5), 3)
            paths.append(f"{k:03}.jpg")
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(root / paths[-1])
        return ImageList("photos", root, paths, [k % 2 for k in range(number)], ["cat", "dog"])

    return make
