"""What a model predicts for each image: the curve, the figures and the confusions follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from dkgzsl.evaluation.metrics import Decisions, Margins, per_class_accuracy

Images = Integer[np.ndarray, " images"]


@dataclass(frozen=True)
class Predictions:
    """Scores of held-out images, reduced to their best seen and best unseen class.

    The figures need no other score: a constant on the unseen scores decides between these two classes alone.

    Attributes:
        images: positions in the problem, from 0.
        labels: class of each image, from 0.
        best_seen: the seen class with the highest score, for each image.
        best_unseen: the unseen class with the highest score, for each image.
        margins: score of `best_seen` minus score of `best_unseen`, in the units of the model's scores.
        conventional: the class with the highest score when unseen classes alone are allowed (CZSL).
        is_unseen: whether a class is unseen, for each of the K classes.
    """

    images: Images
    labels: Images
    best_seen: Images
    best_unseen: Images
    margins: Float[np.ndarray, " images"]
    conventional: Images
    is_unseen: Bool[np.ndarray, " classes"]

    @classmethod
    def of(cls, decisions: Decisions, images: Images) -> Predictions:
        """What was decided for the images at the given positions."""
        return cls(
            images=np.asarray(images, dtype=np.int64),
            labels=decisions.labels,
            best_seen=decisions.margins.best_seen,
            best_unseen=decisions.margins.best_unseen,
            margins=decisions.margins.lead,
            conventional=decisions.conventional,
            is_unseen=decisions.is_unseen,
        )

    def decisions(self) -> Decisions:
        """As the figures take them."""
        margins = Margins(self.best_seen, self.best_unseen, self.margins)
        return Decisions(margins, self.conventional, self.labels, self.is_unseen)

    def predicted(self, constant: float | None) -> Images:
        """The predicted class of each image with `constant` on the unseen scores (None: raw, no constant)."""
        return self.decisions().predicted(constant or 0.0)

    def tensors(self) -> dict[str, Tensor]:
        """As tensors of a file; class and image numbers are stored as 32-bit integers."""
        arrays = {name: torch.from_numpy(getattr(self, name).astype(np.int32)) for name in _NUMBERS}
        return {
            **arrays,
            "margins": torch.from_numpy(self.margins),
            "is_unseen": torch.from_numpy(self.is_unseen.astype(np.uint8)),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Predictions:
        """Predictions from what `tensors` returned."""
        return cls(
            **{name: tensors[name].numpy().astype(np.int64) for name in _NUMBERS},
            margins=tensors["margins"].numpy(),
            is_unseen=tensors["is_unseen"].numpy().astype(bool),
        )


_NUMBERS = ("images", "labels", "best_seen", "best_unseen", "conventional")


@dataclass(frozen=True)
class Confusion:
    """Images of one class for which the model predicted one other class.

    Attributes:
        true: their class.
        predicted: the class that the model predicted for them.
        images: their positions in the problem.
        of: held-out images of the class.
    """

    true: int
    predicted: int
    images: tuple[int, ...]
    of: int


def confusions(predictions: Predictions, constant: float | None) -> list[Confusion]:
    """All confusions, sorted by their share of the class's images, then by their number of images."""
    predicted = predictions.predicted(constant)
    wrong = predicted != predictions.labels
    counts = np.bincount(predictions.labels, minlength=len(predictions.is_unseen))
    pairs, which = np.unique(
        np.stack([predictions.labels[wrong], predicted[wrong]], 1), axis=0, return_inverse=True
    )
    found = [
        Confusion(
            int(true),
            int(other),
            tuple(predictions.images[wrong][which.ravel() == number].tolist()),
            int(counts[true]),
        )
        for number, (true, other) in enumerate(pairs)
    ]
    return sorted(found, key=lambda c: (-len(c.images) / c.of, -len(c.images), c.true, c.predicted))


@dataclass(frozen=True)
class PredictionShares:
    """What the model predicts for images of seen (or of unseen) classes: three shares that sum to 1.

    Each share is a mean over classes, so that every class has the same weight.

    Attributes:
        correct: share with the correct class.
        same_kind: share with another class of the same kind (seen or unseen).
        other_kind: share with a class of the other kind.
    """

    correct: float
    same_kind: float
    other_kind: float


def prediction_shares(
    predictions: Predictions, constant: float | None, *, unseen: bool
) -> PredictionShares | None:
    """Shares of the predictions for one kind of classes; None where that kind has no images."""
    of_kind = predictions.is_unseen[predictions.labels] == unseen
    if not of_kind.any():
        return None
    labels, predicted = predictions.labels[of_kind], predictions.predicted(constant)[of_kind]
    present = np.unique(labels)
    # Computed as U and S are, so that the shares agree with them to the last digit.
    correct = float(per_class_accuracy(predicted, labels, present).mean())
    crossed = np.where(predictions.is_unseen[predicted] != unseen, -1, labels)
    other_kind = 1 - float(per_class_accuracy(crossed, labels, present).mean())
    return PredictionShares(correct, max(0.0, 1 - correct - other_kind), other_kind)


def first_of_each(predictions: Predictions, *, unseen: bool) -> list[int]:
    """Row of the first held-out image of each seen (or of each unseen) class, in the order of the classes."""
    rows = np.flatnonzero(predictions.is_unseen[predictions.labels] == unseen)
    _, first = np.unique(predictions.labels[rows], return_index=True)
    return [int(rows[place]) for place in first]
