"""A folder in the field's layout: its feature file, whatever its kind, and its split files.

FOLDER/res101.mat            features [C, N], labels from 1, paths of the images
FOLDER/vit_b16.hdf5          or a feature map (see `dkgzsl.data.formats.feature_maps`); or a store anywhere
FOLDER/att_splits.mat        class descriptions and parts
FOLDER/images/               the images, for extraction
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dkgzsl.data.catalog import (
    ARCHIVE,
    ARCHIVE_PAGE,
    DEFAULT_FEATURES,
    KNOWN,
    KnownDataset,
    backbone_of,
    data_root,
    features_of,
    known,
)
from dkgzsl.data.formats.feature_files import is_arrays
from dkgzsl.data.formats.feature_maps import SUFFIXES, read_raw_map
from dkgzsl.data.formats.matfile import read_mat
from dkgzsl.data.formats.reader import Wanted
from dkgzsl.data.formats.xlsa17 import SUFFIX, read_raw
from dkgzsl.data.raw import RawData, whole_numbers
from dkgzsl.errors import DataError, MissingError
from dkgzsl.features.store import INDEX, is_store, open_store
from dkgzsl.files import fingerprint

if TYPE_CHECKING:
    from dkgzsl.features.extraction import ImageList

_UNDER: Final = " " * 12
"""Before a line that explains the command above it, so that a command stands alone on its line."""
_FEATURE_SUFFIXES: Final = (".mat", *SUFFIXES)
_IMAGES: Final = "images"
_IN_ARCHIVE: Final = KNOWN.keys() - {"FLO"}
_IMAGES_FETCHED: Final = {"AWA2", "CUB", "SUN"}


class BenchmarkFolderReader:
    """Reads a folder in the xlsa17 layout (Xian et al., 2018) with one of its feature files, or with a store."""

    def recognises(self, path: Path) -> bool:
        """Whether there is a split file."""
        return path.is_dir() and any(path.glob(f"*{SUFFIX}"))

    def read(self, path: Path, wanted: Wanted) -> tuple[RawData, dict[str, Any]]:
        """Read the split files, and the features by the kind of file that they are in.

        Raises:
            DataError: a file is missing or cannot be read.
        """
        file = _chosen(path, wanted)
        if file is not None and is_arrays(file):
            raise DataError(
                f"{file.name} is not read for training: the order of its images is not known",
                where=str(file),
                fix=f"save features and labels as .npz, dkgzsl data convert {file.stem}.npz --backbone NAME --out "
                "STORE, then --features STORE",
            )
        if file is None:
            raw, provenance = read_raw(path, features=None, semantics=wanted.semantics)
        elif is_store(file):
            raw, provenance = _read_store(path, file, wanted.semantics)
        elif file.suffix in SUFFIXES:
            raw, provenance = read_raw_map(file)
        else:
            raw, provenance = read_raw(path, features=file, semantics=wanted.semantics)
        named = None if file is None else backbone_of(file)
        return raw, {**provenance, "backbone": wanted.backbone or provenance.get("backbone") or named}

    def images(self, path: Path) -> ImageList:
        """The images in `images/`, in the official order: `image_files` of the feature file says which they are.

        Raises:
            DataError: the feature file lists no images, or they are not there.
        """
        from dkgzsl.features.extraction import ImageList

        if not self.recognises(path):
            raise DataError(
                "neither an imported problem nor a benchmark",
                where=str(path),
                fix=f"dkgzsl data import {path} --semantics NAME --out PROBLEM, then extract PROBLEM",
            )
        file = find_features(path, Wanted())
        contents = read_mat(file, ["labels", "image_files"])
        if contents.keys() != {"labels", "image_files"}:
            raise DataError(
                f"{file.name} does not list images: it needs labels and image_files",
                where=str(file),
                fix=f"dkgzsl data fetch {path.name} brings a file that does",
            )
        labels = whole_numbers(contents["labels"], what="labels", where=file, first=1)
        raw, _ = read_raw(path, features=None, semantics=None)
        names = raw.class_names or tuple(f"class_{k + 1}" for k in range(raw.number_of_classes))
        return ImageList(raw.name, path, _local(contents["image_files"], path), labels.tolist(), names)


def find_features(folder: Path, wanted: Wanted) -> Path:
    """The feature file or store to use with a data set's folder.

    Raises:
        DataError: it is not there; the message says what to fetch or extract, and where to put it.
    """
    if wanted.features is not None and is_store(Path(wanted.features)):
        return Path(wanted.features)
    name = _name_of(wanted)
    candidates = [folder / f"{name}{suffix}" for suffix in _FEATURE_SUFFIXES]
    for candidate in (*candidates, folder / name, Path(name).expanduser()):
        if candidate.is_file():
            return candidate
    entry = known(folder.name)
    if entry is not None:
        raise missing_files(entry, folder, wanted)
    here = [path.stem for path in _feature_files(folder)]
    raise DataError(
        f"{folder.name} has no features {name!r}: there is no {' or '.join(path.name for path in candidates)}",
        where=f"{folder} (feature files there: {', '.join(here) or 'none'})",
        fix="put the file there, or name another with --features",
    )


def missing_files(entry: KnownDataset, folder: Path, wanted: Wanted) -> MissingError:
    """What a benchmark lacks, and the steps that bring it.

    Args:
        entry: the benchmark.
        folder: where its files belong, there or not.
        wanted: which features are asked for.
    """
    name = _name_of(wanted)
    needed = {f"{name}.mat (or {name}{SUFFIXES[0]})": _has(folder, name)}
    needed[f"att{SUFFIX}"] = any(folder.glob(f"*{SUFFIX}"))
    root = "" if folder.parent == data_root() else f" --data-root {folder.parent}"
    by_hand = f"get {{}} by hand into {folder}"
    here = [path.stem for path in _feature_files(folder)]
    steps = []
    if here and not _has(folder, name) and needed[f"att{SUFFIX}"]:
        steps.append(f"name features that are there: --features {' or '.join(here)}; or else:")
    if not (needed[f"att{SUFFIX}"] and _has(folder, DEFAULT_FEATURES)):
        brings = f"res101.mat and att{SUFFIX}"
        fetched = f"dkgzsl data fetch {entry.name}{root}\n{_UNDER}brings {brings}: {ARCHIVE}, {ARCHIVE_PAGE}"
        steps.append(fetched if entry.name in _IN_ARCHIVE else by_hand.format(brings))
    if name != DEFAULT_FEATURES:
        source = f"{entry.image_source}, {entry.image_page}"
        fetched = f"dkgzsl data fetch {entry.name}{root} --what images\n{_UNDER}{source}"
        steps.append(fetched if entry.name in _IMAGES_FETCHED else by_hand.format(f"images ({source})"))
        steps.append(f"dkgzsl extract {entry.name}{root} --backbone {wanted.backbone or 'NAME'} --out STORE")
        steps.append("this command again with --features STORE")
    there = f" (feature files there: {', '.join(here)})" if here else ""
    return MissingError(
        f"{entry.name} lacks {' and '.join(file for file, there in needed.items() if not there)}",
        where=f"the files belong into {folder}{there}",
        fix=steps[0]
        if len(steps) == 1
        else "\n         ".join(f"{number}. {step}" for number, step in enumerate(steps, 1)),
    )


def _chosen(folder: Path, wanted: Wanted) -> Path | None:
    """The feature file; None where the folder has none and none is needed."""
    if wanted.features_needed or wanted.features is not None or _has(folder, DEFAULT_FEATURES):
        return find_features(folder, wanted)
    here = _feature_files(folder)
    if len(here) > 1:
        raise DataError(
            f"several feature files in {folder.name}, none of them {DEFAULT_FEATURES}",
            where=str(folder),
            fix=f"name one with --features: {', '.join(path.stem for path in here)}",
        )
    return here[0] if here else None


def _read_store(folder: Path, store_folder: Path, semantics: str | None) -> tuple[RawData, dict[str, Any]]:
    """The split files with a store of the images in the order that they count; unreadable ones are in no part."""
    raw, provenance = read_raw(folder, features=None, semantics=semantics)
    store = open_store(store_folder)
    unreadable = np.flatnonzero(~store.readable)
    raw = replace(
        raw,
        features=store.tokens,
        labels=store.labels,
        image_files=store.paths,
        unreadable={int(row): store.entries[row].why or "" for row in unreadable},
        parts={part: positions[~np.isin(positions, unreadable)] for part, positions in raw.parts.items()},
    )
    provenance |= {"features": store_folder.name, **store.provenance()}
    provenance["files"][INDEX] = fingerprint(store_folder / INDEX)
    return raw, provenance


def _name_of(wanted: Wanted) -> str:
    return str(wanted.features) if wanted.features is not None else features_of(wanted.backbone)


def _feature_files(folder: Path) -> list[Path]:
    files = (path for suffix in _FEATURE_SUFFIXES for path in folder.glob(f"*{suffix}"))
    return sorted(path for path in files if not path.name.endswith(SUFFIX))


def _has(folder: Path, name: str) -> bool:
    return any((folder / f"{name}{suffix}").is_file() for suffix in _FEATURE_SUFFIXES)


def _local(files: np.ndarray, folder: Path) -> list[str]:
    """Paths relative to `folder`: the files' paths begin with folders of their authors' machine."""
    listed = [PurePosixPath(str(file)).parts for file in np.ravel(files)]
    for cut in range(len(listed[0])):
        if (folder / _IMAGES).joinpath(*listed[0][cut:]).is_file():
            return ["/".join((_IMAGES, *parts[cut:])) for parts in listed]
    raise DataError(
        f"the images of {folder.name} are not there, such as {'/'.join(listed[0][-2:])}",
        where=str(folder / _IMAGES),
        fix=f"dkgzsl data fetch {folder.name} --what images, or put them there",
    )
