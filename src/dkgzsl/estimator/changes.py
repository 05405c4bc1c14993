"""What a fitted `ZeroShotClassifier` can do besides predicting: adapt to images without labels, draw features."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from dkgzsl.errors import DataError, InputError
from dkgzsl.estimator.descriptions import check_known
from dkgzsl.inference.adaptation import adapt, checked_pool
from dkgzsl.methods.base import Generator
from dkgzsl.methods.registry import unable


def adapted(estimator: Any, features: np.ndarray, *, force: bool) -> Any:
    """A new estimator, adapted to images without labels; see `ZeroShotClassifier.adapt`.

    Args:
        estimator: a fitted `ZeroShotClassifier`; it stays as it is.
        features: of the images, as its recognizer takes them.
        force: adapt even where it does not seem to pay.
    """
    _check_described(estimator, "no class can adapt")
    recognizer = estimator.recognizer_
    try:
        pool = checked_pool(recognizer, features, trained_on=getattr(estimator, "_trained_on", None))
        found = adapt(recognizer, pool, force=force)
    except DataError as error:
        raise InputError(error.what, fix=error.fix) from error
    if found.refusal is not None:
        warnings.warn(f"not adapted: {found.refusal} (force=True adapts all the same)", UserWarning, stacklevel=3)
    for number, why in ((pool.trained_on, "fit had them"), (pool.repeated, "they are there twice")):
        if number:
            warnings.warn(f"{number} images were left out: {why}", UserWarning, stacklevel=3)
    changed = copy.copy(estimator)
    changed.recognizer_ = found.recognizer
    return changed


def synthesized(
    estimator: Any, names: Sequence[Any], number: int
) -> tuple[Float[np.ndarray, "_ visual"], np.ndarray]:
    """Features of classes and their labels; see `ZeroShotClassifier.synthesize`."""
    labels = [check_known(name, estimator.classes_) for name in names]
    if number < 1:
        raise InputError(f"number must be at least 1, not {number}")
    _check_described(estimator, "no features can be synthesized")
    model = estimator.recognizer_.model
    if not isinstance(model, Generator):
        raise unable(model, "generator")
    positions = [estimator.classes_.tolist().index(label) for label in labels]
    columns = estimator._columns()
    numbers = [columns[position] for position in positions]
    stream = torch.Generator().manual_seed(estimator.random_state_)
    drawn = model.synthesize(estimator.recognizer_.model.semantics[numbers], number, stream)
    return drawn.flatten(0, 1).numpy(), np.repeat(estimator.classes_[positions], number)


def _check_described(estimator: Any, so: str) -> None:
    if not estimator.described_:
        raise InputError(f"no class is described here, so {so}", fix="give semantics to fit")
