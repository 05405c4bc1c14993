"""The device of a computation, its precision, and what multiplies its matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache
from threading import Lock
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


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on the device that computes.

    On the way to CUDA it is copied from locked memory, behind the work that is under way there: meanwhile this
    process reads what comes next.

    Args:
        tensor: on the CPU; it may be changed as soon as the function returns.
        device: where it shall be.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


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


class _Products:
    """How many computations want fast products now, and the setting of torch from before the first of them."""

    lock = Lock()
    wanted = 0
    before = ""


@contextmanager
def fast_products() -> Iterator[None]:
    """Within, oneDNN multiplies float32 matrices on the CPU, where it does that in float32; a decorator, too.

    torch gives these products to MKL, which leaves half the width of AMD's vector units unused; oneDNN, which is
    in torch as well, is 2.3 times as fast there. torch hands products to it only where "bf16" is allowed within.
    Processors without matrix tiles compute in float32 all the same, and a trial finds out whether this one does.
    Where it does not, and in torch before 2.9, nothing changes. The setting is one for the whole process: what
    other threads multiply meanwhile is as exact as before.
    """
    settings = _product_settings()
    if settings is None or not _exact_by_onednn():
        yield
        return
    with _Products.lock:
        if not _Products.wanted:
            _Products.before, settings.fp32_precision = settings.fp32_precision, "bf16"
        _Products.wanted += 1
    try:
        yield
    finally:
        with _Products.lock:
            _Products.wanted -= 1
            if not _Products.wanted:
                settings.fp32_precision = _Products.before


def _product_settings() -> Any:
    """torch's settings of oneDNN's products; None where it has none."""
    return getattr(getattr(torch.backends, "mkldnn", None), "matmul", None)


@cache
def _exact_by_onednn() -> bool:
    """Whether a product by oneDNN has the precision of float32: rounded to bfloat16, it would be off by .002."""
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=draw) for _ in range(2))
    exact = left.double() @ right.double()
    settings = _product_settings()
    with _Products.lock:
        before, settings.fp32_precision = settings.fp32_precision, "bf16"
        try:
            found = left @ right
        finally:
            settings.fp32_precision = before
    return float((found - exact).norm() / exact.norm()) < _FLOAT32


_FLOAT32: Final = 1e-5
"""Relative error of a float32 product, at most: that of 256 terms is about 3e-7."""

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
