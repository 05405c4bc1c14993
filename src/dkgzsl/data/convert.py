"""Feature stores from and to the field's files: HDF5 region maps and xlsa17 `.mat`; and from `.npz`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float16, Integer

from dkgzsl.data.formats.feature_files import is_arrays, read_labelled
from dkgzsl.data.formats.matfile import read_mat
from dkgzsl.data.formats.untrusted import Content, read_untrusted
from dkgzsl.data.raw import MOST_CLASSES, whole_numbers
from dkgzsl.errors import DataError
from dkgzsl.features.arrays import StoredArray
from dkgzsl.features.store import FeatureStore
from dkgzsl.features.store_writer import StoreWriter
from dkgzsl.files import fingerprint, output_file

_MAPS: Final = ("feature_map", "features")  # names in HDF5 region maps
_BATCH: Final = 256


def store_from_file(source: Path, out: Path, *, backbone: str, overwrite: bool = False) -> tuple[int, int, int]:
    """Import a file of features into a store; returns the tokens' shape [N, 1 + R, C].

    It takes HDF5 files with `feature_map` [N, 1 + R, C] (the global token first) or [N, C, H, W] (the mean of the
    regions becomes the global token), `labels` from 0 and, where there, `image_files`; .npz files with arrays of
    the same kinds, whose labels may be class names; and xlsa17 `.mat` files
    with `features` [C, N], `labels` from 1 and `image_files`, which have no regions. Images without a recorded
    path are named by their position, `image 0`.

    Args:
        source: the file.
        out: the store's folder.
        backbone: what made the features; files do not say.
        overwrite: start again, whatever store is there.

    Raises:
        DataError: a variable is missing or of another shape, a value is not finite in half precision, or the store
            cannot be written.
    """
    features, labels, paths, names = _read(source)
    count, rest = len(features), features.shape[1:]
    if len(labels) != count or (paths is not None and len(paths) != count):
        raise DataError(f"{count} images have features, and {len(labels)} have labels", where=str(source))
    if len(rest) not in (1, 2, 3):
        raise DataError(f"features of shape {list(features.shape)} are no regions", where=str(source))
    channels, regions = (rest[0], math.prod(rest[1:])) if len(rest) == 3 else (rest[-1], 0)
    if len(rest) == 2:
        regions = rest[0] - 1
    record = {
        "problem": source.parent.name,
        "class_names": list(names or _numbered_names(labels, source)),
        "backbone": {"name": backbone, "timm": None, "parameters": None, "note": "imported"},
        "weights": {"source": "unknown"},
        "preprocessing": None,
        "imported_from": {"file": source.name, "fingerprint": fingerprint(source)},
        "grid": _grid(rest, regions, source),
        "global_token": "mean of the regions" if len(rest) == 3 else "as in the file",
        "token_order": "global token, then regions row by row from the top left",
        "batch_size": _BATCH,
        "libraries": {"dkgzsl": version("dkgzsl")},
    }
    listed = paths or [f"image {number}" for number in range(count)]
    with StoreWriter(
        out,
        record=record,
        paths=listed,
        labels=labels.tolist(),
        tokens=1 + regions,
        channels=channels,
        overwrite=overwrite,
    ) as store:
        while store.done < count:
            block = _tokens(np.asarray(features[store.done : store.done + _BATCH]))
            if not np.isfinite(block).all():
                raise DataError(
                    f"features near image {store.done} are not finite in half precision", where=str(source)
                )
            store.append(block, [(None, None)] * len(block))
    return (count, 1 + regions, channels)


def _read(source: Path) -> tuple[Any, Integer[np.ndarray, " images"], Sequence[str] | None, Sequence[str] | None]:
    """Features, labels, and paths and class names where the file has them."""
    if is_arrays(source):
        found = read_labelled(source)
        return found.features, found.labels, found.paths, found.class_names
    return (*_read_other(source), None)


def store_to_mat(store: FeatureStore, out: Path) -> tuple[int, int]:
    """Export a store's global tokens as an xlsa17 `.mat`; returns the shape of `features`, [C, N].

    `features` are float32, `labels` [N, 1] count from 1 in the order of the store's class names, `image_files` are
    the paths. Unreadable images are left out. The field's split files count images in this order.

    Raises:
        DataError: the file cannot be written.
    """
    from scipy.io import savemat

    kept = np.flatnonzero(store.readable)
    features = np.stack([store.tokens[row, 0] for row in kept], 1).astype(np.float32)
    files = np.empty((len(kept), 1), object)
    files[:, 0] = [store.paths[row] for row in kept]
    try:
        with output_file(out) as draft, draft.open("wb") as file:
            savemat(
                file,
                {"features": features, "labels": store.labels[kept][:, None] + 1.0, "image_files": files},
                do_compression=True,
            )
    except OSError as error:
        raise DataError(f"cannot write the file: {error.strerror}", where=str(out)) from error
    return (features.shape[0], features.shape[1])


def _read_other(
    source: Path,
) -> tuple[Any, Integer[np.ndarray, " images"], Sequence[str] | None]:
    """From an HDF5 region map, or an xlsa17 file of either version of MATLAB's."""
    kind = "an HDF5 region map or a MATLAB file"
    if not source.is_file():
        raise DataError("no such file", where=str(source))
    if source.suffix.lower() == ".mat":
        found = read_untrusted(source, kind=kind, names=())
        is_map = found.is_hdf5 and "feature_map" in found.names
    else:
        is_map = True
    if is_map:
        found = read_untrusted(source, kind=kind, names=("labels", "image_files"), staying=_MAPS)
        if found.is_hdf5:
            return _of_region_map(source, found)
    return _read_xlsa17(source)


def _of_region_map(
    source: Path, found: Content
) -> tuple[Any, Integer[np.ndarray, " images"], Sequence[str] | None]:
    key = next((name for name in _MAPS if name in found.staying), None)
    if key is None or "labels" not in found.arrays:
        raise DataError(
            f"the file has neither of {', '.join(_MAPS)}, or no labels",
            where=f"{source} (it has: {', '.join(found.names)})",
        )
    if found.staying[key].dtype.kind not in "fiu" or not found.staying[key].shape:
        raise DataError(f"{key} must be numbers [images, ...], not {found.staying[key].dtype}", where=str(source))
    labels = whole_numbers(found.arrays["labels"], what="labels", where=source, first=0)
    if labels.min(initial=0) < 0:
        raise DataError("labels count from 0 in a region map, and some are negative", where=str(source))
    paths = found.arrays.get("image_files")
    return StoredArray(source, key), labels, None if paths is None else [str(path) for path in paths.ravel()]


def _read_xlsa17(source: Path) -> tuple[Any, Integer[np.ndarray, " images"], Sequence[str] | None]:
    contents = read_mat(source, ["features", "labels", "image_files"])
    missing = [name for name in ("features", "labels") if name not in contents]
    if missing:
        raise DataError(f"the file has no {' and no '.join(missing)}", where=str(source))
    features = contents["features"]
    if features.dtype.kind not in "fiu" or features.ndim != 2:
        found = f"{features.dtype} {list(features.shape)}"
        raise DataError(f"features must be numbers [channels, images], not {found}", where=str(source))
    labels = whole_numbers(contents["labels"], what="labels", where=source, first=1)
    if labels.min(initial=0) < 0:
        raise DataError("labels count from 1 in a .mat file, and some are below", where=str(source))
    files = contents.get("image_files")
    return features.T, labels, None if files is None else [str(f) for f in np.ravel(files)]


def _numbered_names(labels: Integer[np.ndarray, " images"], source: Path) -> list[str]:
    highest = int(labels.max(initial=-1))
    if highest >= MOST_CLASSES:
        raise DataError(f"labels go up to {highest:,}", where=str(source), fix="number the classes in a row")
    return [f"class_{k + 1}" for k in range(highest + 1)]


def _grid(rest: tuple[int, ...], regions: int, source: Path) -> list[int] | None:
    if len(rest) == 3:
        return [rest[1], rest[2]]
    if regions == 0:
        return None
    side = math.isqrt(regions)
    if side * side != regions:
        raise DataError(
            f"{regions} regions are no square grid",
            where=str(source),
            fix="give the map as [images, channels, rows, columns]",
        )
    return [side, side]


def _tokens(block: np.ndarray) -> Float16[np.ndarray, "batch tokens channels"]:
    if block.ndim == 4:
        regions = block.reshape(*block.shape[:2], -1).swapaxes(1, 2).astype(np.float32)
        block = np.concatenate([regions.mean(1, keepdims=True), regions], 1)
    elif block.ndim == 2:
        block = block[:, None]
    with np.errstate(over="ignore"):  # what overflows is refused by name
        return block.astype(np.float16)
