"""The one way from what files hold to a `Problem`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dkgzsl.data.checks import refuse_errors
from dkgzsl.data.gaps import SPARSE, filled, gap_notes
from dkgzsl.data.problem import Parts, Problem
from dkgzsl.data.raw import RawData, validation_classes
from dkgzsl.errors import DataError, nearest
from dkgzsl.features.arrays import MultiBackboneFeatures


def problem_of(raw: RawData, *, semantics: str, provenance: Mapping[str, Any]) -> Problem:
    """Make a problem of what files hold, and refuse what cannot be right.

    Raises:
        DataError: a check of `dkgzsl.data.checks.structure` finds an error, the labels or features are missing,
            or there is no source `semantics`.
    """
    if raw.labels is None or raw.features is None:
        raise DataError(f"{raw.name} has no features with labels", where=raw.where)
    if semantics not in raw.tables:
        raise DataError(
            f"{raw.name} has no semantics named {semantics!r}",
            where=raw.where,
            fix=nearest(semantics, raw.tables, of="its semantics"),
        )
    refuse_errors(raw)
    whole = {source: filled(table, where=raw.where) for source, table in raw.tables.items()}
    sparse = {s: np.flatnonzero(one.missing > SPARSE).tolist() for s, one in whole.items() if one.missing.any()}
    names = raw.class_names or tuple(f"class_{k + 1}" for k in range(raw.number_of_classes))
    notes = [*raw.notes, *gap_notes(np.asarray(raw.tables[semantics], np.float64), classes=names)]
    return Problem(
        name=raw.name,
        features=raw.features,
        labels=raw.labels,
        class_names=names,
        semantic_sources={source: one.values for source, one in whole.items()},
        semantics_name=semantics,
        parts=Parts(
            trainval=raw.parts["trainval"],
            test_seen=raw.parts["test_seen"],
            test_unseen=raw.parts["test_unseen"],
            validation_classes=validation_classes(raw),
        ),
        provenance={
            **provenance,
            **({"notes": notes} if notes else {}),
            **({"sparse": sparse} if sparse else {}),
        },
        image_files=raw.image_files,
        pictures=raw.pictures,
        attribute_names=dict(raw.attribute_names),
        attribute_vectors=raw.attribute_vectors,
    )


def with_extra_features(problem: Problem, others: Mapping[str, Problem]) -> Problem:
    """The problem with the features of others too: the same images by other backbones.

    Raises:
        DataError: one has other images, or the same in another order.
    """
    for name, other in others.items():
        same = len(other.labels) == len(problem.labels) and (other.labels == problem.labels).all()
        if same and problem.image_files is not None and other.image_files is not None:
            same = problem.image_files == other.image_files
        if not same:
            raise DataError(
                "extra features must be of the same images in the same order",
                where=name,
                fix="extract them from the same problem; where a photo was skipped, leave it out of both",
            )
    arrays = {name: other.features for name, other in others.items()}
    recorded = {name: dict(other.provenance) for name, other in others.items()}
    return replace(
        problem,
        features=MultiBackboneFeatures(problem.features, arrays),
        provenance={**problem.provenance, "extra": recorded},
    )
