"""The three forms in which an estimator is given images: feature vectors, region tokens, and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Integer
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_consistent_length, column_or_1d, validate_data

from dkgzsl.data.problem import Features
from dkgzsl.device import device_of
from dkgzsl.errors import ConfigError, InputError, nearest
from dkgzsl.estimator.descriptions import plain
from dkgzsl.features.arrays import StoredArray
from dkgzsl.features.backbones import Backbone, build_backbone
from dkgzsl.features.extraction import ImageList, extract
from dkgzsl.features.store import open_store
from dkgzsl.inference.photos import PhotoReader
from dkgzsl.inference.recognizer import Recognizer

Form = Literal["vectors", "regions", "files"]
BLOCK: Final = 64
"""Vectors that are scored together, always so many: the order of sums, and so the last digit of a score in single
precision, would else depend on how many others come with it."""


@dataclass(frozen=True)
class Images:
    """Training images as the package takes them.

    Attributes:
        form: how they were given.
        features: vectors [N, C], or tokens [N, 1 + R, C], the global token first.
        record: what is known of the tokens' making, for the record; empty for arrays.
    """

    form: Form
    features: Features
    record: Mapping[str, Any]


def as_array(X: Any) -> Any:
    """A PyTorch tensor as an array on the CPU; anything else as it is."""
    if not isinstance(X, torch.Tensor):
        return X
    tensor = X.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _check_kinds(labels: Any) -> None:
    """That labels of any type are of one kind: None or numbers among text cannot be sorted.

    Raises:
        InputError: they are not.
    """
    if isinstance(labels, list | tuple) or getattr(labels, "dtype", None) == np.dtype(object):
        flat = list(labels)
        missing = next((at for at, one in enumerate(flat) if one is None or one != one), None)
        if missing is not None:
            raise InputError(
                f"y has no label in row {missing}: it is {flat[missing]!r}", fix="give each image a class"
            )
        texts = [isinstance(one, str) for one in flat]
        if any(texts) and not all(texts):
            odd = texts.index(not texts[0])
            raise InputError(
                f"y mixes text and other labels: {flat[0]!r} in row 0, {flat[odd]!r} in row {odd}",
                fix="name every class by text, or every class by a number",
            )


def form_of(X: Any) -> Form:
    """Which of the three forms `X` has; whatever is neither tokens nor files counts as vectors, checked later."""
    if isinstance(X, np.ndarray | StoredArray) and X.ndim == 3:
        return "regions"
    if hasattr(X, "ndim") or hasattr(X, "__array__"):
        if getattr(X, "ndim", 1) != 1:
            return "vectors"
        X = np.asarray(X)
    several = isinstance(X, Sequence | np.ndarray) and not isinstance(X, str) and len(X) > 0
    return "files" if several and all(isinstance(name, str | PurePath) for name in X) else "vectors"


def region_tokens(X: np.ndarray | StoredArray) -> Features:
    """Tokens as they are given, in memory or not, after a check of their type and of a sample of their values.

    Raises:
        InputError: they are no numbers, there is no image or no region, or a sampled image has NaN or infinity.
    """
    if X.dtype.kind not in "fiu":
        raise InputError(f"region tokens must be real numbers, not {X.dtype}")
    if 0 in X.shape or X.shape[1] < 2:
        raise InputError(
            f"region tokens [images, 1 + regions, channels] cannot have the shape {list(X.shape)}",
            fix="give the global token first, then one token a region",
        )
    sample = np.unique(np.linspace(0, len(X) - 1, _SAMPLED).astype(int))
    if not np.isfinite(np.asarray(X[sample], dtype=np.float32)).all():
        raise InputError("region tokens contain NaN or infinity", fix="extract these images again")
    return X


_SAMPLED = 64


@contextmanager
def training_images(estimator: BaseEstimator, X: Any, y: Any) -> Iterator[tuple[Images, np.ndarray]]:
    """Images and labels that `fit` was given, checked as scikit-learn checks them.

    Tokens of image files lie in a temporary store, as long as the context lasts.

    Raises:
        ValueError: they cannot be used.
        ConfigError: files are given and no backbone is named.
    """
    X, y = as_array(X), as_array(y)
    form = form_of(X)
    if y is not None:
        _check_kinds(y)
    if form == "vectors":
        features, labels = validate_data(estimator, _in_memory(X), y, dtype=np.float32)
        yield Images(form, features, {}), labels
        return
    if y is None:
        raise InputError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    labels = column_or_1d(y, warn=True)
    assert_all_finite(labels, input_name="y")
    check_consistent_length(X, labels)
    if hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    if form == "regions":
        yield Images(form, region_tokens(X), {}), labels
        return
    backbone = _backbone(estimator.backbone, estimator.weights, estimator.image_size)
    with TemporaryDirectory(prefix="dkgzsl-") as folder:
        yield _extracted(list(X), backbone, device=str(device_of(estimator.device)), folder=Path(folder)), labels


def seen_classes(labels: np.ndarray, features: Features) -> tuple[np.ndarray, Integer[np.ndarray, " images"]]:
    """Sorted labels, and each image's position among them.

    Raises:
        ValueError: they are no classes, there is one alone, or images of a class do not differ in any class.
    """
    check_classification_targets(labels)
    seen, first, positions = np.unique(labels, return_index=True, return_inverse=True)
    if len(seen) < 2:
        raise InputError(
            f"one class alone ({plain(seen[0])!r}) cannot be distinguished from others: y has no second class",
            fix="give images of two classes at least",
        )
    single = len(seen) == len(labels)
    # Of tokens, which may be far larger than memory, it is found out by the fit.
    if single or (features.ndim == 2 and np.array_equal(np.asarray(features), features[first[positions]])):
        why = "every class has a single image" if single else "all images of a class are the same"
        raise InputError(
            f"{why}: how images of a class differ is not known", fix="give two different images of one class"
        )
    return seen, positions.astype(np.int64)


def positions_of(chosen: Sequence[Any] | None, seen: np.ndarray) -> list[int] | None:
    """Positions of the labels that validation is to treat as unseen.

    Raises:
        InputError: a label is none of the seen classes.
    """
    if chosen is None:
        return None
    position = {label: number for number, label in enumerate(seen.tolist())}
    for label in map(plain, chosen):
        if label not in position:
            raise InputError(
                f"the validation class {label!r} is none of the classes of y",
                fix=nearest(str(label), map(str, position), of="classes"),
            )
    return [position[plain(label)] for label in chosen]


def feature_blocks(
    estimator: BaseEstimator, X: Any, *, form: Form, recognizer: Recognizer, reader: PhotoReader | None
) -> Iterator[tuple[np.ndarray, int]]:
    """Features of further images, block by block, and how many rows of each block are images.

    Args:
        estimator: whose feature names and number of features are checked.
        X: the images.
        form: of the images that `fit` took.
        recognizer: takes the blocks.
        reader: of files; None where X holds none.

    Raises:
        InputError: they are no images like those that `fit` took, or a file cannot be read; it is named.
    """
    X = as_array(X)
    given = form_of(X)
    if reader is not None:
        for photos in reader.read([Path(file) for file in X]):
            for path, why in photos.unreadable:
                raise InputError(f"the image cannot be read: {why}", where=str(path))
            yield photos.features, len(photos.features)
        return
    if (given == "vectors") != (form == "vectors"):
        raise InputError(f"X holds {given}, and fit took {form}", fix="give images in the form that fit took")
    if given == "vectors":
        features = validate_data(estimator, _in_memory(X), dtype=np.float32, reset=False)
    else:
        features = region_tokens(X)
        if features.shape[-1] != estimator.n_features_in_:
            raise InputError(
                f"X has {features.shape[-1]} channels, but {type(estimator).__name__} is expecting "
                f"{estimator.n_features_in_} features as input"
            )
    for start in range(0, len(features), BLOCK):
        positions = np.arange(start, min(start + BLOCK, len(features)))
        yield block_of(features, positions, recognizer), len(positions)


def block_of(features: Features, positions: np.ndarray, recognizer: Recognizer) -> np.ndarray:
    """Features of some images as the recognizer takes them; vectors are filled up with zeros to a whole block."""
    if features.ndim == 3:  # without refinement the global token is all that need be read
        return np.asarray(features[positions] if recognizer.visual is not None else features[positions, 0])
    block = np.zeros((BLOCK, features.shape[1]), np.float32)
    block[: len(positions)] = features[positions]
    return block


def _extracted(files: Sequence[str | PurePath], backbone: Backbone, *, device: str, folder: Path) -> Images:
    paths = [str(Path(file).absolute()) for file in files]
    extract(
        ImageList("files", Path(), paths, [0] * len(paths), ["any"]), backbone, folder / "store", device=device
    )
    store = open_store(folder / "store")
    for entry in store.entries:
        if entry.why is not None:
            raise InputError(f"the image cannot be read: {entry.why}", where=entry.path)
    return Images("files", store.tokens, store.provenance())


def _backbone(name: str | None, weights: str | PurePath | None, image_size: int | None) -> Backbone:
    if name is None:
        raise ConfigError(
            "image files need a backbone to become features",
            fix='name one, such as backbone="resnet101", or give features as an array',
        )
    return build_backbone(name, weights=None if weights is None else Path(weights), image_size=image_size)


def _in_memory(X: Any) -> Any:
    return np.asarray(X) if isinstance(X, StoredArray) else X
