"""A problem from plain arrays in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dkgzsl.data.assemble import problem_of
from dkgzsl.data.problem import Problem
from dkgzsl.data.raw import RawData, whole_numbers
from dkgzsl.data.splits import hold_out_seen
from dkgzsl.errors import DataError, nearest
from dkgzsl.features.arrays import Features


def problem_from_arrays(
    features: Features,
    labels: np.ndarray | Sequence[Any],
    semantics: np.ndarray | Mapping[str, np.ndarray],
    *,
    class_names: Sequence[str] | None = None,
    unseen: Sequence[int | str] | None = None,
    parts: Mapping[str, np.ndarray] | None = None,
    validation_classes: Sequence[int | str] | None = None,
    held_out_share: float = 0.2,
    seed: int = 0,
    semantics_name: str | None = None,
    name: str = "arrays",
    provenance: Mapping[str, Any] | None = None,
    image_files: Sequence[str] | None = None,
    attribute_names: Mapping[str, Sequence[str]] | None = None,
    attribute_vectors: Float[np.ndarray, "_ _"] | None = None,
) -> Problem:
    """Make a problem of features, labels and class descriptions.

    Args:
        features: [N, C] or [N, 1 + R, C], as the backbone gave them.
        labels: N class numbers from 0, or N class names.
        semantics: class descriptions [K, S], or several by source; rows in the order of `class_names`.
        class_names: K names (default: class_1, class_2, ...).
        unseen: classes whose images are all for the test, by number or name (default: those without images).
        parts: positions of `trainval`, `test_seen` and `test_unseen`, where they are fixed already. Else of each
            seen class a share is drawn for the test.
        validation_classes: seen classes that validation treats as unseen (default: a third of them).
        held_out_share: share of each seen class's images that is drawn for the test, between 0 and 1.
        seed: of the draw.
        semantics_name: the source to use first (default: the first one).
        name: the data set's name.
        provenance: recorded with every figure.
        image_files: N paths.
        attribute_names: names of a source's columns, by source.
        attribute_vectors: word vectors of the attributes [M, 300].

    Raises:
        DataError: lengths, labels, names or parts do not fit together, or there is a NaN.
    """
    tables = _tables(semantics)
    names = _names(class_names, len(next(iter(tables.values()))))
    numbers = _label_numbers(np.asarray(labels), names)
    chosen = _given_or_drawn(parts, unseen, numbers, names, share=held_out_share, seed=seed)
    raw = RawData(
        name=name,
        where=name,
        parts=_positions(chosen, numbers, names, validation_classes, where=name),
        tables=tables,
        class_names=names,
        labels=numbers,
        features=features,
        image_files=None if image_files is None else tuple(image_files),
        described_only=True,
        attribute_names={source: tuple(columns) for source, columns in (attribute_names or {}).items()},
        attribute_vectors=attribute_vectors,
    )
    recorded = {"format": "arrays", "backbone": None, **(provenance or {})}
    return problem_of(raw, semantics=semantics_name or next(iter(tables)), provenance=recorded)


def _tables(semantics: np.ndarray | Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    given = semantics if isinstance(semantics, Mapping) else {"semantics": semantics}
    if not given:
        raise DataError("no class descriptions are given", fix="give semantics: one row a class")
    return {source: np.asarray(table, dtype=np.float64) for source, table in given.items()}


def _names(given: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    return tuple(f"class_{k + 1}" for k in range(classes)) if given is None else tuple(map(str, given))


def _given_or_drawn(
    parts: Mapping[str, np.ndarray] | None,
    unseen: Sequence[int | str] | None,
    labels: np.ndarray,
    names: tuple[str, ...],
    *,
    share: float,
    seed: int,
) -> Mapping[str, np.ndarray]:
    if parts is None:
        return _draw_parts(labels, names, unseen, share=share, seed=seed)
    if unseen is not None:
        raise DataError("both `unseen` and `parts` are given", fix="leave one out: parts say which are unseen")
    return parts


def _positions(
    parts: Mapping[str, np.ndarray],
    labels: np.ndarray,
    names: tuple[str, ...],
    validation_classes: Sequence[int | str] | None,
    *,
    where: str,
) -> dict[str, np.ndarray]:
    """The parts as positions; `train` and `val` among them where validation classes are named."""
    if missing := {"trainval", "test_seen", "test_unseen"} - set(parts):
        raise DataError(f"parts lack {', '.join(sorted(missing))}", fix="an empty array where there are no images")
    positions = {part: whole_numbers(np.asarray(v), what=part, where=where, first=0) for part, v in parts.items()}
    if validation_classes is None:
        return positions
    chosen, trainval = _class_numbers(validation_classes, names), positions["trainval"]
    _refuse_bad_validation(chosen, labels, trainval, names)
    is_val = np.isin(labels[trainval], chosen)
    return positions | {"train": trainval[~is_val], "val": trainval[is_val]}


def _label_numbers(labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    if labels.dtype.kind in "US" or labels.dtype == object:
        return _class_numbers(labels.tolist(), names)
    return whole_numbers(labels, what="labels", where="arrays", first=0)


def _class_numbers(classes: Sequence[int | str], names: tuple[str, ...]) -> np.ndarray:
    positions = {name: number for number, name in enumerate(names)}
    numbers = []
    for given in classes:
        number = positions.get(given, -1) if isinstance(given, str) else int(given)
        if not 0 <= number < len(names):
            raise DataError(
                f"unknown class {given!r}",
                fix=nearest(given, names, of="classes")
                if isinstance(given, str)
                else f"there are {len(names)} classes, numbered from 0",
            )
        numbers.append(number)
    return np.array(numbers, dtype=np.int64)


def _draw_parts(
    labels: np.ndarray, names: tuple[str, ...], unseen: Sequence[int | str] | None, *, share: float, seed: int
) -> dict[str, np.ndarray]:
    hidden = _class_numbers(unseen, names) if unseen is not None else np.empty(0, np.int64)
    of_unseen = np.isin(labels, hidden)
    seen = np.unique(labels[~of_unseen])
    images = np.arange(len(labels))
    held = hold_out_seen(labels, seen, fraction=share, seed=seed)
    return {
        "trainval": np.setdiff1d(images[~of_unseen], held),
        "test_seen": held,
        "test_unseen": images[of_unseen],
    }


def _refuse_bad_validation(
    chosen: np.ndarray, labels: np.ndarray, trainval: np.ndarray, names: tuple[str, ...]
) -> None:
    if ((trainval < 0) | (trainval >= len(labels))).any():
        raise DataError(
            "trainval has positions out of range", fix=f"there are {len(labels)} images, counted from 0"
        )
    seen = np.unique(labels[trainval])
    stray = np.setdiff1d(chosen, seen)
    if len(stray):
        raise DataError(
            f"validation class {names[int(stray[0])]!r} has no training image", fix="name seen classes only"
        )
    if not len(np.setdiff1d(seen, chosen)) or not len(chosen):
        raise DataError("validation classes must be some of the seen classes, not none or all of them")
