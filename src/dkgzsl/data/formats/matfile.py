"""MATLAB files of both kinds, version 5 and version 7.3 (HDF5), read alike."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np

from dkgzsl.errors import DataError

_FORMAT: Final = "a MATLAB file (version 5 or 7.3)"


def read_mat(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read variables of a MATLAB file, each with MATLAB's axes; cells of text become arrays of str.

    Version 7.3 files are HDF5 with the axes reversed; they are turned back here, so that a caller need not know
    which kind it has. Large arrays are views in either case: no copy is made for the turning.

    Args:
        path: the file.
        names: variables to read (default: all); those that the file lacks are left out.

    Raises:
        DataError: there is no such file, or it is not a MATLAB file.
    """
    if not path.is_file():
        raise DataError(f"no file {path.name}", where=str(path.parent))
    import h5py

    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                wanted = [n for n in file if not n.startswith("#") and (names is None or n in names)]
                return {name: _from_hdf5(file, file[name]) for name in wanted if hasattr(file[name], "shape")}
        from scipy.io import loadmat

        found = loadmat(path, variable_names=None if names is None else list(names))
    except Exception as error:  # scipy and h5py raise errors of many kinds on a file that is not what it seems
        raise DataError(
            f"{path.name} cannot be read as {_FORMAT}: {error}",
            where=str(path),
            fix="fetch the file again; it may have been cut off",
        ) from error
    return {
        name: _cells(value) if value.dtype == object else value
        for name, value in found.items()
        if isinstance(value, np.ndarray)
    }


def mat_names(path: Path) -> list[str]:
    """Names of the variables in a MATLAB file.

    Raises:
        DataError: it is not a MATLAB file.
    """
    import h5py

    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return [name for name in file if not name.startswith("#")]
        from scipy.io import whosmat

        return [name for name, _, _ in whosmat(path)]
    except Exception as error:
        raise DataError(f"{path.name} cannot be read as {_FORMAT}: {error}", where=str(path)) from error


def _from_hdf5(file: Any, dataset: Any) -> np.ndarray:
    import h5py

    if h5py.check_dtype(ref=dataset.dtype) is not None:
        texts = ["".join(map(chr, np.ravel(file[reference][()]))) for reference in np.ravel(dataset[()])]
        return np.array(texts, dtype=str)
    return np.asarray(dataset[()]).T


def _cells(values: np.ndarray) -> np.ndarray:
    # A cell holds an array that holds the text, sometimes in another cell.
    texts = []
    for value in values.ravel():
        while isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        texts.append(value if isinstance(value, str) else "")
    return np.array(texts, dtype=str)
