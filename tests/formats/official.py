"""Generated features of an official shape for a real split file: for memory and seconds, never for accuracy."""

from pathlib import Path
from shutil import copyfile

import numpy as np
from scipy.io import loadmat, savemat

from dkgzsl.data.catalog import lookup

_BLOCK = 2048


def write_official_shape(
    folder: Path,
    name: str,
    split_file: Path,
    *,
    channels: int = 2048,
    dtype: str = "float32",
    spread: float = 0.5,
    seed: int = 0,
) -> Path:
    """Write `<folder>/<name>/res101.mat` and `att_splits.mat`, the latter a copy of the real one.

    Labels fit the split and its lists: classes are drawn into training, validation and unseen ones as many as the
    catalogue says. A class's features are Gaussian around a random projection of its attributes, cut off at 0.
    Peak memory is about twice the feature matrix.
    """
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    copyfile(split_file, target / "att_splits.mat")
    split, entry = loadmat(split_file), lookup(name)
    rng = np.random.default_rng(seed)
    labels = _labels(split, entry, rng)
    attributes = split["att"].T
    means = attributes @ rng.standard_normal((attributes.shape[1], channels)) * 2
    features = np.empty((channels, entry.images), dtype, order="F")
    for start in range(0, entry.images, _BLOCK):
        rows = means[labels[start : start + _BLOCK]]
        features[:, start : start + len(rows)] = np.maximum(0, rows + spread * rng.standard_normal(rows.shape)).T
    savemat(target / "res101.mat", {"features": features, "labels": labels[:, None] + 1.0})
    return target


def _labels(split, entry, rng) -> np.ndarray:
    order = rng.permutation(entry.classes)
    sizes = (entry.train_classes, entry.validation_classes, entry.unseen_classes)
    train, val, unseen = np.split(order, np.cumsum(sizes)[:-1])
    positions = {key: split[key].ravel().astype(int) - 1 for key in split if key.endswith("_loc")}
    labels = np.full(entry.images, -1)
    for part in ("trainval_loc", "test_seen_loc"):  # each class stands in both
        for classes, listed in ((train, "train_loc"), (val, "val_loc")):
            images = np.intersect1d(positions[part], positions[listed])
            labels[images] = classes[np.arange(len(images)) % len(classes)]
    labels[positions["test_unseen_loc"]] = unseen[np.arange(len(positions["test_unseen_loc"])) % len(unseen)]
    assert (labels >= 0).all()
    return labels
