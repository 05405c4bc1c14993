"""Which precision matrix products run in, where the configuration leaves it open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import torch

Precision = Literal["float32", "bfloat16"]

_PROBES: Final = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
"""torch's own names for processors with bfloat16 products; private, so looked up softly."""


def resolved(precision: Literal["auto", "float32", "bfloat16"], device: torch.device | str) -> Precision:
    """`auto` is bfloat16 where the device multiplies in it, float32 where it would be emulated."""
    if precision != "auto":
        return precision
    return "bfloat16" if multiplies_in_bfloat16(torch.device(device)) else "float32"


def multiplies_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 products of its own."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    cpu: Any = torch.cpu
    probes: list[Callable[[], bool]] = [getattr(cpu, name) for name in _PROBES if hasattr(cpu, name)]
    return any(probe() for probe in probes)
