"""A data set by name or folder: found, read by the reader of its format, checked, made a `Problem`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dkgzsl.data.assemble import problem_of, with_extra_features
from dkgzsl.data.catalog import KNOWN, known
from dkgzsl.data.catalog import data_root as root_of
from dkgzsl.data.formats.benchmark_folder import BenchmarkFolderReader, missing_files
from dkgzsl.data.formats.photo_layout import find_layout
from dkgzsl.data.formats.reader import (
    ListsImages,
    Reader,
    Wanted,
    embedded_datasets,
    embedded_reader,
    reader_for,
    refuse_broken,
)
from dkgzsl.data.formats.semantic_files import default_source
from dkgzsl.data.formats.xlsa17 import has_split_file
from dkgzsl.data.problem import Problem
from dkgzsl.data.raw import RawData
from dkgzsl.errors import DataError, nearest
from dkgzsl.features.store_url import is_url, local_store

if TYPE_CHECKING:
    from dkgzsl.features.extraction import ImageList


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
            folder below `data_root`; a folder in the xlsa17 layout; a feature map file (.hdf5, .h5); an imported
            problem; or what a reader from outside the package recognises.
        data_root: folder that holds the data sets (default: see `dkgzsl.data.catalog.data_root`).
        features: feature file by name (`res101`, `vgg_fc7`) or as a path, or a feature store, which an imported
            problem needs. Default: from `backbone`, or else `res101`.
        semantics: source of class descriptions to use (default: `att`; numbers: `strokes`).
        backbone: what computed the features; recorded with every number (default: what the file name says).
        unseen: the unseen numbers of `numbers`; all others have theirs fixed.
        test_seed: redraws the seen test images of an imported problem; official splits have theirs fixed.
        extra_features: further feature files or stores of the same images, by other backbones.

    Raises:
        DataError: the name is unknown; files are missing (the message says which, where to get them and where to
            put them); or something in them cannot be right.
    """
    load = partial(_load, name_or_folder, data_root=data_root)
    main = load(Wanted(features, semantics, backbone, unseen, test_seed))
    if not extra_features:
        return main
    others = {
        Path(other).stem: load(Wanted(other, semantics, None, unseen, test_seed)) for other in extra_features
    }
    if len(others) < len(extra_features):
        raise DataError("two of the extra features have the same name", fix="rename a file or store")
    return with_extra_features(main, others)


def _load(name_or_folder: str | Path, wanted: Wanted, *, data_root: str | Path | None) -> Problem:
    wanted = _here(wanted)
    reader, path = find(name_or_folder, data_root=data_root, wanted=wanted)
    raw, provenance = reader.read(path, wanted)
    semantics = wanted.semantics or provenance.get("default_semantics") or next(iter(raw.tables), "")
    return problem_of(raw, semantics=semantics, provenance={"backbone": wanted.backbone, **provenance})


def _here(wanted: Wanted) -> Wanted:
    """With features of this machine in place of a store's URL."""
    return replace(wanted, features=local_store(str(wanted.features))) if is_url(wanted.features) else wanted


def lacks_semantics(name_or_folder: str | Path, semantics: str, *, data_root: str | Path | None = None) -> bool:
    """Whether a benchmark is here, but not the split file of these class descriptions.

    Raises:
        DataError: there is no such data set.
    """
    _, path = find(name_or_folder, data_root=data_root)
    return BenchmarkFolderReader().recognises(path) and not has_split_file(path, semantics)


def is_name(word: str) -> bool:
    """Whether a word names a data set that is known, so that no folder of that name is looked for."""
    return known(word) is not None or embedded_reader(word) is not None


def read_unchecked(
    name_or_folder: str | Path,
    *,
    data_root: str | Path | None = None,
    features: str | Path | None = None,
    semantics: str | None = None,
) -> RawData:
    """What a data set's files hold, for `dkgzsl.data.doctor`; folders in the xlsa17 layout may lack the features.

    Raises:
        DataError: there is nothing of that name, or a file cannot be read at all.
    """
    wanted = _here(Wanted(features, semantics, features_needed=False))
    reader, path = find(name_or_folder, data_root=data_root, wanted=wanted)
    return reader.read(path, wanted)[0]


def list_images(name_or_folder: str | Path, *, data_root: str | Path | None = None) -> ImageList:
    """List the images of a data set for extraction, in the order in which its parts count them.

    Raises:
        DataError: there is no such data set, its files do not list images, or the images are not there.
    """
    reader, path = find(name_or_folder, data_root=data_root)
    if not isinstance(reader, ListsImages):
        raise DataError(
            f"{path.name} has no image files to extract features from", fix="train on the features that it has"
        )
    return reader.images(path)


def find(
    name_or_folder: str | Path, *, data_root: str | Path | None = None, wanted: Wanted | None = None
) -> tuple[Reader, Path]:
    """The reader of a data set, and its folder or file; of an embedded one the name stands for the path.

    A benchmark's name stands for its folder below the data root, upper or lower case; any other word for an
    embedded data set, for an existing path, or else for a folder below the data root. A folder that no reader
    recognises is taken for one in the field's layout, so that the message says what it lacks.

    Raises:
        DataError: there is none, or its unseen classes are asked for and fixed.
        ConfigError: no reader recognises it, and one from outside is broken.
    """
    root, given, wanted = root_of(data_root), str(name_or_folder), wanted or Wanted()
    embedded = embedded_reader(given)
    if embedded is not None:
        return embedded, Path(given)
    if wanted.unseen is not None:
        raise DataError(f"the unseen classes of {given} are fixed by its split", fix="leave `unseen` out")
    entry = known(given)
    candidates = [Path(given).expanduser(), root / given]
    if entry is not None:
        candidates = [root / given, root / entry.name, root / entry.name.lower()]
    for path in candidates:
        reader = reader_for(path) if path.exists() else None
        if reader is None and path.is_dir():
            refuse_broken()
            if entry is None and find_layout(path) is not None:
                raise _not_imported(path)
            reader = BenchmarkFolderReader()
        if reader is not None:
            return reader, path
    if entry is not None:
        raise missing_files(entry, root / entry.name, wanted)
    refuse_broken()
    raise DataError(
        f"unknown data set {given!r}: neither a known name nor a folder",
        where=f"data root {root}",
        fix=nearest(given, [*(name for name, *_ in embedded_datasets()), *KNOWN], of="known data sets"),
    )


def _not_imported(folder: Path) -> DataError:
    source = default_source(folder)
    named = source or "NAME"
    missing = (
        "" if source else "put a table of class descriptions there (class, then numbers), named NAME.csv; then "
    )
    return DataError(
        f"{folder.name} is a folder of photos that is not imported yet",
        where=str(folder),
        fix=f"{missing}dkgzsl data import {shlex.quote(str(folder))} --semantics {shlex.quote(named)} "
        f"--out {shlex.quote(f'{str(folder).rstrip(chr(47))}.problem')}",
    )
