"""Features of images from the files that people have: .npy, .npz, a table of numbers, or a feature store.

No file is unpickled: a pickle, and so a PyTorch file, can run any code when it is read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Integer, Shaped

from dkgzsl.data.formats.cells import is_numeral, number_in
from dkgzsl.data.formats.spreadsheet import PARQUET_SUFFIXES, SUFFIXES, read_sheet
from dkgzsl.data.raw import MOST_CLASSES
from dkgzsl.errors import DataError
from dkgzsl.features.arrays import StoredArray
from dkgzsl.features.store import is_store, open_store
from dkgzsl.reading import load_npy, load_npz, reading

FEATURES: Final = ("features", "X", "x", "feature_map", "tokens", "embeddings")
LABELS: Final = ("labels", "y", "targets", "label")
"""What arrays of a .npz file are called."""
_READ: Final = "give a .npy or .npz file, a table of numbers (.csv, .xlsx, .parquet), or a feature store"
_SAVE: Final = 'save the features as .npy, by numpy.save("{stem}.npy", tensor.cpu().numpy())'
_HDF5: Final = b"\x89HDF"


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of labelled images as a .npz file holds them.

    Attributes:
        features: [N, C], [N, 1 + R, C] or [N, C, rows, columns].
        labels: class of each image, a position in `class_names`.
        class_names: names of the classes.
        paths: of the images; None where the file does not name them.
    """

    features: Shaped[np.ndarray, "images ..."]
    labels: Integer[np.ndarray, " images"]
    class_names: tuple[str, ...]
    paths: list[str] | None


def read_features(path: Path, *, pooled: bool = False) -> np.ndarray | StoredArray:
    """Features of many images [N, C] or [N, 1 + R, C], mapped into memory where the file allows it.

    A .npz file holds one array, or one that is called as in `FEATURES`. Of a table, the numbers of all columns are
    taken; a column of names and one that counts the rows are left out.

    Args:
        path: the file, or the folder of a store.
        pooled: whether of region tokens the global one alone is taken.

    Raises:
        DataError: the file is missing, is of another kind (the message says how to save it), or holds no features.
    """
    if is_store(path):
        rows: np.ndarray | StoredArray = open_store(path).tokens
    elif (kind := _kind(path)) == "npz":
        rows = _array(path, _npz(path, FEATURES), FEATURES, "features")
    elif kind == "table":
        rows = _table(path)
    else:
        rows = _load(path)
    if rows.ndim not in (2, 3) or rows.dtype.kind not in "fiu" or not len(rows):
        found = f"{rows.dtype} {list(rows.shape)}"
        raise DataError(f"features are numbers [images, ...], not {found}", where=str(path))
    return rows[:, 0] if pooled and rows.ndim == 3 else rows


def read_labelled(path: Path) -> LabelledFeatures:
    """Features with labels from a .npz file: arrays `features` and `labels`, and `image_files` where it has them.

    Labels are class names, or numbers from 0; `class_names` names the numbers.

    Raises:
        DataError: the file is of another kind, lacks an array, or its labels are no classes.
    """
    if _kind(path) != "npz":
        raise DataError(
            f"{path.name} holds features without labels",
            where=str(path),
            fix="to recognise the images: dkgzsl predict RUN --features FILE; to train on them, save features and "
            'labels together: numpy.savez("features.npz", features=..., labels=...)',
        )
    arrays = _npz(path, (*FEATURES, *LABELS, "class_names", "image_files"))
    features = _array(path, arrays, FEATURES, "features")
    labels = np.ravel(_array(path, arrays, LABELS, "labels"))
    given = (
        [str(name) for name in np.ravel(_array(path, arrays, ["class_names"], "names"))]
        if "class_names" in arrays
        else None
    )
    if labels.dtype.kind in "US":
        names = given or sorted({str(label) for label in labels})
        number = {name: at for at, name in enumerate(names)}
        unknown = next((str(label) for label in labels if str(label) not in number), None)
        if unknown is not None:
            raise DataError(f"class_names lacks the label {unknown!r}", where=str(path))
        numbers = np.array([number[str(label)] for label in labels], np.int64)
    else:
        numbers = _numbered(labels, path)
        names = given or [f"class_{k + 1}" for k in range(int(numbers.max(initial=-1)) + 1)]
        if int(numbers.max(initial=-1)) >= len(names):
            raise DataError(f"labels go up to {int(numbers.max())}, class_names has {len(names)}", where=str(path))
    paths = (
        [str(name) for name in np.ravel(_array(path, arrays, ["image_files"], "paths"))]
        if "image_files" in arrays
        else None
    )
    return LabelledFeatures(features, numbers, tuple(names), paths)


def finite_rows(rows: Shaped[np.ndarray, "images ..."]) -> Bool[np.ndarray, " images"]:
    """Which images have finite numbers alone, in the single precision that they are computed with."""
    with np.errstate(over="ignore"):
        flat = np.asarray(rows, np.float32).reshape(len(rows), -1)
    return np.asarray(np.isfinite(flat).all(1))


def unreadable_rows(path: Path) -> dict[int, str]:
    """Rows of a store whose photos could not be read, and why; of another file none."""
    entries = open_store(path).entries if is_store(path) else ()
    return {row: f"{one.path}: {one.why}" for row, one in enumerate(entries) if one.why is not None}


def is_arrays(path: Path) -> bool:
    """Whether a file is of a kind that this module reads or refuses by name, other than a store."""
    return path.is_file() and path.suffix.lower() in (".npy", ".npz", *SUFFIXES, *_PICKLED)


_PICKLED: Final = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt")


def _kind(path: Path) -> str:
    """npy, npz or table, by what the file begins with.

    Raises:
        DataError: it is none of them.
    """
    with reading("cannot read the features", path, fix=_READ), path.open("rb") as file:
        start = file.read(8)
    suffix = path.suffix.lower()
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(b"PK"):
        with (
            reading(f"{path.name} is cut off or damaged", path, fix="save it again"),
            zipfile.ZipFile(path) as packed,
        ):
            names = packed.namelist()
        if names and all(name.endswith(".npy") for name in names):
            return "npz"
        if suffix in SUFFIXES:
            return "table"
        if any(name.endswith("data.pkl") for name in names):
            raise _pickled(path, "a PyTorch file")
    if suffix in _PICKLED or start.startswith(b"\x80"):
        raise _pickled(path, "a PyTorch file" if suffix in (".pt", ".pth", ".ckpt") else "a pickle")
    if start.startswith(_HDF5) or suffix == ".mat":
        fix = f"dkgzsl data convert {path} --backbone NAME --out STORE, then --features STORE"
        raise DataError(f"{path.name} is an HDF5 or MATLAB file", where=str(path), fix=fix)
    if suffix in SUFFIXES:
        return "table"
    raise DataError(f"{path.name} is no file of features", where=str(path), fix=_READ)


def _pickled(path: Path, kind: str) -> DataError:
    return DataError(
        f"{path.name} is {kind}, which is not read since it can run code: " + _SAVE.format(stem=path.stem)
    )


def _load(path: Path) -> np.ndarray:
    return load_npy(path, "cannot read the features", mapped=True, fix=_READ)


def _npz(path: Path, names: Sequence[str]) -> Mapping[str, np.ndarray | None]:
    """The arrays of a .npz file that have one of some names, or the only one that it has; None for all others."""

    def wanted(here: Sequence[str]) -> list[str]:
        return [name for name in here if len(here) == 1 or name in names]

    return load_npz(path, "cannot read the features", names=wanted, fix=_READ)


def _array(path: Path, arrays: Mapping[str, np.ndarray | None], names: Sequence[str], what: str) -> np.ndarray:
    found = next((arrays[one] for one in names if one in arrays), None)
    if found is None and what == "features" and len(arrays) == 1:
        found = next(iter(arrays.values()))
    if found is None:
        raise DataError(
            f"no array of the file is called {names[0]!r}",
            where=f"{path} (it has: {', '.join(arrays)})",
            fix=f"save the array of {what} by the name {names[0]!r}",
        )
    return found


def _numbered(labels: np.ndarray, path: Path) -> Integer[np.ndarray, " images"]:
    if labels.dtype.kind not in "iuf" or (labels != np.round(labels)).any() or labels.min(initial=0) < 0:
        raise DataError("labels are class names, or whole numbers from 0", where=str(path))
    if labels.max(initial=0) >= MOST_CLASSES:
        raise DataError(f"labels go up to {labels.max():,}", where=str(path), fix="number the classes in a row")
    return labels.astype(np.int64)


def _table(path: Path) -> np.ndarray:
    """Numbers of a table with or without a header, one row an image."""
    lines = list(read_sheet(path).rows)
    if not lines:
        raise DataError("the table is empty", where=str(path))
    names = [f"column {n + 1}" for n in range(len(lines[0][1]))]
    first = lines[0][1]
    # Frames without names call their columns 0, 1, 2, ...; a Parquet file has names always.
    if not all(map(is_numeral, first)) or _is_count(first) or path.suffix.lower() in PARQUET_SUFFIXES:
        names = [str(cell or name) for cell, name in zip(lines[0][1], names, strict=True)]
        unnamed = not str(lines[0][1][0] or "").strip()
        lines = lines[1:]
    else:
        unnamed = False
    for line, row in lines:
        if len(row) != len(names):
            where = f"{path}, row {line}"
            raise DataError(f"the row has {len(row)} cells, the first has {len(names)}", where=where)
    kept = [n for n in range(len(names)) if lines and any(is_numeral(row[n]) for _, row in lines)]
    if unnamed and 0 in kept and _is_count([row[0] for _, row in lines]):
        kept.remove(0)
    rows = [[_value(row[n], f"{path}, row {line}, column {names[n]!r}") for n in kept] for line, row in lines]
    return np.array(rows, np.float32).reshape(len(rows), len(kept))


def _is_count(cells: Sequence[Any]) -> bool:
    counted = [str(cell) for cell in cells]
    return counted in ([str(n) for n in range(len(cells))], [str(n + 1) for n in range(len(cells))])


def _value(cell: object, where: str) -> float:
    """A number; NaN stays NaN, since the row is then named and skipped, and so does an empty cell."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in ("", "nan", "inf", "-inf", "na", "n/a")):
        return float("nan")
    if isinstance(cell, float):
        return cell
    if not is_numeral(cell):
        raise DataError(f"the cell is {str(cell)[:40]!r}, not a number", where=where, fix="features are numbers")
    return number_in(cell, where)
