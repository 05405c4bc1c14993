"""Predictions on photos as shares of a cluster (see `dkgzsl.cluster.shares`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dkgzsl.device import fast_products
from dkgzsl.inference.photos import PhotoReader
from dkgzsl.inference.prediction import ExplainedPrediction, explained_predictions
from dkgzsl.inference.recognizer import Recognizer


@dataclass(frozen=True)
class PhotoWork:
    """What all shares have in common.

    Attributes:
        recognizer: the model.
        reader: from photos to features.
        top: classes to name.
        attributes: attributes to name, at most.
    """

    recognizer: Recognizer
    reader: PhotoReader
    top: int
    attributes: int


@dataclass(frozen=True)
class PhotoPredictions:
    """Of one share.

    Attributes:
        unreadable: photos that could not be read, and why.
        predictions: of the others, in their order.
    """

    unreadable: tuple[tuple[Path, str], ...]
    predictions: tuple[tuple[Path, ExplainedPrediction], ...]


@fast_products()
def predictions_of_share(work: PhotoWork, paths: Sequence[Path]) -> PhotoPredictions:
    """Read the photos as one batch and predict."""
    [photos] = work.reader.read(paths, batch_size=len(paths))
    found = explained_predictions(
        work.recognizer, photos.features, grid=work.reader.grid, top=work.top, attributes=work.attributes
    )
    return PhotoPredictions(photos.unreadable, tuple(zip(photos.paths, found, strict=True)))
