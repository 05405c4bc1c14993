"""What a stage of `speed.py` is, and the sizes that it is measured at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stage:
    """One stage, ready to run.

    Attributes:
        size: in a few words.
        package: runs it as the package does.
        reference: runs it as a plain loop does.
        reference_is: what the plain loop is, in a few words.
        limits: work that the stage cannot do without, by name; the slowest of them is the limit.
        warm_up: whether a first turn does not count.
    """

    size: str
    package: Callable[[], object]
    reference: Callable[[], object]
    reference_is: str
    limits: Mapping[str, Callable[[], object]]
    warm_up: bool = True


@dataclass(frozen=True)
class Sizes:
    """Sizes of the data and of the networks.

    Attributes:
        images: training images.
        seen: classes with images.
        unseen: classes without.
        visual: size of a feature.
        semantic: size of a class description.
        hidden: width of the published networks.
        batch: images a step.
        per_class: features synthesized for each unseen class.
        solved: images and size of the features that the closed form explores, fits and scores.
        photos: number, and side in pixels of the backbone's images.
        backbone: timm's name.
        tokens: images, tokens and channels of the store.
    """

    images: int
    seen: int
    unseen: int
    visual: int
    semantic: int
    hidden: int
    batch: int
    per_class: int
    solved: tuple[int, int]
    photos: tuple[int, int]
    backbone: str
    tokens: tuple[int, int, int]


SIZES = {
    "full": Sizes(7057, 150, 50, 768, 1024, 4096, 128, 500, (5000, 512), (32, 224), "resnet50", (400, 50, 2048)),
    "quick": Sizes(96, 12, 4, 24, 16, 32, 16, 10, (240, 24), (4, 64), "resnet18", (12, 5, 32)),
}


def products(
    shapes: Mapping[tuple[int, int, int], int], dtype: torch.dtype = torch.float32
) -> Callable[[], object]:
    """Bare matrix products [m, k] x [k, n] into memory that is there already.

    Args:
        shapes: how many of each (m, k, n).
        dtype: of the matrices.
    """
    matrices: list[tuple[Tensor, Tensor, Tensor, int]] = [
        (torch.rand(m, k).to(dtype), torch.rand(k, n).to(dtype), torch.empty(m, n, dtype=dtype), times)
        for (m, k, n), times in shapes.items()
    ]

    def run() -> None:
        for left, right, out, times in matrices:
            for _ in range(times):
                torch.mm(left, right, out=out)

    return run
