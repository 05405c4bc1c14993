"""A small zero-shot data set as plain arrays; tests break it and write it in each format."""

from dataclasses import dataclass, field, replace

import numpy as np

CLASSES, PER_CLASS, CHANNELS, ATTRIBUTES = 7, 10, 5, 4


@dataclass(frozen=True)
class Toy:
    """Labels and positions from 0; `tables` by key of the file, [K, S]."""

    features: np.ndarray
    labels: np.ndarray
    att: np.ndarray
    original_att: np.ndarray | None
    class_names: tuple[str, ...] | None
    parts: dict[str, np.ndarray] = field(default_factory=dict)

    def but(self, **changes) -> "Toy":
        return replace(self, **changes)

    def with_parts(self, **changes) -> "Toy":
        return replace(self, parts={**self.parts, **changes})


def toy(*, regions: int | None = None, seed: int = 0) -> Toy:
    """Seven classes of ten images in shuffled order: 0 to 4 seen (4 for validation), 5 and 6 unseen.

    As in the official files, `train` and `val` contain the seen test images.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), PER_CLASS))
    shape = (len(labels), CHANNELS) if regions is None else (len(labels), 1 + regions, CHANNELS)
    att = rng.random((CLASSES, ATTRIBUTES)) + 0.1
    of_class = [np.flatnonzero(labels == c) for c in range(CLASSES)]
    parts = {
        "trainval": rng.permutation(np.concatenate([images[:8] for images in of_class[:5]])),
        "test_seen": rng.permutation(np.concatenate([images[8:] for images in of_class[:5]])),
        "test_unseen": rng.permutation(np.concatenate(of_class[5:])),
        "train": np.flatnonzero(labels < 4),
        "val": np.flatnonzero(labels == 4),
    }
    return Toy(
        features=rng.random(shape).astype(np.float32),
        labels=labels,
        att=att / np.linalg.norm(att, axis=1, keepdims=True),
        original_att=att * 100,
        class_names=tuple(f"{c + 1:03d}.Toy_{'abcdefg'[c]}" for c in range(CLASSES)),
        parts=parts,
    )
