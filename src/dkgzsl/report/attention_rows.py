"""Photos with the attention of their strongest attributes, as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkgzsl.report import wording
from dkgzsl.report.pictures import Pictures
from dkgzsl.report.record import Record


@dataclass(frozen=True)
class Overlaid:
    """A photo under the attention of an attribute."""

    picture: str
    attribute: str
    strength: str


@dataclass(frozen=True)
class AttentionRow:
    """A photo, its class, and where its strongest attributes look."""

    picture: str
    true: str
    told: str
    right: bool
    attributes: list[Overlaid]


def attention_rows(record: Record, pictures: Pictures) -> list[AttentionRow]:
    """A row a photo that is found; empty for a run without ARA."""
    found = record.attended
    if found is None:
        return []
    told = record.answers.predicted(record.constant)
    rows = []
    for number, position in enumerate(found.images.tolist()):
        photo = pictures.thumbnail(position)
        if photo is None:
            continue
        overlaid = []
        for attribute, strength, weights in zip(
            found.names[number], found.strengths[number].tolist(), found.maps[number].numpy(), strict=True
        ):
            under = pictures.under_map(position, weights, found.grid, found.preprocessing)
            if under is not None:
                overlaid.append(Overlaid(under, wording.printable(attribute), f"{strength:+.1f}"))
        row = int(np.flatnonzero(record.answers.images == position)[0])
        true, other = int(record.answers.labels[row]), int(told[row])
        names = record.class_names
        rows.append(
            AttentionRow(photo, wording.name(names[true]), wording.name(names[other]), true == other, overlaid)
        )
    return rows
