"""A benchmark's official split with the features of a store in place of its feature file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dkgzsl.data.feature_store import INDEX, open_store
from dkgzsl.data.hashing import fingerprint
from dkgzsl.data.raw import RawData
from dkgzsl.data.xlsa17 import read_raw


def read_benchmark_store(
    folder: Path, store_folder: Path, semantics: str | None
) -> tuple[RawData, dict[str, Any]]:
    """Read a folder in the xlsa17 layout and a store of its images, in the order that its splits count them.

    Images that the extraction could not read are in no part.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    raw, provenance = read_raw(folder, features=None, semantics=semantics)
    store = open_store(store_folder)
    unreadable = np.flatnonzero(~store.readable)
    raw = replace(
        raw,
        features=store.tokens,
        labels=store.labels,
        image_files=store.paths,
        parts={part: positions[~np.isin(positions, unreadable)] for part, positions in raw.parts.items()},
    )
    provenance |= {"features": store_folder.name, **store.provenance()}
    provenance["files"][INDEX] = fingerprint(store_folder / INDEX)
    return raw, provenance
