"""Two caches of results: one by the tensor that went in, one by the weights that were used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor


class InputCache:
    """Keeps the results of a function for its last few input tensors, compared by identity, not by value.

    A selector scores hundreds of models on the same two held-out tensors; the part of the computation that the
    models share then runs once. The cache holds on to the inputs, so that no other tensor can take over their
    identity; they must not be changed in place.

    Args:
        size: number of inputs whose results are kept, 1 or more.
    """

    def __init__(self, size: int = 2) -> None:
        self._size = size
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def __call__(self, value: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """`function(value)`, from the cache where it holds the result.

        Args:
            value: the input.
            function: called with `value` where the cache does not hold the result; always the same function.
        """
        for known, result in self._pairs:
            if known is value:
                return result
        result = function(value)
        self._pairs = [*self._pairs[-self._size + 1 :], (value, result)]
        return result

    def __getstate__(self) -> dict[str, object]:
        """The state of a copy or a pickle, whose cache is empty."""
        return {**self.__dict__, "_pairs": []}


R = TypeVar("R")


def must_recompute() -> bool:
    """Whether cached results may not be used: gradients are wanted, or a graph is being recorded."""
    return torch.is_grad_enabled() or is_recording_graph()


def is_recording_graph() -> bool:
    """Whether torch records the operations, to run them elsewhere (tracing, compiling, export)."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore


class _Entry(NamedTuple, Generic[R]):
    weights: tuple[Tensor, ...]
    state: tuple[object, ...]
    result: R

    def is_of(self, weights: Sequence[Tensor]) -> bool:
        return all(known is given for known, given in zip(self.weights, weights, strict=True))


class WeightCache(Generic[R]):
    """Keeps the last result that was computed from some weights.

    The result is used again for the same tensors as long as they are unchanged: not written to in place, and not
    pointed at other data. The cache holds on to the tensors, so that no other tensor can take over their identity.
    Tensors that were made in inference mode count no versions: nobody may write to them.
    """

    def __init__(self) -> None:
        self._entry: _Entry[R] | None = None

    def get(self, weights: Sequence[Tensor], how: object, compute: Callable[[], R]) -> R:
        """`compute()`, from the cache where it holds the result.

        Args:
            weights: all tensors that the result depends on.
            how: what else the result depends on, such as a precision; compared by value.
            compute: called where the cache does not hold the result.
        """
        state = (how, *((w.data_ptr(), None if w.is_inference() else w._version) for w in weights))
        entry = self._entry
        if entry is None or entry.state != state or not entry.is_of(weights):
            entry = self._entry = _Entry(tuple(weights), state, compute())
        return entry.result

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy or a pickle, whose cache is empty."""
        return {"_entry": None}
