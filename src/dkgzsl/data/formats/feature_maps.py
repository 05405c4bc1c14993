"""The method's own format: one HDF5 file with region features, class descriptions and parts, counted from 0."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from dkgzsl.data.catalog import backbone_of
from dkgzsl.data.checks import PARTS
from dkgzsl.data.formats.reader import Wanted
from dkgzsl.data.formats.untrusted import Content, Staying, read_untrusted
from dkgzsl.data.formats.xlsa17 import SplitFile, add_splits, clean_names, companions
from dkgzsl.data.raw import RawData, count_classes, orient, whole_numbers
from dkgzsl.errors import DataError
from dkgzsl.features.arrays import StoredArray

SUFFIXES: Final = (".hdf5", ".h5")
_NEEDED: Final = ("feature_map", "labels", "att", *(f"{part}_loc" for part in PARTS))
_FIRST: Final = 0


class FeatureMapReader:
    """Reads a feature map file as the method's released code writes it.

    `feature_map` [N, 1 + R, C] (or [N, C], pooled) stays in the file: it is mapped where it lies in one piece,
    and read row by row where it is stored in chunks. `labels` [N], `trainval_loc`, `test_seen_loc` and
    `test_unseen_loc` count from 0; `att` and `original_att` may have either orientation; `w2v_att` [M, 300] are
    word vectors of the attributes. Split files of the xlsa17 layout in the same folder whose parts agree add their
    sources, class names and validation classes. The folder's name is the data set's.
    """

    def recognises(self, path: Path) -> bool:
        """Whether it is a file named as HDF5."""
        return path.is_file() and path.suffix in SUFFIXES

    def read(self, path: Path, wanted: Wanted) -> tuple[RawData, dict[str, Any]]:
        """Read the file and what agrees with it in its folder.

        Raises:
            DataError: a data set of the file is missing, or fits no orientation.
        """
        raw, provenance = read_raw_map(path)
        return raw, {**provenance, "backbone": wanted.backbone or backbone_of(path)}


def read_raw_map(path: Path) -> tuple[RawData, dict[str, Any]]:
    """Read the file without checking it, with the split files of its folder that agree, and the provenance.

    Raises:
        DataError: a data set is missing, fits no orientation, or the file is not HDF5.
    """
    found = _found(path)
    contents = found.arrays
    labels = whole_numbers(contents["labels"], what="labels", where=path, first=_FIRST)
    names = contents.get("allclasses_names")
    class_names = None if names is None else clean_names(names.ravel())
    classes = count_classes(labels, contents["att"].shape)
    tables = {
        name: np.ascontiguousarray(
            orient(contents[key], count=classes, axis=0, what=key, of="classes", where=path), dtype=np.float64
        )
        for key, name in (("att", "att"), ("original_att", "att_original"))
        if key in contents
    }
    parts = {
        part: whole_numbers(contents[f"{part}_loc"], what=f"{part}_loc", where=path, first=_FIRST)
        for part in (*PARTS, "train", "val")
        if f"{part}_loc" in contents
    }
    vectors = contents.get("w2v_att")
    raw = RawData(
        name=path.resolve().parent.name,
        where=str(path),
        parts=parts,
        tables=tables,
        class_names=class_names,
        labels=labels,
        features=_features(path, found.staying["feature_map"]),
        counts_from=_FIRST,
        attribute_vectors=None if vectors is None else _vectors(vectors, path),
    )
    provenance: dict[str, Any] = {
        "format": "feature map",
        "default_semantics": "att",
        "folder": str(path.parent),
        "files": {},
        "features": path.stem,
    }
    own = SplitFile(path=path, tables=tables, parts=parts, class_names=class_names)
    agreeing, left_out = companions(own)
    if class_names is None:
        raw = replace(raw, class_names=next((split.class_names for split in agreeing if split.class_names), None))
    return add_splits(raw, provenance, own, agreeing, left_out), provenance


def _found(path: Path) -> Content:
    found = read_untrusted(path, kind="HDF5", staying=["feature_map"])
    if not found.is_hdf5:
        raise DataError(f"{path.name} cannot be read as HDF5", where=str(path), fix="make the file again")
    here = {*found.arrays, *found.staying}
    missing = [key for key in _NEEDED if key not in here]
    if missing:
        raise DataError(
            f"{path.name} has no {', '.join(missing)}",
            where=f"{path} (it has: {', '.join(found.names) or 'nothing'})",
            fix="use a feature map as the method's code writes it; its names are fixed",
        )
    return found


def _features(path: Path, stored: Staying) -> np.ndarray | StoredArray:
    if stored.dtype.kind not in "fiu":
        raise DataError(f"features must be numbers, not {stored.dtype}", where=str(path))
    if len(stored.shape) not in (2, 3):
        raise DataError(f"feature_map is [images, ...], not of shape {list(stored.shape)}", where=str(path))
    if stored.offset is None or not math.prod(stored.shape):
        return StoredArray(path, "feature_map")
    return np.memmap(path, dtype=stored.dtype, mode="r", offset=stored.offset, shape=stored.shape)


def _vectors(vectors: np.ndarray, path: Path) -> np.ndarray:
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise DataError(
            f"w2v_att is a matrix of numbers, not {vectors.dtype} {list(vectors.shape)}", where=str(path)
        )
    return np.asarray(vectors, dtype=np.float64)
