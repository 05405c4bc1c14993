"""A data set by name or folder: finds its files, knows what is missing and where to get it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from dkgzsl.data.assemble import problem_of, with_extra_features
from dkgzsl.data.catalog import ARCHIVE, ARCHIVE_PAGE, KNOWN, KnownDataset, known
from dkgzsl.data.catalog import data_root as root_of
from dkgzsl.data.formats.feature_maps import SUFFIXES, read_raw_map
from dkgzsl.data.formats.problem_folder import is_problem_folder, read_raw_folder
from dkgzsl.data.formats.xlsa17 import SUFFIX, read_raw
from dkgzsl.data.numbers.dataset import numbers
from dkgzsl.data.problem import Problem
from dkgzsl.data.raw import RawData
from dkgzsl.errors import DataError, nearest
from dkgzsl.features.store import INDEX, is_store, open_store
from dkgzsl.files import fingerprint


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


EMBEDDED: Final = "numbers"
_FILE_OF_BACKBONE: Final = {"resnet101": "res101", "vit-b/16": "vit_b16"}
_DEFAULT_FEATURES: Final = "res101"
_IN_ARCHIVE: Final = KNOWN.keys() - {"FLO"}
_IMAGES_FETCHED: Final = {"AWA2", "CUB", "SUN"}


def load_dataset(
    name_or_folder: str | Path,
    *,
    data_root: str | Path | None = None,
    features: str | Path | None = None,
    semantics: str | None = None,
    backbone: str | None = None,
    unseen: Sequence[int | str] | None = None,
    test_seed: int = 0,
    extra_features: Sequence[str | Path] = (),
) -> Problem:
    """Load a data set.

    Args:
        name_or_folder: `numbers` (embedded); a benchmark's name (AWA1, AWA2, CUB, SUN, FLO, APY) or another
            folder below `data_root`; a folder in the xlsa17 layout; a feature map file (.hdf5, .h5); or an
            imported problem.
        data_root: folder that holds the data sets (default: see `dkgzsl.data.catalog.data_root`).
        features: feature file by name (`res101`, `vgg_fc7`) or as a path, or a feature store, which an imported
            problem needs. Default: from `backbone`, or else `res101`.
        semantics: source of class descriptions to use (default: `att`; numbers: `strokes`).
        backbone: what computed the features; recorded with every number (default: what the file name says).
        unseen: the unseen numbers of `numbers`; all others have theirs fixed.
        extra_features: further feature files or stores of the same images, by other backbones.
        test_seed: redraws the seen test images of an imported problem; official splits have theirs fixed.

    Raises:
        DataError: the name is unknown; files are missing (the message says which, where to get them and where to
            put them); or something in them cannot be right.
    """
    if extra_features:
        load = partial(
            load_dataset,
            name_or_folder,
            data_root=data_root,
            semantics=semantics,
            unseen=unseen,
            test_seed=test_seed,
        )
        main = load(features=features, backbone=backbone)
        others = {Path(other).stem: load(features=other) for other in extra_features}
        if len(others) < len(extra_features):
            raise DataError("two of the features beside have the same name", fix="rename a file or store")
        return with_extra_features(main, others)
    if str(name_or_folder) == EMBEDDED:
        return _embedded(features=features, semantics=semantics, unseen=unseen)
    if unseen is not None:
        raise DataError(f"the unseen classes of {name_or_folder} are fixed by its split", fix="leave `unseen` out")
    folder = find(name_or_folder, data_root=data_root, features=features, backbone=backbone)
    if is_problem_folder(folder):
        if features is None:
            raise DataError(
                "an imported problem needs its feature store",
                where=str(folder),
                fix=f"dkgzsl extract {folder} --backbone NAME --out STORE, then --features STORE",
            )
        raw, provenance = read_raw_folder(folder, features=Path(features), test_seed=test_seed)
    else:
        file = find_features(folder, features=features, backbone=backbone)
        raw, provenance = _read(folder, file, semantics)
        provenance["backbone"] = backbone or provenance.get("backbone") or _backbone_of(file)
    return problem_of(raw, semantics=semantics or provenance["default_semantics"], provenance=provenance)


def is_name(word: str) -> bool:
    """Whether a word names a data set that is known, so that no folder of that name is looked at."""
    return word == EMBEDDED or known(word) is not None


def read_unchecked(
    name_or_folder: str | Path,
    *,
    data_root: str | Path | None = None,
    features: str | Path | None = None,
    semantics: str | None = None,
) -> RawData:
    """What a data set's files hold, for the doctor; xlsa17 folders may lack the features.

    Raises:
        DataError: there is nothing of that name, or a file cannot be read at all.
    """
    if str(name_or_folder) == EMBEDDED:
        return _raw_of(_embedded(features=features, semantics=semantics, unseen=None))
    folder = find(name_or_folder, data_root=data_root)
    if is_problem_folder(folder):
        if features is None:
            raise DataError("an imported problem is checked with its feature store", fix="give --features STORE")
        return read_raw_folder(folder, features=Path(features))[0]
    if features is None and folder.is_dir() and not _has(folder, _DEFAULT_FEATURES):
        here = _feature_files(folder)
        if len(here) > 1:
            raise DataError(
                f"several feature files in {folder.name}, none of them {_DEFAULT_FEATURES}",
                where=str(folder),
                fix=f"name one with --features: {', '.join(path.stem for path in here)}",
            )
        return _read(folder, here[0] if here else None, semantics)[0]
    return _read(folder, find_features(folder, features=features, backbone=None), semantics)[0]


def find(
    name_or_folder: str | Path,
    *,
    data_root: str | Path | None = None,
    features: str | Path | None = None,
    backbone: str | None = None,
) -> Path:
    """The folder (or feature map file) of a data set; features and backbone serve the message alone.

    A benchmark's name stands for its folder below the data root, upper or lower case; any other word for an
    existing path, or else for a folder below the data root.

    Raises:
        DataError: there is none.
    """
    root, given = root_of(data_root), str(name_or_folder)
    entry = known(given)
    if entry is not None:
        for folder in (root / given, root / entry.name, root / entry.name.lower()):
            if folder.is_dir():
                return folder
        raise _missing(entry, root / entry.name, _wanted(features, backbone), backbone)
    for path in (Path(given).expanduser(), root / given):
        if path.is_dir() or (path.is_file() and path.suffix in SUFFIXES):
            return path
    raise DataError(
        f"unknown data set {given!r}: neither a known name nor a folder",
        where=f"data root {root}",
        fix=nearest(given, [EMBEDDED, *KNOWN], of="known data sets"),
    )


def find_features(folder: Path, *, features: str | Path | None, backbone: str | None) -> Path:
    """The feature file to use in a data set's folder.

    Raises:
        DataError: it is not there; the message says what to fetch or extract, and where to put it.
    """
    if folder.is_file():
        return folder
    if features is not None and is_store(Path(features)):
        return Path(features)
    name = _wanted(features, backbone)
    candidates = [folder / f"{name}{suffix}" for suffix in (".mat", *SUFFIXES)]
    for candidate in (*candidates, folder / name, Path(name).expanduser()):
        if candidate.is_file():
            return candidate
    entry = known(folder.name)
    if entry is not None:
        raise _missing(entry, folder, name, backbone)
    here = [path.stem for path in _feature_files(folder)]
    raise DataError(
        f"{folder.name} has no features {name!r}: there is no {' or '.join(path.name for path in candidates)}",
        where=f"{folder} (feature files there: {', '.join(here) or 'none'})",
        fix="put the file there, or name another with --features",
    )


def features_of(backbone: str | None) -> str:
    """The name that a backbone's feature file has by custom: resnet101 -> res101, vit-b/16 -> vit_b16."""
    if backbone is None:
        return _DEFAULT_FEATURES
    return _FILE_OF_BACKBONE.get(backbone.lower(), backbone.lower().replace("/", "").replace("-", "_"))


def _embedded(
    *, features: str | Path | None, semantics: str | None, unseen: Sequence[int | str] | None
) -> Problem:
    if features not in (None, "pooled", "regions"):
        raise DataError(f"numbers has no features {str(features)!r}", fix="its features: pooled, regions")
    problem = numbers(unseen=unseen, regions=features == "regions")
    return problem if semantics is None else problem.with_semantics(semantics)


def _read(folder: Path, file: Path | None, semantics: str | None) -> tuple[RawData, dict[str, Any]]:
    if file is not None and is_store(file):
        return read_benchmark_store(folder, file, semantics)
    if file is not None and file.suffix in SUFFIXES:
        raw, provenance = read_raw_map(file)
        return raw, {**provenance, "default_semantics": "att"}
    return read_raw(folder, features=file, semantics=semantics)


def _raw_of(problem: Problem) -> RawData:
    parts = problem.parts
    chosen = {"trainval": parts.trainval, "test_seen": parts.test_seen, "test_unseen": parts.test_unseen}
    if parts.validation_classes is not None:
        is_val = np.isin(problem.labels[parts.trainval], parts.validation_classes)
        chosen |= {"train": parts.trainval[~is_val], "val": parts.trainval[is_val]}
    return RawData(
        name=problem.name,
        where=problem.name,
        parts=chosen,
        tables=problem.semantic_sources,
        class_names=problem.class_names,
        labels=problem.labels,
        features=problem.features,
    )


def _feature_files(folder: Path) -> list[Path]:
    files = (path for suffix in (".mat", *SUFFIXES) for path in folder.glob(f"*{suffix}"))
    return sorted(path for path in files if not path.name.endswith(SUFFIX))


def _has(folder: Path, name: str) -> bool:
    return any((folder / f"{name}{suffix}").is_file() for suffix in (".mat", *SUFFIXES))


def _backbone_of(file: Path) -> str | None:
    return next((backbone for backbone, name in _FILE_OF_BACKBONE.items() if name == file.stem), None)


def _wanted(features: str | Path | None, backbone: str | None) -> str:
    return str(features) if features is not None else features_of(backbone)


def _missing(entry: KnownDataset, folder: Path, name: str, backbone: str | None) -> DataError:
    needed = {f"{name}.mat (or {name}{SUFFIXES[0]})": _has(folder, name)}
    needed[f"att{SUFFIX}"] = any(folder.glob(f"*{SUFFIX}"))
    root = "" if folder.parent == root_of() else f" --data-root {folder.parent}"
    by_hand = f"get {{}} by hand into {folder}"
    steps = []
    if not (needed[f"att{SUFFIX}"] and _has(folder, _DEFAULT_FEATURES)):
        brings = f"res101.mat and att{SUFFIX}"
        fetched = f"dkgzsl data fetch {entry.name}{root} (brings {brings}: {ARCHIVE}, {ARCHIVE_PAGE})"
        steps.append(fetched if entry.name in _IN_ARCHIVE else by_hand.format(brings))
    if name != _DEFAULT_FEATURES:
        source = f"{entry.image_source}, {entry.image_page}"
        fetched = f"dkgzsl data fetch {entry.name}{root} --what images ({source})"
        steps.append(fetched if entry.name in _IMAGES_FETCHED else by_hand.format(f"images ({source})"))
        steps.append(f"dkgzsl extract {entry.name}{root} --backbone {backbone or 'NAME'} --out STORE")
        here = [path.stem for path in _feature_files(folder)]
        others = f", or name features that are there: {', '.join(here)}" if here else ""
        steps.append(f"this command again with --features STORE{others}")
    return DataError(
        f"{entry.name} lacks {' and '.join(file for file, there in needed.items() if not there)}",
        where=f"the files belong into {folder}",
        fix="\n         ".join(f"{number}. {step}" for number, step in enumerate(steps, 1)),
    )
