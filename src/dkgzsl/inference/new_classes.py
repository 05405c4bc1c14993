"""Descriptions of new classes: attribute by attribute, as a row of a table, or as a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dkgzsl.data.formats.cells import is_number, number_in
from dkgzsl.data.formats.tables import columns_of, read_named_columns, read_semantic_table
from dkgzsl.data.gaps import SPARSE, completed
from dkgzsl.data.names import by_known_name, clean_name, spoken_attribute
from dkgzsl.data.text_semantics import encode, read_descriptions
from dkgzsl.errors import ConfigError, DataError, nearest_few
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.methods.base import Extendable
from dkgzsl.methods.registry import unable
from dkgzsl.reading import load_npy
from dkgzsl.runs.model_record import SemanticsRecord

Vector = Float[np.ndarray, " semantic"]


class Described(NamedTuple):
    """A new class's description.

    Attributes:
        vector: on the scale of the run's semantics.
        open: how many attributes were not given; they are filled in from the classes described alike
            (`data.gaps.completed`).
    """

    vector: Vector
    open: int

    @property
    def sparse(self) -> bool:
        """Whether most attributes were not given."""
        return self.open > SPARSE * len(self.vector)


@dataclass(frozen=True)
class Describer:
    """Reads descriptions as vectors of a run's semantics.

    Attributes:
        semantics: the run's record of them.
        usual: mean of the seen classes' descriptions.
        others: descriptions of all classes that are known; what is not given is filled in from them.
    """

    semantics: SemanticsRecord
    usual: Vector
    others: Float[np.ndarray, "classes semantic"]

    @classmethod
    def of(cls, recognizer: Recognizer) -> Describer:
        """For the semantics of a recognizer.

        Raises:
            RunError: its model takes no new classes.
        """
        model = recognizer.model
        if not isinstance(model, Extendable):
            raise unable(model, "extendable")
        table = model.semantics.double().cpu().numpy()
        usual = table[model.seen.cpu().numpy()].mean(0)
        return cls(recognizer.record.semantics, usual, table[recognizer.is_known])

    def from_values(self, values: Mapping[str, float], *, where: str | None = None) -> Described:
        """A description from some attributes by name, as the table writes them or as people say them.

        Args:
            values: by attribute.
            where: the source, for messages.

        Raises:
            DataError: the semantics have no names, a name is unknown, or a value is far from all of the table's.
        """
        columns = self.semantics.columns
        if columns is None:
            raise DataError(
                f"the columns of {self.semantics.name} have no names",
                where=where,
                fix="give the whole vector as a .npy file, or a table without gaps, with --attributes FILE",
            )
        if not values:
            raise DataError("no attribute is given a value", where=where, fix="--set ATTRIBUTE=VALUE")
        place = {spoken_attribute(name): k for k, name in enumerate(columns)} | {
            n: k for k, n in enumerate(columns)
        }
        vector, written = np.full_like(self.usual, np.nan), by_known_name(values, place)
        values = {written[name]: value for name, value in values.items()}
        for name, value in values.items():
            if name not in place:
                raise DataError(
                    f"there is no attribute {name!r}", where=where, fix=nearest_few(name, columns, of="attributes")
                )
            vector[place[name]] = self._checked(name, value, where)
        return Described(completed(vector, self.others), int(np.isnan(vector).sum()))

    def from_vector(self, vector: Vector, *, where: str | None = None) -> Described:
        """A description from one number a dimension.

        Args:
            vector: on the scale of the run's semantics.
            where: the source, for messages.

        Raises:
            DataError: the numbers are too many or too few, or far from all of the table's.
        """
        size = self.semantics.size
        if vector.shape != (size,) or vector.dtype.kind not in "fiu":
            raise DataError(
                f"a description by {self.semantics.name} has {size} numbers, not {list(vector.shape)}", where=where
            )
        for number, value in enumerate(vector.tolist()):
            self._checked(f"number {number + 1}", value, where)
        return Described(vector.astype(np.float64), 0)

    def from_texts(self, texts: Mapping[str, str]) -> dict[str, Described]:
        """Descriptions from a sentence a class, by the encoder that made the run's semantics.

        Raises:
            ConfigError: no encoder is on record.
            DataError: the encoder cannot be loaded, or gives vectors of another size.
        """
        encoder = self.semantics.encoder
        if encoder is None:
            raise ConfigError(
                f"the run's semantics ({self.semantics.name}) were not made from text by an encoder on record",
                fix=f"describe the class by their {self.semantics.size} numbers, with --set or --attributes; "
                "or train on semantics made by dkgzsl data describe",
            )
        table, _ = encode(list(texts), list(texts.values()), encoder=encoder)
        if table.values.shape[1] != self.semantics.size:
            raise DataError(
                f"the encoder gives {table.values.shape[1]} numbers, the run was trained on {self.semantics.size}",
                where=encoder,
            )
        return {
            name: Described(np.asarray(row, dtype=np.float64), 0)
            for name, row in zip(texts, table.values, strict=True)
        }

    def from_file(self, path: Path, name: str) -> Described:
        """One class from a file: .npy, a table with a row of that name, or a CSV with columns attribute and value.

        Raises:
            DataError: the file cannot be read, has no such row, or does not fit the semantics.
        """
        if path.suffix == ".npy":
            return self.from_vector(_npy(path), where=str(path))
        if not {"attribute", "value"} <= {*columns_of(path)}:
            rows = self.from_table(path)
            name = by_known_name([name], rows)[name]
            if name not in rows:
                raise DataError(
                    f"the table has no row {name!r}",
                    where=str(path),
                    fix=nearest_few(name, rows, of="rows"),
                )
            return rows[name]
        values: dict[str, float] = {}
        for line, (attribute, cell) in read_named_columns(path, ("attribute", "value")):
            where = f"{path}, row {line}"
            if attribute in values:
                raise DataError(f"the attribute {attribute!r} has two rows", where=where, fix="keep one of them")
            values[attribute] = number_of(cell, where=where)
        return self.from_values(values, where=str(path))

    def from_table(self, path: Path) -> dict[str, Described]:
        """Many classes from a file: a table of attributes, or a CSV with the columns class and description.

        Raises:
            ConfigError: it holds text, and no encoder is on record.
            DataError: the file cannot be read, or does not fit the semantics.
        """
        if "description" in columns_of(path):
            return self.from_texts(read_descriptions(path))
        table = read_semantic_table(path)
        if self.semantics.columns is None:
            return {
                name: self.from_vector(row, where=f"{path}, class {name}")
                for name, row in zip(table.classes, table.values, strict=True)
            }
        return {
            name: self.from_values(
                {c: value for c, value in zip(table.columns, row.tolist(), strict=True) if not np.isnan(value)},
                where=f"{path}, class {name}",
            )
            for name, row in zip(table.classes, table.values, strict=True)
        }

    def _checked(self, name: str, value: float, where: str | None) -> float:
        """The value; one beyond the table's by more than the table's own range is a mistake of scale."""
        lowest, highest = self.semantics.lowest, self.semantics.highest
        width = highest - lowest
        if not lowest - width <= value <= highest + width:  # also refuses NaN
            raise DataError(
                f"{name} cannot be {value:g}",
                where=where,
                fix=f"the values of {self.semantics.name} lie between {lowest:g} and {highest:g}",
            )
        return value


def read_settings(pairs: Sequence[str]) -> dict[str, float]:
    """Values by attribute from words `ATTRIBUTE=VALUE`.

    Raises:
        ConfigError: a word has another form, or an attribute is set twice.
    """
    values: dict[str, float] = {}
    for pair in pairs:
        name, equals, cell = pair.rpartition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigError(f"{pair!r} sets nothing", fix="--set ATTRIBUTE=VALUE")
        if name in values:
            raise ConfigError(f"{name!r} is set twice")
        values[name] = number_of(cell, where=f"--set {pair}")
    return values


def number_of(cell: str, *, where: str) -> float:
    """A number from its text, a percentage, or yes or no.

    Raises:
        DataError: the text is no finite number.
    """
    if not is_number(cell):
        raise DataError(f"{cell.strip()[:40]!r} is no number", where=where)
    return number_in(cell, where)


def checked_name(name: str) -> str:
    """A class name as tables write it.

    Raises:
        ConfigError: it is empty.
    """
    cleaned = clean_name(name)
    if not cleaned:
        raise ConfigError("the class has no name", fix="--name NAME")
    return cleaned


def nearest_classes(recognizer: Recognizer, vector: Vector, *, top: int = 3) -> list[tuple[str, float]]:
    """The classes whose descriptions are most like a vector.

    Args:
        recognizer: whose classes.
        vector: a description, on the scale of the run's semantics.
        top: how many classes.

    Returns:
        Name and likeness, the most alike first: the cosine, -1 to 1, of the differences to the mean of the seen
        classes.
    """
    model = recognizer.model
    assert isinstance(model, Extendable), "a class was added to it"
    table = model.semantics.double().cpu().numpy()
    usual = table[model.seen.cpu().numpy()].mean(0)
    apart, own = table - usual, vector - usual
    lengths = np.linalg.norm(apart, axis=1) * np.linalg.norm(own)
    likeness = np.where(lengths > 0, apart @ own / np.where(lengths > 0, lengths, 1), 0.0)
    likeness[~recognizer.is_known] = -np.inf
    order = np.argsort(-likeness, kind="stable")[:top]
    return [(recognizer.class_names[k], float(likeness[k])) for k in order if np.isfinite(likeness[k])]


def example_class(recognizer: Recognizer) -> tuple[str, dict[str, float]] | None:
    """A class to try `add-class` with: a free name, and values of two attributes; None where there are no names.

    The values are those of a described class, of the two attributes in which it differs most from seen classes.

    Args:
        recognizer: of the run.
    """
    model, semantics = recognizer.model, recognizer.record.semantics
    if semantics.columns is None or not isinstance(model, Extendable):
        return None
    table = model.semantics.double().cpu().numpy()
    described = next(iter(model.unseen.tolist()), 0)
    usual, spread = table[model.seen.cpu().numpy()].mean(0), table.std(0)
    apart = np.abs(table[described] - usual) / np.where(spread > 0, spread, np.inf)
    known = set(recognizer.known_names)
    names = ("new_class" if number == 1 else f"new_class_{number}" for number in range(1, len(known) + 2))
    values = {semantics.columns[k]: float(table[described, k]) for k in np.argsort(-apart, kind="stable")[:2]}
    return next(name for name in names if name not in known), values


def _npy(path: Path) -> np.ndarray:
    vector = load_npy(path, "cannot read the vector")
    return vector.reshape(-1) if vector.ndim == 2 and len(vector) == 1 else vector
