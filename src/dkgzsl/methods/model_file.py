"""A model as one safetensors file: tensors, and JSON values in the header. Nothing in it can run code."""

from __future__ import annotations

from pathlib import Path

from dkgzsl.errors import RunError
from dkgzsl.learning.checkpoint import read_checkpoint, write_checkpoint
from dkgzsl.methods.base import SavedModel


def write_model(path: Path, saved: SavedModel) -> None:
    """Write atomically: the file is there whole, or not at all.

    Raises:
        RunError: it cannot be written.
    """
    tensors = {name: tensor.cpu() for name, tensor in saved.tensors.items()}
    write_checkpoint(path, tensors, {"method": saved.method, "values": dict(saved.values)})


def read_model(path: Path) -> SavedModel:
    """Read what `write_model` wrote.

    Raises:
        RunError: the file is missing, or is no model of this package.
    """
    content = read_checkpoint(path)
    if content is None:
        raise RunError("the run has no model", where=str(path), fix="train it, or name another run folder")
    tensors, values = content
    if not {"method", "values"} <= values.keys():
        raise RunError("the file holds no model of this package", where=str(path))
    return SavedModel(values["method"], tensors, values["values"])
