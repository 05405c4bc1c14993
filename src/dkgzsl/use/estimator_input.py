"""The three forms in which an estimator is given images: feature vectors, region tokens, and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from dkgzsl.data.feature_store import open_store
from dkgzsl.data.listed_images import ImageList
from dkgzsl.data.problem import Features
from dkgzsl.data.stored_array import StoredArray
from dkgzsl.errors import ConfigError, InputError
from dkgzsl.features.backbones import Backbone, build_backbone
from dkgzsl.features.extraction import extract

Form = Literal["vectors", "regions", "files"]


@dataclass(frozen=True)
class Images:
    """Images as the package takes them.

    Attributes:
        form: how they were given.
        features: vectors [N, C], or tokens [N, 1 + R, C], the global token first.
        record: what is known of the tokens' making, for the record; empty for arrays.
    """

    form: Form
    features: Features
    record: Mapping[str, Any]


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
    """Tokens as they are given, in memory or not, after a look at their type and a sample of their values.

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
def tokens_of_files(files: Sequence[str | PurePath], backbone: Backbone, device: str) -> Iterator[Images]:
    """Tokens of image files, in a temporary store that lasts as long as the context.

    Raises:
        InputError: a file is missing or cannot be read as an image; it is named.
    """
    paths = [str(Path(file).absolute()) for file in files]
    listed = ImageList("files", Path(), paths, [0] * len(paths), ["any"])
    with TemporaryDirectory(prefix="dkgzsl-") as folder:
        extract(listed, backbone, Path(folder) / "store", device=device)
        store = open_store(Path(folder) / "store")
        for entry in store.entries:
            if entry.why is not None:
                raise InputError(f"the image cannot be read: {entry.why}", where=entry.path)
        yield Images("files", store.tokens, store.provenance())


def backbone_for(name: str | None, weights: str | PurePath | None, image_size: int | None) -> Backbone:
    """The backbone that files go through.

    Raises:
        ConfigError: none is named, or it cannot be built.
        DataError: its weights cannot be had.
    """
    if name is None:
        raise ConfigError(
            "image files need a backbone to become features",
            fix='name one, such as backbone="resnet101", or give features as an array',
        )
    return build_backbone(name, weights=None if weights is None else Path(weights), image_size=image_size)
