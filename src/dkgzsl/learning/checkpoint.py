"""Tensors and JSON values in one file, replaced as a whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dkgzsl.errors import RunError


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write a safetensors file whose metadata holds `values` as JSON; a reader sees the old file or the new one.

    Raises:
        RunError: the file cannot be written.
    """
    draft = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(_apart(tensors), draft, metadata={"values": json.dumps(values)})
        with draft.open("rb") as file:  # on the disk before it takes the old one's place
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        raise RunError(f"cannot write the checkpoint: {error}", where=str(path)) from error


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `write_checkpoint` wrote, on the CPU; None where there is no file.

    Raises:
        RunError: the file cannot be read, or is not a checkpoint.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            values = json.loads(file.metadata()["values"])
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, values
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"not a checkpoint: {error}", where=str(path), fix="start again without --resume, with --overwrite"
        ) from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors takes them: contiguous, and none sharing memory with another."""
    apart: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        kept = tensor.detach().contiguous()
        address = kept.untyped_storage().data_ptr()
        apart[name] = kept.clone() if address in storages else kept
        storages.add(address)
    return apart
