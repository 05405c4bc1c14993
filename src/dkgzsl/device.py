"""The device of a computation, and its precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

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
