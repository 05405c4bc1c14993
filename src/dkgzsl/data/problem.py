"""The zero-shot problem: one small structure that every part of the package takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8

from dkgzsl.display import html_card
from dkgzsl.errors import DataError, nearest
from dkgzsl.features.arrays import Features as Features

# Anonymous axes: several of these of different lengths meet in one signature.
ClassIndices = Integer[np.ndarray, " _"]
ImageIndices = Integer[np.ndarray, " _"]


@dataclass(frozen=True)
class Parts:
    """Which images serve for what; positions from 0, each image in at most one part.

    Attributes:
        trainval: images of seen classes, for training and validation.
        test_seen: images of seen classes, scored once.
        test_unseen: images of unseen classes, scored once.
        validation_classes: seen classes that validation treats as unseen, where the data set names them.
    """

    trainval: ImageIndices
    test_seen: ImageIndices
    test_unseen: ImageIndices
    validation_classes: ClassIndices | None = None

    def __repr__(self) -> str:
        return (
            f"Parts({len(self.trainval):,} trainval, {len(self.test_seen):,} test_seen, "
            f"{len(self.test_unseen):,} test_unseen)"
        )


@dataclass(frozen=True)
class Problem:
    """Features, labels, class descriptions and parts of one data set.

    Attributes:
        name: the data set's name, for people.
        features: pooled features [N, C] or region features [N, 1 + R, C] (the global token first), an array, a
            memory map or an array that stays in its file, unscaled, as the backbone gave them.
        labels: class of each image [N], from 0 to K - 1.
        class_names: K names.
        semantic_sources: class descriptions by source, each [K, S], rows in the order of `class_names`.
        semantics_name: the source in use.
        parts: the images' parts.
        provenance: what is recorded with every number: where the features, splits and semantics came from,
            the backbone, hashes of the files.
        image_files: paths of the images [N], where they are known.
        pictures: the images [N, height, width, 3] from 0 to 255, where they are small and lie in no files.
        attribute_names: names of the columns of a source, by source, where they are known.
        attribute_vectors: word vectors of the named attributes [M, 300], where the data set brings them.
    """

    name: str
    features: Features
    labels: Integer[np.ndarray, " images"]
    class_names: tuple[str, ...]
    semantic_sources: Mapping[str, Float[np.ndarray, "classes semantic"]]
    semantics_name: str
    parts: Parts
    provenance: Mapping[str, Any] = field(default_factory=dict)
    image_files: tuple[str, ...] | None = None
    pictures: UInt8[np.ndarray, "_ _ _ 3"] | None = None
    attribute_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attribute_vectors: Float[np.ndarray, "attributes vector"] | None = None

    @property
    def semantics(self) -> Float[np.ndarray, "classes semantic"]:
        """The class descriptions in use [K, S]."""
        return self.semantic_sources[self.semantics_name]

    @property
    def seen_classes(self) -> ClassIndices:
        """Classes with training images, ascending."""
        return np.unique(self.labels[self.parts.trainval])

    @property
    def unseen_classes(self) -> ClassIndices:
        """Every other class, ascending: described, without a training image."""
        return np.setdiff1d(np.arange(len(self.class_names)), self.seen_classes)

    @property
    def has_regions(self) -> bool:
        """Whether the features are region tokens rather than one vector an image, or its global token alone."""
        return self.features.ndim == 3 and self.features.shape[1] > 1

    def __repr__(self) -> str:
        images, classes, features, semantics, _ = (value for _, value in self._facts())
        return (
            f"Problem({self.name}: {images} images, {classes} classes, features {features}, semantics {semantics})"
        )

    def _repr_html_(self) -> str:
        return html_card(f"Problem {self.name}", self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        unseen = len(self.unseen_classes)
        return [
            ("images", f"{len(self.labels):,}"),
            ("classes", f"{len(self.class_names) - unseen:,} seen + {unseen:,} unseen"),
            ("features", f"{' x '.join(map(str, self.features.shape))} {self.features.dtype}"),
            ("semantics", f"{self.semantics_name} {' x '.join(map(str, self.semantics.shape))}"),
            ("parts", repr(self.parts).removeprefix("Parts(").removesuffix(")")),
        ]

    def with_semantics(self, name: str) -> Problem:
        """The same problem described by another of its semantic sources.

        Raises:
            DataError: no source has that name.
        """
        if name not in self.semantic_sources:
            raise DataError(
                f"{self.name} has no semantics named {name!r}",
                fix=nearest(name, self.semantic_sources, of="its semantics"),
            )
        return replace(self, semantics_name=name)
