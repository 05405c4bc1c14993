"""Parts of training: random streams by name, evaluation epochs, batches."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def seeded(seed: int, *place: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator for one place in a run, such as an epoch: independent of what was drawn elsewhere.

    Args:
        seed: the run's seed, 0 or more.
        place: integers that name the place, each 0 or more.
        device: where the generator draws; another kind of device gives other numbers for the same place.
    """
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def is_evaluation_epoch(epoch: int) -> bool:
    """Whether an epoch is 2^k or 3 * 2^k: evaluations are dense at first, where models change most, and few later.

    Args:
        epoch: 1 or more.
    """
    power: int = epoch & -epoch
    return epoch // power in (1, 3)


@dataclass(frozen=True)
class Batches:
    """Batches of images, a row each.

    Attributes:
        images: positions of the batch's images.
        labels: their classes.
        classes: the different classes of the batch, padded to the width of the widest batch by one of them.
        slots: for each image, the column of its class in `classes`; never one of the padding.
    """

    images: Int[Tensor, "batches size"]
    labels: Int[Tensor, "batches size"]
    classes: Int[Tensor, "batches width"]
    slots: Int[Tensor, "batches size"]


def draw_batches(labels: Int[Tensor, " images"], *, number: int, size: int, random: torch.Generator) -> Batches:
    """Draw batches: permutations of the images, one after the other, cut into batches.

    The released code draws every batch independently; with permutations no image is left out. The function waits
    for the device once.

    Args:
        labels: class of each image.
        number: of batches.
        size: images a batch.
        random: on the device of `labels`, where the result is, too.
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
