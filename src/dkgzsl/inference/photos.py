"""From image files to features as a run was trained on, by the record that the run has of its backbone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from dkgzsl.device import device_of
from dkgzsl.errors import DataError
from dkgzsl.features.photo_files import IMAGE_SUFFIXES, as_on_disk, files_below, is_photo
from dkgzsl.features.store import stored_as
from dkgzsl.runs.model_record import RecognitionRecord

BATCH = 16
"""Photos that go through the backbone together, where nothing is said."""


@dataclass(frozen=True)
class Photos:
    """Photos that were read together.

    Attributes:
        paths: those that could be read.
        features: of them: [n, 1 + R, C] tokens, or [n, C].
        pixels: what the backbone saw of them, 0 to 255.
        unreadable: the others, and why.
    """

    paths: tuple[Path, ...]
    features: Float[np.ndarray, "photos ..."]
    pixels: UInt8[np.ndarray, "photos height width 3"]
    unreadable: tuple[tuple[Path, str], ...]


def photo_reader(
    record: RecognitionRecord, *, weights: Path | None = None, device: str | None = None
) -> PhotoReader:
    """The reader of photos that gives features as a run was trained on.

    Args:
        record: the run's.
        weights: the backbone's weights, where the run's features were extracted with a file of weights (default:
            the file that the run records).
        device: where the backbone runs (default: CUDA where there is one).

    Raises:
        ConfigError: the device is not there.
        DataError: it is not known how an image becomes such features, or the weights are missing or others.
    """
    return PhotoReader(record.images, pooled=len(record.features) == 1, weights=weights, device=device)


def list_photos(given: Sequence[Path]) -> list[Path]:
    """Image files as given, and those in given folders at any depth, links followed, sorted by name.

    Raises:
        DataError: there is no such file or folder, or a folder without images.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = [file for file in files_below(path) if is_photo(file)]
            if not inside:
                raise DataError(
                    "the folder holds no images",
                    where=str(path),
                    fix=f"images are files named {', '.join(IMAGE_SUFFIXES)}",
                )
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError("there is no such image or folder", where=str(path))
    return found


class PhotoReader:
    """Photos through the backbone that made a run's features; equal photos give equal features.

    Args:
        record: of the features, as a feature store has it.
        pooled: whether the run takes the global token alone.
        weights: the backbone's file of weights, where it had one (default: the recorded one).
        device: where the backbone runs (default: CUDA where there is one).

    Raises:
        ConfigError: the device is not there.
        DataError: the record does not say how an image becomes features, or the weights are missing or others.
    """

    def __init__(
        self,
        record: Mapping[str, Any],
        *,
        pooled: bool = False,
        weights: Path | None = None,
        device: str | None = None,
    ) -> None:
        from dkgzsl.features.backbones import rebuild_backbone
        from dkgzsl.features.extraction import Runner

        self.backbone = rebuild_backbone(record, weights=weights)
        self._pooled = pooled
        stored: torch.dtype = getattr(torch, stored_as(record))
        place = device_of(device)
        # Features that are kept in single precision were computed in single precision.
        half = place.type == "cuda" and stored == torch.float16
        self._run = Runner(self.backbone, place, torch.float16 if half else torch.float32, stored=stored)

    @property
    def device(self) -> str:
        """Kind of the device: cpu, cuda, ..."""
        return self._run.device.type

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the regions."""
        return self.backbone.grid

    def read(self, paths: Sequence[Path], *, batch_size: int = BATCH) -> Iterator[Photos]:
        """Photos in batches, in their order, decoded ahead."""
        from dkgzsl.features.extraction import bombs_as_errors, decoded

        batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
        with bombs_as_errors():
            read = decoded(batches, self.backbone, min(8, os.cpu_count() or 1))
            for batch, (pixels, files) in zip(batches, read, strict=True):
                good = [row for row, (_, why) in enumerate(files) if why is None]
                bad = tuple((batch[row], str(why)) for row, (_, why) in enumerate(files) if why is not None)
                seen = pixels[good]
                yield Photos(
                    paths=tuple(batch[row] for row in good),
                    features=self.features(seen),
                    pixels=seen.transpose(0, 2, 3, 1),
                    unreadable=bad,
                )

    def features(self, pixels: UInt8[np.ndarray, "photos 3 height width"]) -> Float[np.ndarray, "photos ..."]:
        """Features of photos that are resized already, at the precision of those trained on."""
        if not len(pixels):
            tokens = np.zeros((0, 1 + self.backbone.regions, self.backbone.channels), np.float32)
        else:
            tokens = self._run(pixels).astype(np.float32)
        return tokens[:, 0] if self._pooled else tokens


def refuse_unseen(unreadable: Sequence[tuple[Path, str]]) -> None:
    """That a worker of a cluster has all photos that this machine has.

    Args:
        unreadable: what the worker could not read, and why.

    Raises:
        DataError: it lacks one.
    """
    for path, why in unreadable:
        if why.startswith("cannot be opened") and os.access(as_on_disk(path), os.R_OK):
            raise DataError(
                f"a worker of the cluster cannot read a photo that this machine has: {path.name} {why}",
                where=str(path.parent),
                fix="put the photos where every machine has them under the same path, such as a shared folder",
            )
