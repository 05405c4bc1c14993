"""The method's own format: one HDF5 file with region features, class descriptions and parts, counted from 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from dkgzsl.data.catalog import backbone_of
from dkgzsl.data.checks import PARTS
from dkgzsl.data.formats.reader import Wanted
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
    contents = _contents(path)
    labels = whole_numbers(contents["labels"], what="labels", where=path, first=_FIRST)
    names = contents.get("allclasses_names")
    class_names = None if names is None else clean_names(np.array([_text(name) for name in names.ravel()]))
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
        features=_features(path),
        counts_from=_FIRST,
        attribute_vectors=None if vectors is None else np.asarray(vectors, dtype=np.float64),
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


def _contents(path: Path) -> dict[str, np.ndarray]:
    import h5py

    if not path.is_file():
        raise DataError(f"no file {path.name}", where=str(path.parent))
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in _NEEDED if key not in file]
            if missing:
                raise DataError(
                    f"{path.name} has no {', '.join(missing)}",
                    where=f"{path} (it has: {', '.join(file) or 'nothing'})",
                    fix="use a feature map as the method's code writes it; its names are fixed",
                )
            return {
                key: np.asarray(file[key][()]) for key in file if key != "feature_map" and _is_array(file[key])
            }
    except OSError as error:
        raise DataError(
            f"{path.name} cannot be read as HDF5: {error}",
            where=str(path),
            fix="make the file again; it may have been cut off",
        ) from error


def _features(path: Path) -> np.ndarray | StoredArray:
    import h5py

    with h5py.File(path, "r") as file:
        dataset = file["feature_map"]
        if dataset.dtype.kind not in "fiu":
            raise DataError(f"features must be numbers, not {dataset.dtype}", where=str(path))
        offset = dataset.id.get_offset()
        shape, dtype = dataset.shape, dataset.dtype
    if offset is None or not int(np.prod(shape)):
        return StoredArray(path, "feature_map")
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)


def _is_array(item: Any) -> bool:
    return hasattr(item, "shape")


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
