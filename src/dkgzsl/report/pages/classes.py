"""What the page says class by class: accuracies, confusions with examples, what the model knows of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkgzsl.report import wording
from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.pages.pictures import Pictures
from dkgzsl.report.record.class_neighbours import Acquaintance
from dkgzsl.report.record.predictions import Answers, confusions
from dkgzsl.report.record.record import CONFUSIONS, Record, example_of, gallery_rows
from dkgzsl.report.wording import DASH, percent

CARDS = 6
_CONFUSIONS_LISTED = 40


@dataclass(frozen=True)
class Shown:
    """A test image and what was told of it.

    Attributes:
        picture: its address, or None.
        true: its class.
        told: the class told.
        right: whether they are the same.
        told_unseen: whether the class told is an unseen one.
    """

    picture: str | None
    true: str
    told: str
    right: bool
    told_unseen: bool


def gallery(record: Record, pictures: Pictures) -> list[Shown]:
    """The first test image of some unseen classes, with what was told of it; empty without images."""
    told = record.answers.predicted(record.constant)
    names, answers = record.class_names, record.answers
    shown = []
    for row in gallery_rows(answers):
        picture = pictures.thumbnail(int(answers.images[row]))
        if picture is not None:
            true, other = int(answers.labels[row]), int(told[row])
            shown.append(
                Shown(
                    picture,
                    wording.name(names[true]),
                    wording.name(names[other]),
                    true == other,
                    bool(answers.is_unseen[other]),
                )
            )
    return shown


@dataclass(frozen=True)
class ShownConfusion:
    """Images of one class that were taken for another.

    Attributes:
        true: their class.
        told: what they were taken for.
        true_kind: `seen` or `unseen`.
        told_kind: likewise.
        count: how many images.
        of: test images of the class.
        share: in percent.
        picture: one of them, where images are known.
        example: a test image of the class told.
    """

    true: str
    told: str
    true_kind: str
    told_kind: str
    count: int
    of: int
    share: str
    picture: str | None
    example: str | None


def shown_confusions(record: Record, pictures: Pictures) -> list[ShownConfusion]:
    """The confusions that take the largest shares of a class; the first few with pictures."""
    names, answers = record.class_names, record.answers
    found = []
    for number, one in enumerate(confusions(answers, record.constant)[:_CONFUSIONS_LISTED]):
        pictured = number < CONFUSIONS
        example = example_of(answers, one.told) if pictured else None
        found.append(
            ShownConfusion(
                wording.name(names[one.true]),
                wording.name(names[one.told]),
                _kind(answers, one.true),
                _kind(answers, one.told),
                len(one.images),
                one.of,
                percent(len(one.images) / one.of, 0),
                pictures.thumbnail(one.images[0]) if pictured else None,
                None if example is None else pictures.thumbnail(example),
            )
        )
    return found


def _kind(answers: Answers, label: int) -> str:
    return "unseen" if answers.is_unseen[label] else "seen"


@dataclass(frozen=True)
class ClassRow:
    """A line of the table of classes; accuracies in percent, `sort` a fraction for the order."""

    name: str
    role: str
    images: int
    accuracy: str
    calibrated: str
    among_unseen: str
    sort: float


def class_rows(content: RunContent) -> list[ClassRow]:
    """Every class, unseen ones first, each kind from best to worst by the decision that the page shows."""
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
    """Accuracy of each row by the page's decision (NaN without images), and whether it is unseen."""
    values = np.array([row.sort if row.sort >= 0 else np.nan for row in rows])
    return values, np.array([row.role == "unseen" for row in rows], dtype=bool)


def hardest(rows: Sequence[ClassRow], role: str, number: int = 5) -> list[str]:
    """The classes of a kind with the lowest accuracies, each with its own."""
    ours = [row for row in rows if row.role == role and row.sort >= 0]
    return [
        f"{row.name} ({percent(row.sort, 0)}\u00a0%)" for row in sorted(ours, key=lambda row: row.sort)[:number]
    ]


@dataclass(frozen=True)
class Near:
    """A near class.

    Attributes:
        name: of the class.
        kind: `seen` or `unseen`.
        measure: similarity or distance, as text.
    """

    name: str
    kind: str
    measure: str


@dataclass(frozen=True)
class Outstanding:
    """An attribute that stands out: its name, the table's value, deviations above the mean of all classes."""

    name: str
    value: str
    strength: str


@dataclass(frozen=True)
class Known:
    """What the model knows of a class."""

    name: str
    kind: str
    attributes: list[Outstanding]
    by_description: list[Near]
    by_prototype: list[Near]


def known_classes(record: Record) -> list[Known]:
    """What the model knows of every class, unseen ones first."""
    if record.acquaintance is None:
        return []
    unseen = record.answers.is_unseen
    order = [*np.flatnonzero(unseen).tolist(), *np.flatnonzero(~unseen).tolist()]
    return [_known(record, record.acquaintance, label) for label in order]


def cards(record: Record, known: Sequence[Known]) -> list[Known]:
    """Some unseen classes to show in full: those of the map, or the first."""
    unseen = np.flatnonzero(record.answers.is_unseen).tolist()
    drawn = [] if record.feature_map is None else list(dict.fromkeys(record.feature_map.made_labels.tolist()))
    return [known[unseen.index(label)] for label in (sorted(drawn) or unseen)[:CARDS]]


def _known(record: Record, found: Acquaintance, label: int) -> Known:
    names, answers = record.class_names, record.answers

    def near(labels: list[int], measures: list[float], form: str) -> list[Near]:
        return [
            Near(wording.name(names[c]), _kind(answers, c), form.format(value))
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
    return Known(
        name=wording.name(names[label]) or DASH,
        kind=_kind(answers, label),
        attributes=attributes,
        by_description=near(found.by_description[label].tolist(), found.similarities[label].tolist(), "{:.2f}"),
        by_prototype=by_prototype,
    )
