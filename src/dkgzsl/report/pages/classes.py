"""What the page shows of each class: accuracy, confusions with examples, neighbours and attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkgzsl.report import wording
from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.pages.pictures import Pictures
from dkgzsl.report.record.class_neighbours import ClassNeighbours
from dkgzsl.report.record.predictions import Predictions, confusions
from dkgzsl.report.record.record import CONFUSIONS, Record, example_of, gallery_rows
from dkgzsl.report.wording import DASH, percent

CARDS = 6
_CONFUSIONS_LISTED = 40


@dataclass(frozen=True)
class GalleryImage:
    """A test image and the model's prediction for it.

    Attributes:
        picture: the image as a `data:` address.
        true: name of its class.
        predicted: name of the predicted class.
        correct: whether the two are the same.
    """

    picture: str
    true: str
    predicted: str
    correct: bool


def gallery(record: Record, pictures: Pictures) -> list[GalleryImage]:
    """The first test image of some unseen classes, with the predictions for them; empty without images."""
    names, predictions = record.class_names, record.predictions
    predicted = predictions.predicted(record.constant)
    shown = []
    for row in gallery_rows(predictions):
        picture = pictures.thumbnail(int(predictions.images[row]))
        if picture is not None:
            true, other = int(predictions.labels[row]), int(predicted[row])
            shown.append(
                GalleryImage(picture, wording.name(names[true]), wording.name(names[other]), true == other)
            )
    return shown


@dataclass(frozen=True)
class ShownConfusion:
    """Images of one class for which the model predicted one other class.

    Attributes:
        true: name of their class.
        predicted: name of the predicted class.
        true_kind: `seen` or `unseen`.
        predicted_kind: `seen` or `unseen`.
        count: number of these images.
        of: number of test images of their class.
        share: `count` over `of`, in percent.
        picture: one of these images as a `data:` address, where images are known.
        example: a test image of the predicted class, likewise.
    """

    true: str
    predicted: str
    true_kind: str
    predicted_kind: str
    count: int
    of: int
    share: str
    picture: str | None
    example: str | None


def shown_confusions(record: Record, pictures: Pictures) -> list[ShownConfusion]:
    """The confusions with the largest shares of a class's images; the first few have pictures."""
    names, predictions = record.class_names, record.predictions
    found = []
    for number, one in enumerate(confusions(predictions, record.constant)[:_CONFUSIONS_LISTED]):
        pictured = number < CONFUSIONS
        example = example_of(predictions, one.predicted) if pictured else None
        found.append(
            ShownConfusion(
                wording.name(names[one.true]),
                wording.name(names[one.predicted]),
                _kind(predictions, one.true),
                _kind(predictions, one.predicted),
                len(one.images),
                one.of,
                percent(len(one.images) / one.of, 0),
                pictures.thumbnail(one.images[0]) if pictured else None,
                None if example is None else pictures.thumbnail(example),
            )
        )
    return found


def _kind(predictions: Predictions, label: int) -> str:
    return "unseen" if predictions.is_unseen[label] else "seen"


@dataclass(frozen=True)
class ClassRow:
    """A line of the table of classes: accuracies in percent as text; `sort` is the accuracy as a number, or -1."""

    name: str
    role: str
    images: int
    accuracy: str
    calibrated: str
    among_unseen: str
    sort: float


def class_rows(content: RunContent) -> list[ClassRow]:
    """All classes, unseen ones first, each kind from best to worst (by calibrated accuracy where there is one)."""
    rows = []
    for row in content.classes:
        values = [float(row[key]) if row.get(key) else None for key in _COLUMNS]
        raw, calibrated, among_unseen = values
        decisive = calibrated if calibrated is not None else raw
        rows.append(
            ClassRow(
                wording.name(row["class"]),
                row["role"],
                int(row["test_images"]),
                percent(raw),
                percent(calibrated),
                percent(among_unseen),
                sort=-1.0 if decisive is None else decisive,
            )
        )
    return sorted(rows, key=lambda row: (row.role != "unseen", -row.sort, row.name))


_COLUMNS = ("accuracy", "accuracy_calibrated", "accuracy_among_unseen")


def accuracies(rows: Sequence[ClassRow]) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy of each row as a fraction of 1 (NaN without test images), and whether its class is unseen."""
    values = np.array([row.sort if row.sort >= 0 else np.nan for row in rows])
    return values, np.array([row.role == "unseen" for row in rows], dtype=bool)


def hardest(rows: Sequence[ClassRow], role: str, number: int = 5) -> list[str]:
    """The classes of a kind with the lowest accuracies, as `name (72 %)`."""
    of_role = [row for row in rows if row.role == role and row.sort >= 0]
    return [
        f"{row.name} ({percent(row.sort, 0)}\u00a0%)" for row in sorted(of_role, key=lambda row: row.sort)[:number]
    ]


@dataclass(frozen=True)
class Neighbour:
    """A class near another one.

    Attributes:
        name: name of the class.
        kind: `seen` or `unseen`.
        measure: similarity or distance, as text.
    """

    name: str
    kind: str
    measure: str


@dataclass(frozen=True)
class Outstanding:
    """An attribute that stands out: name, value, standard deviations above the mean of all classes."""

    name: str
    value: str
    strength: str


@dataclass(frozen=True)
class ClassSummary:
    """Outstanding attributes and nearest classes of a class."""

    name: str
    kind: str
    attributes: list[Outstanding]
    by_description: list[Neighbour]
    by_prototype: list[Neighbour]


def class_summaries(record: Record) -> list[ClassSummary]:
    """Attributes and nearest classes of all classes, unseen ones first; empty where the record has none."""
    if record.class_neighbours is None:
        return []
    unseen = record.predictions.is_unseen
    order = [*np.flatnonzero(unseen).tolist(), *np.flatnonzero(~unseen).tolist()]
    return [_summary(record, record.class_neighbours, label) for label in order]


def cards(record: Record, summaries: Sequence[ClassSummary]) -> list[ClassSummary]:
    """The unseen classes that get a card: those on the map of the features, or else the first ones.

    Args:
        record: the record of a seed.
        summaries: of `class_summaries`.
    """
    unseen = np.flatnonzero(record.predictions.is_unseen).tolist()
    drawn = (
        [] if record.feature_map is None else list(dict.fromkeys(record.feature_map.synthesized_labels.tolist()))
    )
    return [summaries[unseen.index(label)] for label in (sorted(drawn) or unseen)[:CARDS]]


def _summary(record: Record, found: ClassNeighbours, label: int) -> ClassSummary:
    names, predictions = record.class_names, record.predictions

    def near(labels: list[int], measures: list[float], form: str) -> list[Neighbour]:
        return [
            Neighbour(wording.name(names[c]), _kind(predictions, c), form.format(value))
            for c, value in zip(labels, measures, strict=True)
            if np.isfinite(value)
        ]

    attributes = []
    if found.attributes is not None and found.values is not None and found.strengths is not None:
        attributes = [
            Outstanding(wording.printable(found.names[a]), f"{value:.3g}", f"{strength:+.1f}")
            for a, value, strength in zip(
                found.attributes[label].tolist(),
                found.values[label].tolist(),
                found.strengths[label].tolist(),
                strict=True,
            )
            if strength > 0
        ]
    by_prototype = []
    if found.by_prototype is not None and found.distances is not None:
        by_prototype = near(found.by_prototype[label].tolist(), found.distances[label].tolist(), "{:.1f}")
    return ClassSummary(
        name=wording.name(names[label]) or DASH,
        kind=_kind(predictions, label),
        attributes=attributes,
        by_description=near(found.by_description[label].tolist(), found.similarities[label].tolist(), "{:.2f}"),
        by_prototype=by_prototype,
    )
