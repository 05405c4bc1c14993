"""Whole files: a reader sees the old one or the new one, never a part; hashes of files and arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dkgzsl.errors import RunError

_WHOLE_UP_TO: Final = 2 * 2**30
_END: Final = 64 * 2**20


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """The file's SHA-256, or above 2 GiB `ends:` and that of its size, first and last 64 MiB.

    Region maps of tens of gigabytes would take a minute to read in full before each run.
    """
    size = path.stat().st_size
    if size <= _WHOLE_UP_TO:
        return sha256_of(path)
    digest = sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_END))
        file.seek(size - _END)
        digest.update(file.read(_END))
    return f"ends:{digest.hexdigest()}"


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


def write_whole(path: Path, text: str) -> None:
    """Write beside the file and put it in its place; whoever reads meets the old text or the new one.

    Args:
        path: the file.
        text: written as it is, in UTF-8.

    Raises:
        OSError: it cannot be written; nothing is left beside it.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        draft.write_text(text, encoding="utf-8", newline="")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
