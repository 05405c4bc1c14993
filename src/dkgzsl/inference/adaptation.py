"""Adaptation of a recognizer to a pool of photos without labels: the pool is checked, and the model may refuse."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dkgzsl.data.formats.feature_files import read_features
from dkgzsl.data.problem import Features, Problem
from dkgzsl.device import fast_products
from dkgzsl.errors import DataError
from dkgzsl.evaluation.adaptation import is_worthless
from dkgzsl.features.store import is_store, open_store
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.methods.adaptation import HOLDS_DESCRIBED, Adaptation
from dkgzsl.methods.base import Adaptable, Extendable
from dkgzsl.methods.registry import unable
from dkgzsl.reading import load_npy

FOUND_NONE: Final = 1.0
"""A class that took less than one photo has found none."""
_BLOCK: Final = 1024


@dataclass(frozen=True)
class Pool:
    """Photos without labels, checked.

    Attributes:
        vectors: the one vector a photo that the model takes.
        sha256: of the photos' features, whatever their order.
        trained_on: photos left out because the model was trained on them.
        repeated: photos left out because the pool has them already.
    """

    vectors: Float[Tensor, "photos visual"]
    sha256: str
    trained_on: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class Adapted:
    """What became of an adaptation.

    Attributes:
        recognizer: adapted, or as it was where the adaptation was refused.
        adaptation: what the photos showed, refused or not.
        refusal: why the recognizer is as it was; None: it is adapted.
    """

    recognizer: Recognizer
    adaptation: Adaptation
    refusal: str | None = None


def read_pool(path: Path) -> Features:
    """Features of a pool from a store or a file of features; photos that could not be extracted are left out.

    Raises:
        DataError: the file cannot be read, holds something else, or holds no photo.
    """
    if path.suffix == ".npy" and path.is_file() and _is_empty(path):
        raise DataError("the pool is empty: it holds no photo", where=str(path), fix="give features of photos")
    rows: Features = read_features(path)
    if is_store(path):
        readable = np.array([entry.why is None for entry in open_store(path).entries], dtype=bool)
        if not readable.any():
            raise DataError("the pool is empty: no photo of the store could be read", where=str(path))
        rows = rows if readable.all() else np.asarray(rows[np.flatnonzero(readable)])
    return rows


def _is_empty(path: Path) -> bool:
    try:
        return not load_npy(path, "", mapped=True).size
    except DataError:
        return False  # `read_features` says what is wrong with it


def checked_pool(
    recognizer: Recognizer, features: Features, *, trained_on: set[bytes] | None = None, where: str | None = None
) -> Pool:
    """A pool that the recognizer can be adapted to: photos of its training and repeated ones are left out.

    Args:
        recognizer: that is to be adapted.
        features: of the photos, as it takes them.
        trained_on: `digests` of the photos that it was trained on, where they are at hand.
        where: the pool, for messages.

    Raises:
        DataError: there is no photo, or none is left; the features have another shape, or NaN or infinity; the
            recognizer was adapted to these photos already.
    """
    if not len(features):
        raise DataError(
            "the pool is empty: it holds no photo", where=where, fix="give photos, or features of photos"
        )
    _check_features(recognizer, features, where)
    names = [digest for block in _blocks(features) for digest in _digests(block)]
    first = dict(zip(reversed(names), reversed(range(len(names))), strict=True))
    known = trained_on or set()
    kept = [row for row, name in enumerate(names) if name not in known and first[name] == row]
    trained = sum(name in known for name in names)
    if not kept:
        raise DataError(
            f"all {len(names)} photos of the pool are training images of this model",
            where=where,
            fix="give photos that the model was not trained on",
        )
    sha256 = hashlib.sha256(b"".join(sorted(names[row] for row in kept))).hexdigest()
    if sha256 in recognizer.record.pools:
        raise DataError(
            "the model was adapted to these photos already; twice, they would count twice",
            where=where,
            fix="give other photos, or start from an earlier version with --version",
        )
    vectors = torch.cat([recognizer.vectors(np.asarray(features[rows])) for rows in _parts(kept)])
    return Pool(vectors, sha256, trained, len(names) - len(kept) - trained)


def digests(features: Features) -> set[bytes]:
    """By what images are known again: a hash of each one's features, of region tokens that of the global one."""
    return {digest for block in _blocks(features) for digest in _digests(block)}


def training_digests(problem: Problem) -> set[bytes]:
    """`digests` of a problem's training images."""
    found: set[bytes] = set()
    for rows in _parts(problem.parts.trainval.tolist()):
        found.update(_digests(np.asarray(problem.features[rows])))
    return found


@fast_products()
def adapt(recognizer: Recognizer, pool: Pool, *, force: bool = False) -> Adapted:
    """Adapt a recognizer to a pool; where that does not pay, it stays as it was.

    Classes that were removed take no photos. A removed seen class keeps its own: they show no described class.

    Args:
        recognizer: to be adapted.
        pool: of photos.
        force: adapt in any case.

    Raises:
        RunError: the model cannot adapt.
        DataError: there is no described class.
    """
    model = recognizer.model
    if not isinstance(model, Adaptable):
        raise unable(model, "adaptable")
    removed = torch.tensor(recognizer.record.removed, dtype=model.unseen.dtype, device=model.unseen.device)
    stays = ~torch.isin(model.unseen, removed)
    if isinstance(model, Extendable) and not bool(stays.all()):
        model = model.with_classes(model.semantics, model.unseen[stays])
    assert isinstance(model, Adaptable), "the same kind of model as the one checked above"
    adapted = model.adapted(pool.vectors)
    assert isinstance(adapted, Adaptable), "likewise"
    found = adapted.adaptation
    assert found is not None, "it was just adapted"
    refusal = None if force else _refusal(found, recognizer.record.adaptation)
    if refusal is not None:
        return Adapted(recognizer, found, refusal)
    record = replace(recognizer.record, pools=(*recognizer.record.pools, pool.sha256))
    return Adapted(replace(recognizer, model=adapted, record=record), found)


def _refusal(found: Adaptation, worth: Mapping[str, Any] | None) -> str | None:
    if not found.holds_described:
        return (
            "the pool shows no described class clearly: photos that are more like each other than like a seen "
            f"class are {found.evident_share:.0%} of it, and {HOLDS_DESCRIBED:.0%} are needed"
        )
    if worth is not None and is_worthless(worth):
        return (
            "adaptation did not help on validation classes: AUSUC "
            f"{worth['ausuc_before']:.3f} before, {worth['ausuc_after']:.3f} after"
        )
    return None


def _check_features(recognizer: Recognizer, features: Features, where: str | None) -> None:
    expected = recognizer.record.features
    if features.ndim < 2 or features.shape[-1] != expected[-1]:
        raise DataError(
            f"the pool's features have the shape {list(features.shape)}; the model takes {expected[-1]} channels",
            where=where,
            fix="give features of the backbone that the model was trained with",
        )
    finite = [
        np.isfinite(np.asarray(block, np.float32)).reshape(len(block), -1).all(1) for block in _blocks(features)
    ]
    broken = np.flatnonzero(~np.concatenate(finite))
    if len(broken):
        raise DataError(
            f"{len(broken)} photos of the pool have NaN or infinity in them, the first in row {broken[0]}",
            where=where,
            fix="leave these photos out, or extract them again",
        )


def _digests(block: np.ndarray) -> list[bytes]:
    vectors = np.ascontiguousarray(block if block.ndim == 2 else block[:, 0], dtype=np.float32)
    return [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in vectors]


def _blocks(features: Features) -> Iterator[np.ndarray]:
    for start in range(0, len(features), _BLOCK):
        yield np.asarray(features[start : start + _BLOCK])


def _parts(rows: Sequence[int]) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _BLOCK):
        yield np.array(rows[start : start + _BLOCK], dtype=np.int64)
