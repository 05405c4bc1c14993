"""The images of a data set, listed for extraction: an imported problem's, or a benchmark's."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from dkgzsl.data.formats.matfile import read_mat
from dkgzsl.data.formats.problem_folder import is_problem_folder, read_problem_folder
from dkgzsl.data.formats.xlsa17 import SUFFIX, read_raw
from dkgzsl.data.load import find, find_features
from dkgzsl.data.raw import whole_numbers
from dkgzsl.errors import DataError
from dkgzsl.features.extraction import ImageList

_FOLDER: Final = "images"


def list_images(name_or_folder: str | Path, *, data_root: str | Path | None = None) -> ImageList:
    """List the images of an imported problem, or of a benchmark in its official order.

    A benchmark's images lie in `images/` in its folder; which they are, and in which order the official splits
    count them, `image_files` in its feature file says (`res101.mat`).

    Raises:
        DataError: there is no such data set, its feature file does not list images, or they are not there.
    """
    folder = find(name_or_folder, data_root=data_root)
    if is_problem_folder(folder):
        problem = read_problem_folder(folder)
        return ImageList(problem.name, problem.source, problem.paths, problem.labels.tolist(), problem.class_names)
    if not any(folder.glob(f"*{SUFFIX}")):
        raise DataError(
            "neither an imported problem nor a benchmark",
            where=str(folder),
            fix=f"dkgzsl data import {folder} --semantics NAME --out PROBLEM, then extract PROBLEM",
        )
    file = find_features(folder, features=None, backbone=None)
    contents = read_mat(file, ["labels", "image_files"])
    if contents.keys() != {"labels", "image_files"}:
        raise DataError(
            f"{file.name} does not list images: it needs labels and image_files",
            where=str(file),
            fix=f"dkgzsl data fetch {folder.name} brings a file that does",
        )
    labels = whole_numbers(contents["labels"], what="labels", where=file, first=1)
    raw, _ = read_raw(folder, features=None, semantics=None)
    names = raw.class_names or tuple(f"class_{k + 1}" for k in range(raw.number_of_classes))
    return ImageList(raw.name, folder, _local(contents["image_files"], folder), labels.tolist(), names)


def _local(files: np.ndarray, folder: Path) -> list[str]:
    """Paths relative to `folder`: the files' paths begin with folders of their authors' machine."""
    listed = [PurePosixPath(str(file)).parts for file in np.ravel(files)]
    for cut in range(len(listed[0])):
        if (folder / _FOLDER).joinpath(*listed[0][cut:]).is_file():
            return ["/".join((_FOLDER, *parts[cut:])) for parts in listed]
    raise DataError(
        f"the images of {folder.name} are not there, such as {'/'.join(listed[0][-2:])}",
        where=str(folder / _FOLDER),
        fix=f"dkgzsl data fetch {folder.name} --what images, or put them there",
    )
