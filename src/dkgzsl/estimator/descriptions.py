"""Class descriptions as callers hold them: a mapping, a data frame, or a table that was read from a file."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from dkgzsl.data.formats.tables import SemanticTable
from dkgzsl.data.names import clean_name
from dkgzsl.errors import InputError, nearest

Semantics = Mapping[Any, Any] | SemanticTable | Any
"""{class: vector}, a data frame whose index holds the classes, or a `SemanticTable`."""
_LARGEST = 1e15
"""Larger numbers overflow where they are squared in single precision."""
_SAME_ATTRIBUTES = "describe every class by the same attributes"


@dataclass(frozen=True)
class Descriptions:
    """One vector for each described class.

    Attributes:
        classes: labels of the K classes, as the caller has them, in the caller's order.
        values: finite, one row a class.
        columns: names of the attributes, where they are known.
    """

    classes: tuple[Hashable, ...]
    values: Float[np.ndarray, "classes semantic"]
    columns: tuple[str, ...] | None

    @classmethod
    def of(cls, semantics: Semantics) -> Descriptions:
        """Read what a caller gives as `semantics`.

        Columns count as attributes where they have names: a data frame whose columns are no text (numbers of an
        embedding's dimensions) leaves them unknown, as a mapping does.

        Raises:
            InputError: it is none of the three kinds or empty, a class is described twice, or a vector has
                another length than the first, or holds no finite numbers; the class is named.
        """
        columns: tuple[str, ...] | None = None
        if isinstance(semantics, SemanticTable):
            labels: list[Hashable] = list(semantics.classes)
            rows: list[Any] = list(semantics.values)
            columns = semantics.columns
        elif isinstance(semantics, Mapping):
            labels, rows = [plain(label) for label in semantics], list(semantics.values())
        elif all(hasattr(semantics, name) for name in ("index", "columns", "to_numpy")):
            labels = [plain(label) for label in semantics.index]
            rows = list(semantics.to_numpy())
            names = list(semantics.columns)
            columns = tuple(names) if all(isinstance(name, str) for name in names) else None
        else:
            raise InputError(
                f"semantics cannot be a {type(semantics).__name__}",
                fix="give {class: vector}, or a data frame with the classes as its index",
            )
        if not labels:
            raise InputError("semantics describe no class", fix="give one vector a class")
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise InputError(f"class {twice!r} is described twice", fix="give one vector a class")
        values = [vector_of(label, row) for label, row in zip(labels, rows, strict=True)]
        for label, value in zip(labels, values, strict=True):
            if len(value) != len(values[0]):
                raise InputError(
                    f"the vector of class {label!r} has {len(value)} numbers, that of {labels[0]!r} has "
                    f"{len(values[0])}",
                    fix=_SAME_ATTRIBUTES,
                )
        return cls(tuple(labels), np.stack(values), columns)

    def rows_of(self, classes: Iterable[Hashable]) -> Float[np.ndarray, "_ semantic"]:
        """The vectors of given classes, in their order.

        Raises:
            InputError: a class is not described; it is named.
        """
        row = {label: number for number, label in enumerate(self.classes)}
        wanted = list(classes)
        missing = [label for label in wanted if label not in row]
        if missing:
            more = f" (and {len(missing) - 1} more have none)" if len(missing) > 1 else ""
            hint = nearest(str(missing[0]), [str(label) for label in self.classes]).partition(" (known")
            raise InputError(
                f"class {missing[0]!r} of y has no vector in semantics{more}",
                fix="describe every class that has images" + (f"; {hint[0]}" if hint[1] else ""),
            )
        return self.values[[row[label] for label in wanted]]


def plain(label: Any) -> Any:
    """A label as Python's own type: NumPy's scalars become what they stand for."""
    return label.item() if isinstance(label, np.generic) else label


def vector_of(label: Any, vector: Any, *, size: int | None = None) -> Float[np.ndarray, " semantic"]:
    """The description of one class, checked.

    Args:
        label: of the class, for messages.
        vector: its description.
        size: numbers that the other classes' descriptions have; None: any number will do.

    Raises:
        InputError: it is no row of finite numbers, all zero, or of another length.
    """
    try:
        value = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the vector of class {label!r} holds something other than numbers",
            fix="give one number an attribute; of a data frame, make the column of class names its index",
        ) from error
    if value.ndim != 1 or not len(value):
        raise InputError(f"the description of class {label!r} is no vector: its shape is {value.shape}")
    if not np.isfinite(value).all():
        raise InputError(f"the vector of class {label!r} holds NaN or infinity", fix="fill in the missing values")
    if np.abs(value).max() > _LARGEST:
        raise InputError(
            f"the vector of class {label!r} holds {np.abs(value).max():.3g}, which is too large to compute with",
            fix="scale the attributes, such as to values from 0 to 1",
        )
    if not value.any():
        raise InputError(f"the vector of class {label!r} is all zero", fix="describe the class")
    if size is not None and len(value) != size:
        raise InputError(
            f"the vector of class {label!r} has {len(value)} numbers, those of the other classes have {size}",
            fix=_SAME_ATTRIBUTES,
        )
    return value


def new_label(name: Any, classes: np.ndarray) -> Any:
    """The label of a further class as Python's own type.

    Raises:
        InputError: it is empty, or there is a class of that name; outer blanks make no other name.
    """
    label = plain(name)
    cleaned = clean_name(label) if isinstance(label, str) else label
    if cleaned == "":
        raise InputError("the class has no name", fix="give it one")
    taken = [one for one in classes.tolist() if (clean_name(one) if isinstance(one, str) else one) == cleaned]
    if taken:
        raise InputError(f"there is a class {taken[0]!r} already", fix="remove it first, or take another name")
    return label


def warn_of_equal(
    classes: Sequence[Any], values: Float[np.ndarray, "classes semantic"], seen: Collection[Any]
) -> None:
    """Warn of classes with the same description, of which at least one has no image."""
    _, group = np.unique(values, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    for first, second in pairwise(order):
        if group.ravel()[first] == group.ravel()[second] and not {classes[first], classes[second]} <= {*seen}:
            warnings.warn(
                f"{classes[first]!r} and {classes[second]!r} have the same description: no method can distinguish "
                "them where one has no image",
                UserWarning,
                stacklevel=5,
            )


def check_known(label: Any, classes: np.ndarray) -> Any:
    """A label as Python's own type, where it is one of the classes.

    Raises:
        InputError: it is none of them; the message names the nearest.
    """
    found, known = plain(label), classes.tolist()
    if found not in known:
        raise InputError(f"there is no class {found!r}", fix=nearest(str(found), map(str, known), of="classes"))
    return found


def joined_classes(seen: np.ndarray, others: Iterable[Any]) -> np.ndarray:
    """Labels of seen and described classes together, sorted, in the type of the labels in y.

    Raises:
        InputError: a described class is of another kind than the labels, such as text among numbers.
    """
    extra = list(others)
    text = seen.dtype.kind in "USO"
    for label in extra:
        if isinstance(label, str) != text or not isinstance(label, str | int | float):
            kind = "text" if text else "numbers"
            raise InputError(
                f"class {label!r} cannot stand among the labels of y, which are {kind}",
                fix=f"name every class by {kind}",
            )
    if not extra:
        return seen
    added = np.array(extra, dtype=object if seen.dtype.kind == "O" else None)
    if not text and not np.array_equal(added.astype(seen.dtype), added):
        raise InputError(f"the labels {extra} do not fit those of y, which are {seen.dtype}")
    return np.union1d(seen, added if text else added.astype(seen.dtype))
