"""Small problems whose classes can be told from their descriptions: a linear world with noise."""

from pathlib import Path

import numpy as np

from dkgzsl.config import SoftmaxConfig
from dkgzsl.data.arrays import problem_from_arrays
from dkgzsl.data.problem import Problem
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.dkgzsl.settings import DKGZSLSettings
from formats.files import write_xlsa17
from formats.toy import Toy

CLASSES, SEEN, PER_CLASS, CHANNELS, ATTRIBUTES = 16, 12, 24, 20, 8

FEW = ClosedFormSettings(
    components=(20,),
    shrinkage=(0.5,),
    kernel_width=(0.0, 2.0),
    ridge=(0.01, 0.1),
    episodes="weights",
)
"""A handful of settings, so that a test takes a second."""

ONE_WAY = ["--closed-form.unit-length", "on", "--closed-form.seen-blend", "0"]
ONE_WAY += ["--closed-form.feature-kernel-width", "0"]
"""Flags that leave validation nothing to choose beyond what else a test names: half of a training's time."""

SMALL = DKGZSLSettings(hidden_size=32, learning_rate=5e-3, fusion_learning_rate=1e-3, gamma=1.0, evaluate_every=10)
QUICK = SoftmaxConfig(per_class=12, learning_rate=0.01, epochs=3)


def arrays(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and class descriptions."""
    rng = np.random.default_rng(seed)
    attributes = rng.random((CLASSES, ATTRIBUTES))
    means = attributes @ rng.normal(size=(ATTRIBUTES, CHANNELS))
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    features = means[labels] + 0.5 * rng.normal(size=(len(labels), CHANNELS)) + 4
    return np.abs(features).astype(np.float32), labels, attributes.astype(np.float32)


def world(seed: int = 0) -> Problem:
    """16 classes, the last four unseen, 24 images each."""
    features, labels, attributes = arrays(seed)
    return problem_from_arrays(
        features, labels, {"att": attributes}, unseen=list(range(SEEN, CLASSES)), validation_classes=[3, 7, 9]
    )


def described_by_means() -> Problem:
    """The same world, each class described by the mean that its features scatter about."""
    features, labels, attributes = arrays()
    means = attributes @ np.linalg.lstsq(attributes[labels], features - 4, rcond=None)[0] + 4
    return problem_from_arrays(
        features, labels, {"att": means}, unseen=list(range(SEEN, CLASSES)), validation_classes=[3, 7, 9]
    )


def world_folder(folder: Path) -> Path:
    """The same world as files in the xlsa17 layout."""
    features, labels, attributes = arrays()
    rng = np.random.default_rng(1)
    of_class = [rng.permutation(np.flatnonzero(labels == c)) for c in range(CLASSES)]
    trainval = np.concatenate([images[:18] for images in of_class[:SEEN]])
    parts = {
        "trainval": trainval,
        "test_seen": np.concatenate([images[18:] for images in of_class[:SEEN]]),
        "test_unseen": np.concatenate(of_class[SEEN:]),
        "train": np.flatnonzero(labels < 9),
        "val": np.flatnonzero((labels >= 9) & (labels < SEEN)),
    }
    names = tuple(f"class {c}" for c in range(CLASSES))
    write_xlsa17(folder, Toy(features, labels, attributes, None, names, parts))
    return folder
