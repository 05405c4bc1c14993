"""Results that depend on weights alone, kept between predictions while the weights stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def keeps_nothing() -> bool:
    """Whether results have to be computed anew: under gradients, and where a graph is being recorded."""
    return torch.is_grad_enabled() or torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore


def state_of(*weights: Tensor) -> tuple[object, ...]:
    """Differs as soon as a weight is changed, replaced or moved.

    Weights made in inference mode count no versions; they are made, used and dropped there.
    """
    return tuple((w.data_ptr(), None if w.is_inference() else w._version, w.device) for w in weights)


class CastWeights:
    """Weights in another precision, cast once instead of at every prediction; neither copied nor pickled along."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[object, ...], list[Tensor]] | None = None

    def of(self, weights: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
        """`weights` in `dtype`; callers must not change them."""
        key = (*state_of(*weights), dtype)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, [weight.to(dtype) for weight in weights]
        return self._kept[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_kept": None}
