"""Results kept while what they were computed from stays the same: of the last inputs, and of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor


class LastResults:
    """Remembers what a function gave for the last few tensors, told apart by identity, not by value.

    A selector scores hundreds of models on the same two held-out tensors; what the models share is then computed
    once. The inputs are kept alive, so that an identity cannot be used again; they must not be changed in place.
    """

    def __init__(self, keep: int = 2) -> None:
        self._keep = keep
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def __call__(self, value: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """`function(value)`, remembered."""
        for known, result in self._pairs:
            if known is value:
                return result
        result = function(value)
        self._pairs = [*self._pairs[-self._keep + 1 :], (value, result)]
        return result

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles begin with an empty memory: they are of the model, not of what it saw."""
        return {**self.__dict__, "_pairs": []}


R = TypeVar("R")


def keeps_nothing() -> bool:
    """Whether results have to be computed anew: under gradients, and where a graph is being recorded."""
    return torch.is_grad_enabled() or records_a_graph()


def records_a_graph() -> bool:
    """Whether operations are being recorded to be run elsewhere."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore


class _Entry(NamedTuple, Generic[R]):
    weights: tuple[Tensor, ...]
    state: tuple[object, ...]
    result: R

    def is_of(self, weights: Sequence[Tensor]) -> bool:
        return all(kept is given for kept, given in zip(self.weights, weights, strict=True))


class KeptResult(Generic[R]):
    """The last result for some weights; neither copied nor pickled along.

    A result is used again for the very same tensors, unchanged: neither written to in place nor given other data.
    They are kept alive, so that an identity cannot be used again. Weights made in inference mode count no
    versions; they must not be written to.
    """

    def __init__(self) -> None:
        self._entry: _Entry[R] | None = None

    def of(self, weights: Sequence[Tensor], how: object, compute: Callable[[], R]) -> R:
        """`compute()`, or its last result.

        Args:
            weights: all that it depends on, but for `how`.
            how: what else decides the result, to be compared.
            compute: the function.
        """
        state = (how, *((w.data_ptr(), None if w.is_inference() else w._version) for w in weights))
        entry = self._entry
        if entry is None or entry.state != state or not entry.is_of(weights):
            entry = self._entry = _Entry(tuple(weights), state, compute())
        return entry.result

    def __getstate__(self) -> dict[str, Any]:
        return {"_entry": None}
