"""That the files of a model belong together: found when they are read, not at the first photo."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from dkgzsl.methods.base import Extendable, Model
from dkgzsl.runs.model_record import RecognitionRecord

_LARGEST: Final = 2**26


def example_of(record: RecognitionRecord) -> np.ndarray:
    """Features of one made-up image, of the shape that is on record.

    Raises:
        ValueError: no image has features of that shape.
    """
    shape = record.features
    if min(shape) < 1 or math.prod(shape) > _LARGEST:
        raise ValueError(f"features of shape {list(shape)}")
    return np.linspace(0.1, 1, math.prod(shape), dtype=np.float32).reshape(1, *shape)


def check_whole(model: Model, record: RecognitionRecord) -> None:
    """That a model has the classes and descriptions that are on record.

    Raises:
        ValueError: it has not.
    """
    classes = len(record.class_names)
    for numbers in (model.seen, model.unseen):
        if numbers.ndim != 1 or numbers.is_floating_point():
            raise ValueError(f"classes are numbered, not {numbers.dtype} {list(numbers.shape)}")
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < classes:
            raise ValueError(f"a class has no name: there are {classes}")
    if isinstance(model, Extendable) and tuple(model.semantics.shape) != (classes, record.semantics.size):
        raise ValueError(f"descriptions of shape {list(model.semantics.shape)}")
