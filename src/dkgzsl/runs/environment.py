"""What a number depends on besides the settings: versions, machine, data, splits."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dkgzsl
from dkgzsl.data.problem import Problem

_LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "h5py", "safetensors", "timm")


def environment_of(problem: Problem, *, device: torch.device, seeds: list[int]) -> dict[str, Any]:
    """Everything for `environment.json`, JSON values only."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "dkgzsl": dkgzsl.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "seeds": seeds,
        "split_sha256": split_hash(problem),
        "semantics": problem.semantics_name,
        "data": dict(problem.provenance),
    }


def split_hash(problem: Problem) -> str:
    """One hash of labels and parts: equal hashes, equal splits, whatever file they came from."""
    parts = problem.parts
    arrays = [problem.labels, *(np.sort(part) for part in (parts.trainval, parts.test_seen, parts.test_unseen))]
    if parts.validation_classes is not None:
        arrays.append(np.sort(parts.validation_classes))
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.astype("<i8").tobytes())
        digest.update(b"|")
    return digest.hexdigest()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit(file: Path = Path(__file__)) -> str | None:
    """The commit of a checkout of this package; None where it is installed otherwise.

    A virtual environment often lies in the repository of a user's own project, which tracks none of our files.
    """
    try:
        _git(file, "ls-files", "--error-unmatch", file.name)
        return _git(file, "rev-parse", "HEAD") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(file: Path, *words: str) -> str:
    found = subprocess.run(
        ["git", "-C", str(file.parent), *words], capture_output=True, text=True, timeout=5, check=True
    )
    return found.stdout.strip()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
