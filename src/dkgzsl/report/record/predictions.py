"""What a model answered, image by image: all that the curve, the figures and the confusions follow from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from dkgzsl.evaluation.metrics import Margins, Scored, per_class_accuracy

Images = Integer[np.ndarray, " images"]


@dataclass(frozen=True)
class Answers:
    """Scores of held-out images, reduced to their best seen and best unseen class.

    No figure needs more: a constant on the unseen scores only ever decides between these two.

    Attributes:
        images: positions in the problem.
        labels: the images' classes.
        best_seen: the seen class with the highest score.
        best_unseen: the unseen class with the highest score.
        margins: score of the former less that of the latter.
        conventional: the best class among the unseen ones (CZSL).
        is_unseen: which classes are unseen.
    """

    images: Images
    labels: Images
    best_seen: Images
    best_unseen: Images
    margins: Float[np.ndarray, " images"]
    conventional: Images
    is_unseen: Bool[np.ndarray, " classes"]

    @classmethod
    def of(cls, scored: Scored, images: Images) -> Answers:
        """Reduce the scores of the images at the given positions."""
        margins = Margins.of(scored.scores.astype(np.float64), scored.is_unseen)
        return cls(
            images=np.asarray(images, dtype=np.int64),
            labels=scored.labels,
            best_seen=margins.best_seen,
            best_unseen=margins.best_unseen,
            margins=margins.lead,
            conventional=scored.conventional.argmax(1),
            is_unseen=scored.is_unseen,
        )

    def scored(self) -> Scored:
        """Scores that lead to the same figures: those of the two best classes, all others minus infinity."""
        rows = np.arange(len(self.labels))
        scores = np.full((len(rows), len(self.is_unseen)), -np.inf)
        conventional = scores.copy()
        scores[rows, self.best_unseen] = 0.0
        scores[rows, self.best_seen] = self.margins
        conventional[rows, self.conventional] = 0.0
        return Scored(scores, conventional, self.labels, self.is_unseen)

    def predicted(self, constant: float | None) -> Images:
        """The class told for each image with `constant` on the unseen scores (None: raw, no constant)."""
        # Where both score alike the lower class number is told, as by an argmax over all classes.
        lead = self.margins - (constant or 0.0)
        is_seen = (lead > 0) | ((lead == 0) & (self.best_seen < self.best_unseen))
        return np.where(is_seen, self.best_seen, self.best_unseen)

    def tensors(self) -> dict[str, Tensor]:
        """As tensors of a file; class and image numbers take four bytes."""
        arrays = {name: torch.from_numpy(getattr(self, name).astype(np.int32)) for name in _NUMBERS}
        return {
            **arrays,
            "margins": torch.from_numpy(self.margins),
            "is_unseen": torch.from_numpy(self.is_unseen.astype(np.uint8)),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Answers:
        """What `tensors` made."""
        return cls(
            **{name: tensors[name].numpy().astype(np.int64) for name in _NUMBERS},
            margins=tensors["margins"].numpy(),
            is_unseen=tensors["is_unseen"].numpy().astype(bool),
        )


_NUMBERS = ("images", "labels", "best_seen", "best_unseen", "conventional")


@dataclass(frozen=True)
class Confusion:
    """Images of one class that were taken for another.

    Attributes:
        true: their class.
        told: the class they were taken for.
        images: their positions in the problem.
        of: held-out images of the class.
    """

    true: int
    told: int
    images: tuple[int, ...]
    of: int


def confusions(answers: Answers, constant: float | None) -> list[Confusion]:
    """All confusions, those first that take the largest share of a class's images, then the more images."""
    told = answers.predicted(constant)
    wrong = told != answers.labels
    counts = np.bincount(answers.labels, minlength=len(answers.is_unseen))
    pairs, which = np.unique(np.stack([answers.labels[wrong], told[wrong]], 1), axis=0, return_inverse=True)
    found = [
        Confusion(
            int(true),
            int(other),
            tuple(answers.images[wrong][which.ravel() == number].tolist()),
            int(counts[true]),
        )
        for number, (true, other) in enumerate(pairs)
    ]
    return sorted(found, key=lambda c: (-len(c.images) / c.of, -len(c.images), c.true, c.told))


@dataclass(frozen=True)
class Destinations:
    """Where the images of seen or unseen classes went: shares that sum to 1, every class counting alike.

    Attributes:
        right: told right.
        same_side: another class of the same kind.
        other_side: a class of the other kind.
    """

    right: float
    same_side: float
    other_side: float


def destinations(answers: Answers, constant: float | None, *, unseen: bool) -> Destinations | None:
    """Where the images of one kind of classes went; None where there are none."""
    ours = answers.is_unseen[answers.labels] == unseen
    if not ours.any():
        return None
    labels, told = answers.labels[ours], answers.predicted(constant)[ours]
    present = np.unique(labels)
    right = float(per_class_accuracy(told, labels, present).mean())  # as U and S are computed, to the last digit
    crossed = np.where(answers.is_unseen[told] != unseen, -1, labels)
    other_side = 1 - float(per_class_accuracy(crossed, labels, present).mean())
    return Destinations(right, max(0.0, 1 - right - other_side), other_side)


def first_of_each(answers: Answers, *, unseen: bool) -> list[int]:
    """Row of the first held-out image of each seen or unseen class, by class."""
    ours = np.flatnonzero(answers.is_unseen[answers.labels] == unseen)
    _, first = np.unique(answers.labels[ours], return_index=True)
    return [int(ours[row]) for row in first]
