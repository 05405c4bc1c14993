"""What trained methods share: random streams by name, evaluation epochs, batches."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def seeded(seed: int, *place: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one place of one seed's run, such as an epoch's number.

    Args:
        seed: the run's seed, 0 or more.
        place: whole numbers that name the place, 0 or more.
        device: where the generator draws; the same place gives other numbers on another kind of device.
    """
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def is_evaluation_epoch(epoch: int) -> bool:
    """Whether an epoch is 2^k or 3 * 2^k: evaluations are dense where models change, and few."""
    power: int = epoch & -epoch
    return epoch // power in (1, 3)


@dataclass(frozen=True)
class Batches:
    """A row a batch.

    Attributes:
        images: positions of its images.
        labels: their classes.
        classes: the different classes among them; padded, where another batch has more, by one of them.
        slots: for each image, the position of its class in `classes`; padding has none.
    """

    images: Int[Tensor, "batches size"]
    labels: Int[Tensor, "batches size"]
    classes: Int[Tensor, "batches width"]
    slots: Int[Tensor, "batches size"]


def draw_batches(labels: Int[Tensor, " images"], *, number: int, size: int, random: torch.Generator) -> Batches:
    """Draw `number` batches of `size` images: one permutation of the images after the other, cut into batches.

    The released code draws each batch afresh; by permutations no image is left out. `random` is on the device of
    `labels`, and so is the result. Waits for the device once.
    """
    rounds = ceil(number * size / len(labels))
    order = [torch.randperm(len(labels), generator=random, device=labels.device) for _ in range(rounds)]
    images = torch.cat(order)[: number * size].view(number, size)
    rows = labels[images]
    ascending, position = rows.sort(dim=1, stable=True)
    is_new = torch.ones_like(ascending)
    is_new[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    rank = is_new.cumsum(dim=1) - 1
    slots = torch.empty_like(rank).scatter_(1, position, rank)
    width = int(rank.max()) + 1
    classes = rows[:, :1].repeat(1, width).scatter_(1, rank, ascending)
    return Batches(images, rows, classes, slots)
