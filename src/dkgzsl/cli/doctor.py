"""`dkgzsl doctor`: what of this machine the package finds, and what is missing for what."""

from __future__ import annotations

import json as json_format
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "h5py", "safetensors")
EXTRAS = {
    "images": (
        ("timm", "PIL", "cv2"),
        "region features of photos by any timm backbone, predictions on photos, overlays",
    ),
    "text": (("sentence_transformers",), "class descriptions from sentences, by a sentence encoder"),
    "clip": (("open_clip", "timm", "PIL"), "CLIP as a backbone, an encoder of class names, and a method"),
    "heic": (("pillow_heif",), "photos in HEIC, as telephones take them"),
    "tables": (("pyarrow", "openpyxl"), "tables of class descriptions in Excel and Parquet"),
    "export": (("onnx", "onnxruntime"), "a run as one ONNX file, checked in ONNX Runtime"),
    "tune": (("optuna",), "a search for settings on your own data"),
    "cluster": (("ray", "fsspec", "s3fs"), "work on several machines by Ray, and feature stores by URL"),
    "hub": (("huggingface_hub",), "push and pull of runs by a model hub"),
    "app": (("PIL",), "a local page to try images and describe classes"),
}


@dataclass(frozen=True)
class Config:
    """Print versions, device, cache folder, optional extras and free disk of this machine."""

    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Inspect the machine and print what is found."""
    found = examined()
    if config.json:
        print(json_format.dumps(found))
        return
    versions = ", ".join(f"{name} {one or 'missing'}" for name, one in found["libraries"].items())
    print(f"dkgzsl   {found['dkgzsl']}, Python {found['python']}")
    print(f"with     {versions}")
    print(f"device   {found['device']}; matrix products in bfloat16: {'fast' if found['bfloat16'] else 'slow'}")
    print(f"cache    {found['cache']}{'' if found['cache_exists'] else ' (not there yet)'}; DKGZSL_HOME moves it")
    print(f"weights  {found['weights']}: files of backbones' weights are found here, too")
    print(f"disk     {found['free_gigabytes']:.1f} GB free there")
    for name, extra in found["extras"].items():
        state = "installed" if extra["installed"] else f"missing: pip install 'dkgzsl[{name}]'"
        print(f"extra    {name:<7} {state}\n                 {extra['brings']}")


def examined() -> dict[str, Any]:
    """What is found, as JSON values."""
    import torch

    import dkgzsl
    from dkgzsl.data.catalog import data_root
    from dkgzsl.device import device_of, multiplies_in_bfloat16
    from dkgzsl.display import counted
    from dkgzsl.files import home_folder

    device, cache = device_of(None), data_root(None)
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else counted(torch.get_num_threads(), "thread")
    )
    return {
        "dkgzsl": dkgzsl.__version__,
        "python": sys.version.split()[0],
        "libraries": {one: _version(one) for one in _LIBRARIES},
        "device": f"{device} ({name})",
        "bfloat16": multiplies_in_bfloat16(device),
        "cache": str(cache),
        "weights": str(home_folder() / "weights"),
        "cache_exists": Path(cache).is_dir(),
        "free_gigabytes": round(shutil.disk_usage(there).free / 1e9, 1),
        "extras": {
            name: {"installed": all(find_spec(module) for module in modules), "brings": brings}
            for name, (modules, brings) in EXTRAS.items()
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
