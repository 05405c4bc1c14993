"""Which data sets are known, and which of their files are below a data root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dkgzsl.data.catalog import KNOWN, KnownDataset, known
from dkgzsl.data.formats.feature_maps import SUFFIXES
from dkgzsl.data.formats.reader import embedded_datasets
from dkgzsl.data.formats.xlsa17 import SUFFIX


def inventory(root: Path) -> list[dict[str, Any]]:
    """One row a data set: embedded ones, the benchmarks, and other folders with a split file below `root`."""
    embedded = [{"name": name, **row} for name, _, row in embedded_datasets()]
    benchmarks = [_benchmark(entry, root) for entry in KNOWN.values()]
    folders = sorted(root.iterdir()) if root.is_dir() else []
    others = [_other(folder) for folder in folders if folder.is_dir() and not known(folder.name)]
    return [*embedded, *benchmarks, *(row for row in others if row["here"] != "no")]


def _benchmark(entry: KnownDataset, root: Path) -> dict[str, Any]:
    folder = next((f for f in (root / entry.name, root / entry.name.lower()) if f.is_dir()), root / entry.name)
    official = {"att": entry.attributes} | ({"sent": entry.sentences} if entry.sentences else {})
    return {
        "name": entry.name,
        "title": entry.title,
        "images": entry.images,
        "seen_classes": entry.seen_classes,
        "unseen_classes": entry.unseen_classes,
        "semantics": official,
        **_files(folder),
        "licence": entry.licence,
    }


def _other(folder: Path) -> dict[str, Any]:
    return {
        "name": folder.name,
        "title": folder.name,
        "images": None,
        "seen_classes": None,
        "unseen_classes": None,
        "semantics": {},
        **_files(folder),
        "licence": "",
    }


def _files(folder: Path) -> dict[str, Any]:
    splits = sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))
    features = sorted(
        path.stem
        for suffix in (".mat", *SUFFIXES)
        for path in folder.glob(f"*{suffix}")
        if not path.name.endswith(SUFFIX)
    )
    words = [f"features {', '.join(features)}"] if features else []
    words += [f"splits {', '.join(splits)}"] if splits else []
    return {"features": features, "here": "; ".join(words) or "no"}
