"""Work that a GPU repeats as a CUDA graph, without Python between its small steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Inputs = TypeVar("Inputs", bound="tuple[Tensor, ...]")


def has_graphs(device: torch.device) -> bool:
    """Whether a device repeats captured work."""
    return device.type == "cuda"


def captured(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """What `run` does on the GPU, without doing it yet; each call of the result does it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run()

    def replay() -> Tensor:
        graph.replay()
        return found

    return replay


class Repeated(Generic[Inputs]):
    """A step of a training, called again and again: the first time as it is, then captured, checked and replayed.

    The first call makes the memory of gradients and moments, which the graph then refers to. The second one does
    its work twice from the same state, by the graph and without it. Where the two differ, or where the device
    cannot capture, a warning says so, and all further calls do without a graph: this class changes the time, not
    the result.

    Args:
        run: takes a named tuple of tensors of fixed shapes, changes the state, and returns figures. It neither
            waits for the device nor draws random numbers.
        state: the tensors themselves that `run` changes.
    """

    def __init__(self, run: Callable[[Inputs], Tensor], state: Callable[[], Mapping[str, Tensor]]) -> None:
        self._run, self._state = run, state
        self._begun = self._given_up = False
        self._inputs: Any = None
        self._replay: Callable[[], Tensor] | None = None

    def __call__(self, inputs: Inputs) -> Tensor:
        """Do the work; returns its figures."""
        if self._given_up or not self._begun:
            self._begun = True
            return self._run(inputs)
        if self._replay is None:
            return self._capture(inputs)
        self._take(inputs)
        return self._replay().clone()

    def _capture(self, given: Inputs) -> Tensor:
        """Capture, replay from the present state, then run from the same state without the graph; compare."""
        inputs = self._take(given)
        try:
            replay = captured(lambda: self._run(inputs))
        except RuntimeError as error:  # torch has no narrower one
            self._give_up(str(error).splitlines()[0])
            return self._run(given)
        state = self._state()
        before = {name: tensor.clone() for name, tensor in state.items()}
        figures = replay().clone()
        found = {name: tensor.clone() for name, tensor in state.items()}
        with torch.no_grad():
            for name, tensor in state.items():
                tensor.copy_(before[name])
        expected = self._run(inputs)
        if not _close(figures, expected, torch.zeros_like(expected)):
            self._give_up("its figures differ")
        elif wrong := [name for name, tensor in state.items() if not _close(found[name], tensor, before[name])]:
            self._give_up(f"it leads to another {wrong[0]}")
        else:
            self._replay = replay
        return expected

    def _give_up(self, why: str) -> None:
        self._given_up = True
        warnings.warn(f"training goes on without a CUDA graph: {why}", RuntimeWarning, stacklevel=4)

    def _take(self, inputs: Inputs) -> Inputs:
        """Copy inputs to where the graph reads them."""
        if self._inputs is None:
            self._inputs = type(inputs)(*(tensor.clone() for tensor in inputs))
        for kept, tensor in zip(self._inputs, inputs, strict=True):
            kept.copy_(tensor)
        kept_inputs: Inputs = self._inputs
        return kept_inputs


def _close(found: Tensor, expected: Tensor, before: Tensor) -> bool:
    """Whether a tensor has changed alike, up to a hundredth of the change: Adam enlarges rounding."""
    change = (expected.double() - before.double()).norm()
    return bool((found.double() - expected.double()).norm() <= 0.01 * change + 1e-7)
