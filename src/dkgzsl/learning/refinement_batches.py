"""Class-balanced batches for SOVR's training."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from jaxtyping import Integer


def balanced_positions(
    labels: Integer[np.ndarray, " images"], *, batch_size: int, steps: int, seed: int
) -> Iterator[Integer[np.ndarray, " batch"]]:
    """Positions for `steps` batches in which every class comes equally often, however few images it has.

    Classes come in an endless series of shuffles, and so do the images of each class: a class is drawn again
    only when every other has been, an image only when every other of its class has been.
    """
    generator = np.random.default_rng(seed)

    def shuffles(values: np.ndarray) -> Iterator[int]:
        while True:
            yield from generator.permutation(values)

    images = {int(c): shuffles(np.flatnonzero(labels == c)) for c in np.unique(labels)}
    classes = shuffles(np.array(list(images)))
    for _ in range(steps):
        yield np.array([next(images[int(c)]) for c in islice(classes, batch_size)])
