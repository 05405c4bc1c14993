"""MATLAB files of both kinds, version 5 and version 7.3 (HDF5), read alike, and in a child process."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np

from dkgzsl.data.formats.untrusted import read_untrusted

_FORMAT: Final = "a MATLAB file (version 5 or 7.3)"


def read_mat(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read variables of a MATLAB file, each with MATLAB's axes; cells of text become arrays of str.

    Version 7.3 files are HDF5 with the axes reversed; they are turned back here, so that a caller need not know
    which kind it has. Large arrays are views in either case: no copy is made for the turning.

    Args:
        path: the file.
        names: variables to read (default: all); those that the file lacks are left out.

    Raises:
        DataError: there is no such file, or it is not a MATLAB file, or takes more memory or time than a file of
            its size may (`dkgzsl.data.formats.untrusted`).
    """
    found = read_untrusted(path, kind=_FORMAT, names=names)
    if not found.is_hdf5:
        return dict(found.arrays)
    return {name: value if value.dtype.kind == "U" else value.T for name, value in found.arrays.items()}


def mat_names(path: Path) -> list[str]:
    """Names of the variables in a MATLAB file.

    Raises:
        DataError: it is not a MATLAB file.
    """
    return list(read_untrusted(path, kind=_FORMAT, names=()).names)
