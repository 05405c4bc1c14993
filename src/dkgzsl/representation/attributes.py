"""The named attributes that ARA uses: a table of their values by class, and a vector for each name.

They need not be the semantics that describe the classes: where these are sentence embeddings, whose columns have
no names, refinement still uses the data set's attributes.
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
from dkgzsl.reading import load_npy

_SOURCES = ("attributes", "att")
_RANDOM_SIZE = 300


@dataclass(frozen=True)
class NamedAttributes:
    """The attributes of a problem, as ARA takes them.

    Attributes:
        table: attributes of each class.
        vectors: a vector for each attribute's name.
        source: name of the problem's semantics that the table is.
        vectors_from: where the vectors come from, for the run's record.
        names: of the attributes; None where they are not known.
    """

    table: Float[np.ndarray, "classes attributes"]
    vectors: Float[np.ndarray, "attributes word"]
    source: str
    vectors_from: str
    names: tuple[str, ...] | None


def has_attributes(problem: Problem) -> bool:
    """Whether the problem has attributes for ARA: a table of them, or semantics that no text encoder computed."""
    named = any(name in problem.semantic_sources for name in _SOURCES)
    return named or problem.semantics_name not in problem.provenance.get("computed_semantics", {})


def attributes_for(problem: Problem, config: RefinementConfig, *, seed: int) -> NamedAttributes:
    """Find the attributes and their vectors.

    The table is the problem's `attributes` or `att`, or else the semantics in use. The vectors come from the file
    that `config.vectors` names, from an encoder of the attributes' names (`encoder:NAME`), from the data set, or
    are drawn at random (`random`, and where the data set has none).

    Args:
        problem: the data.
        config: its `vectors` decides.
        seed: of random vectors.

    Raises:
        ConfigError: the vectors' file or encoder cannot be used.
        DataError: there are more or fewer vectors than attributes.
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
    fix = "--refinement.vectors takes a .npy file [attributes, size], encoder:NAME, or random"
    vectors = load_npy(path, "cannot read the attributes' vectors", error=ConfigError, fix=fix)
    if vectors.dtype.kind not in "fiu" or vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise DataError("the attributes' vectors must be a finite table [attributes, size]", where=str(path))
    return np.asarray(vectors, dtype=np.float32)


def _encoded(encoder: str, names: tuple[str, ...] | None, source: str) -> Float[np.ndarray, "attributes word"]:
    if names is None:
        raise ConfigError(f"the columns of {source} have no names to encode", fix="name a .npy file, or random")
    table, _ = encode(names, [spoken_attribute(name) for name in names], encoder=encoder)
    return np.asarray(table.values, dtype=np.float32)
