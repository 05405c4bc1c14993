"""The device of a computation, and its precision."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from types import FunctionType, MethodType
from typing import Any, Final, Literal, TypeVar

import torch

from dkgzsl.errors import ConfigError


def device_of(name: str | None) -> torch.device:
    """The device of a name.

    Args:
        name: as torch names devices (`cpu`, `cuda:0`); None: CUDA where it is available, else the CPU.

    Raises:
        ConfigError: the device cannot be used.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        float(torch.zeros(1, device=device))  # `meta` has tensors without numbers
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(
            f"the device {name!r} cannot be used: {first}", fix="--device cpu always works"
        ) from error
    return device


Precision = Literal["float32", "bfloat16"]

_PROBES: Final = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
"""Private functions of torch that find bfloat16 products in the processor; a version may lack them."""


def resolved(precision: Literal["auto", "float32", "bfloat16"], device: torch.device | str) -> Precision:
    """The precision that a setting means on a device.

    Args:
        precision: `auto` is bfloat16 where the device multiplies in it, float32 where it would emulate that.
        device: where the computation runs.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if multiplies_in_bfloat16(torch.device(device)) else "float32"


def multiplies_in_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 without emulation."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    cpu: Any = torch.cpu
    probes: list[Callable[[], bool]] = [getattr(cpu, name) for name in _PROBES if hasattr(cpu, name)]
    return any(probe() for probe in probes)


Thing = TypeVar("Thing")


def moved(thing: Thing, device: torch.device) -> Thing:
    """A model, or whatever holds tensors, with all its tensors on a device; on the CPU it is the thing itself.

    Args:
        thing: a tensor, a module (which is moved in place), a container, or an object whose attributes are such.
        device: where they shall be.
    """
    return thing if device.type == "cpu" else _Mover(device)(thing)


class _Mover:
    """Moves each object once, however often it is referred to."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._done: dict[int, tuple[Any, Any]] = {}  # with the original, so that its id stays its own

    def __call__(self, thing: Any) -> Any:
        if id(thing) not in self._done:
            self._done[id(thing)] = (thing, self._moved(thing))
        return self._done[id(thing)][1]

    def _moved(self, thing: Any) -> Any:
        if isinstance(thing, torch.Tensor | torch.nn.Module):
            return thing.to(self._device)
        if isinstance(thing, tuple) and hasattr(thing, "_fields"):
            return type(thing)(*map(self, thing))
        if isinstance(thing, tuple | list):
            return type(thing)(map(self, thing))
        if isinstance(thing, dict):
            return {key: self(value) for key, value in thing.items()}
        if isinstance(thing, type | FunctionType | MethodType) or not hasattr(thing, "__dict__"):
            return thing
        copied = copy(thing)
        for name, value in vars(thing).items():
            object.__setattr__(copied, name, self(value))  # frozen data classes, too
        return copied
