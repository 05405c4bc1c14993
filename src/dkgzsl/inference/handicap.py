"""What is taken from the scores of sparsely described classes, so that none becomes an attractor.

A class of which little is known is put near the middle of all classes, where images of others may fall to it. How
far it reaches into other classes is compared with how far completely described ones do. The margin of class k on
an image is its score minus the best other class's, and its reach the `QUANTILE` of its margins on features that
the model synthesizes for all other classes. The handicap is the reach less the median reach of the described
classes whose description is complete (without any: of the seen classes), at least 0. Derived here; it is measured
in `docs/own-photos.md`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float

from dkgzsl.methods.base import Generator, Model

QUANTILE: Final = 0.99
EACH: Final = 40
"""Features that are synthesized for each class."""


def handicaps(
    model: Model,
    sparse: Collection[int],
    known: Bool[np.ndarray, " classes"],
    seen: Bool[np.ndarray, " classes"],
    offsets: Float[np.ndarray, " classes"],
) -> Float[np.ndarray, " classes"]:
    """The handicap of each class, at least 0; 0 for all but the sparse ones.

    Args:
        model: of all classes; of one that synthesizes nothing no reach can be measured, and there is no handicap.
        sparse: numbers of the described classes whose description is sparse.
        known: which classes are recognised.
        seen: which have training images.
        offsets: calibration's, added to the scores.
    """
    found = np.zeros(len(known))
    chosen = [k for k in sparse if known[k] and not seen[k]]
    if not chosen or not isinstance(model, Generator):
        return found
    numbers = np.flatnonzero(known)
    rows = torch.from_numpy(numbers).to(model.semantics.device)
    stream = torch.Generator(device="cpu").manual_seed(0)
    drawn = model.synthesize(model.semantics[rows], EACH, stream).flatten(0, 1)
    scores = (model.scores(drawn).double().cpu().numpy() + offsets)[:, numbers]
    labels = np.repeat(numbers, EACH)
    complete = [k for k in numbers.tolist() if not seen[k] and k not in sparse]
    usual = complete or [k for k in numbers.tolist() if seen[k]]
    reach = {k: _reach(scores, labels, numbers, k) for k in (*chosen, *usual)}
    median = float(np.median([reach[k] for k in usual]))
    for k in chosen:
        found[k] = max(0.0, reach[k] - median)
    return found


def _reach(scores: np.ndarray, labels: np.ndarray, numbers: np.ndarray, k: int) -> float:
    column, others = int(np.flatnonzero(numbers == k)[0]), labels != k
    best = np.delete(scores[others], column, axis=1).max(1)
    return float(np.quantile(scores[others, column] - best, QUANTILE))
