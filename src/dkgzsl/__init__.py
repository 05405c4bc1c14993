"""Generative zero-shot learning: recognise classes that have no training image, from a description."""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

# Names are imported when first used, so that `import dkgzsl` and `dkgzsl --help` stay quick.
_PUBLIC = {
    "load_dataset": "dkgzsl.data.load",
    "Problem": "dkgzsl.data.problem",
    "Parts": "dkgzsl.data.problem",
    "TrainConfig": "dkgzsl.config",
    "train": "dkgzsl.runs.training",
    "Trained": "dkgzsl.runs.summary",
    "ZeroShotClassifier": "dkgzsl.estimator.estimator",
    "DkgzslError": "dkgzsl.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'dkgzsl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
