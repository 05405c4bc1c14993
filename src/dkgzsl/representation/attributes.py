"""The named attributes that ARA attends by: their table, and vectors for their names.

They need not be the semantics that classes are described by: sentence embeddings have no names, and refinement
still uses the data set's attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dkgzsl.config import RefinementConfig
from dkgzsl.data.names import spoken_attribute
from dkgzsl.data.problem import Problem
from dkgzsl.data.text_semantics import encode
from dkgzsl.errors import ConfigError, DataError

_SOURCES = ("attributes", "att")
_RANDOM_SIZE = 300


@dataclass(frozen=True)
class NamedAttributes:
    """What ARA is given.

    Attributes:
        table: each class's attributes.
        vectors: a vector for each attribute's name.
        source: which of the problem's semantics the table is.
        vectors_from: where the vectors come from, for the record.
        names: of the attributes, where they are known.
    """

    table: Float[np.ndarray, "classes attributes"]
    vectors: Float[np.ndarray, "attributes word"]
    source: str
    vectors_from: str
    names: tuple[str, ...] | None


def has_attributes(problem: Problem) -> bool:
    """Whether there is a table that ARA can attend by: attributes, or any other that no encoder of text made."""
    named = any(name in problem.semantic_sources for name in _SOURCES)
    return named or problem.semantics_name not in problem.provenance.get("computed_semantics", {})


def attributes_for(problem: Problem, config: RefinementConfig, *, seed: int) -> NamedAttributes:
    """Find the attributes and their vectors.

    The table is the problem's `attributes` or `att`, or else its semantics in use. Vectors come from the file that
    `config.vectors` names, from an encoder of the attributes' names (`encoder:NAME`), from the data set itself, or
    are drawn at random.

    Raises:
        ConfigError: the vectors' file or encoder cannot be used.
        DataError: the vectors are not as many as the attributes.
    """
    source = next((name for name in _SOURCES if name in problem.semantic_sources), problem.semantics_name)
    table = np.asarray(problem.semantic_sources[source], dtype=np.float32)
    names = problem.attribute_names.get(source)
    wanted = config.vectors
    if wanted is None and problem.attribute_vectors is not None:
        vectors, origin = np.asarray(problem.attribute_vectors, dtype=np.float32), "the data set"
    elif wanted in (None, "random"):
        vectors = np.random.default_rng(seed).standard_normal((table.shape[1], _RANDOM_SIZE)).astype(np.float32)
        origin = "random"
    elif wanted.startswith("encoder:"):
        vectors, origin = _encoded(wanted.removeprefix("encoder:"), names, source), wanted
    else:
        vectors, origin = _from_file(Path(wanted)), f"file {Path(wanted).name}"
    if len(vectors) != table.shape[1]:
        raise DataError(
            f"{len(vectors)} vectors for {table.shape[1]} attributes",
            where=origin,
            fix="give one row for each column of the attribute table, in its order",
        )
    return NamedAttributes(table, vectors, source, origin, names)


def _from_file(path: Path) -> Float[np.ndarray, "attributes word"]:
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read the attributes' vectors: {error}",
            where=str(path),
            fix="--refinement.vectors takes a .npy file [attributes, size], encoder:NAME, or random",
        ) from error
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise DataError("the attributes' vectors must be a finite table [attributes, size]", where=str(path))
    return np.asarray(vectors, dtype=np.float32)


def _encoded(encoder: str, names: tuple[str, ...] | None, source: str) -> Float[np.ndarray, "attributes word"]:
    if names is None:
        raise ConfigError(f"the columns of {source} have no names to encode", fix="name a .npy file, or random")
    table, _ = encode(names, [spoken_attribute(name) for name in names], encoder=encoder)
    return np.asarray(table.values, dtype=np.float32)
