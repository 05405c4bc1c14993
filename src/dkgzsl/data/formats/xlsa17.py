"""The field's format (Xian et al., 2018): `<DATASET>/<features>.mat`, `<semantics>_splits.mat`, counted from 1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from dkgzsl.data.checks import PARTS
from dkgzsl.data.formats.matfile import mat_names, read_mat
from dkgzsl.data.missing import note_of, unknown_entries, with_known_means
from dkgzsl.data.raw import RawData, count_classes, orient, whole_numbers
from dkgzsl.errors import DataError, nearest
from dkgzsl.features.arrays import rows_of
from dkgzsl.files import fingerprint
from dkgzsl.reading import read_text

SUFFIX: Final = "_splits.mat"
ATTRIBUTE_NAMES: Final = "attribute_names.txt"
_FIRST: Final = 1
_PARTS_IN_FILE: Final = {
    "trainval": "trainval_loc",
    "test_seen": "test_seen_loc",
    "test_unseen": "test_unseen_loc",
    "train": "train_loc",
    "val": "val_loc",
}


@dataclass(frozen=True)
class SplitFile:
    """One `*_splits.mat`: class descriptions and parts, turned to our axes and counted from 0.

    Attributes:
        path: the file.
        tables: `att` under the file's own name (`att`, `sent`, ...), `original_att` with `_original` behind it.
        parts: positions by part; `train` and `val` where the file has them.
        notes: on entries that mean "not known", which have the mean of the other classes.
        class_names: cleaned names, where the file has them.
    """

    path: Path
    tables: Mapping[str, np.ndarray]
    parts: Mapping[str, np.ndarray]
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The name of its class descriptions."""
        return self.path.name.removesuffix(SUFFIX)

    def agrees_with(self, other: SplitFile) -> bool:
        """Whether both divide the same images and name the same classes in the same order."""
        same_parts = all(np.array_equal(np.sort(self.parts[part]), np.sort(other.parts[part])) for part in PARTS)
        both_named = self.class_names is not None and other.class_names is not None
        return same_parts and (not both_named or self.class_names == other.class_names)


def read_raw(
    folder: Path, *, features: Path | None, semantics: str | None = None
) -> tuple[RawData, dict[str, Any]]:
    """Read a folder's files without checking them.

    Every `*_splits.mat` of the folder whose parts agree with those of `semantics` becomes a semantic source: its
    `att` (there rows of unit length for attributes) and, where there, its `original_att`. Where the file of
    `semantics` has no `train_loc` and `val_loc`, those of another file name the validation classes; images are
    never taken from these two lists.

    Args:
        folder: the data set's folder; its name is the data set's.
        features: the feature file; None leaves features and labels out.
        semantics: the source to start from (default: `att`, or else the first there is).

    Returns:
        What the files hold, and its provenance (JSON values).

    Raises:
        DataError: a file or a variable is missing or cannot be read, or fits no orientation.
    """
    path = split_file(folder, semantics)
    contents = {} if features is None else read_features(features)
    first = read_split(path, labels=contents.get("labels"))
    agreeing, left_out = companions(first)
    named = next((split.class_names for split in (first, *agreeing) if split.class_names), None)
    raw = RawData(
        name=folder.resolve().name,
        where=str(folder),
        parts=first.parts,
        tables=first.tables,
        class_names=named,
        notes=first.notes,
        counts_from=_FIRST,
    )
    provenance: dict[str, Any] = {"format": "xlsa17", "folder": str(folder), "files": {}}
    if features is not None:
        raw = replace(raw, **contents)
        provenance["files"][features.name] = fingerprint(features)
        provenance["features"] = features.stem
    raw = add_splits(raw, provenance, first, agreeing, left_out)
    provenance["default_semantics"] = first.source
    return raw, provenance


def split_file(folder: Path, semantics: str | None) -> Path:
    """The split file that holds the source `semantics`.

    Raises:
        DataError: there is none.
    """
    files = {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f"*{SUFFIX}"))}
    if not files:
        raise DataError(
            f"no split file in {folder.name}: a file named *{SUFFIX} (att{SUFFIX}, sent{SUFFIX}) is needed",
            where=str(folder),
            fix="put the data set's split file there, or name another folder",
        )
    if semantics is None:
        return files.get("att", next(iter(files.values())))
    found = files.get(semantics, files.get(semantics.removesuffix("_original")))
    if found is None:
        raise DataError(
            f"no semantics {semantics!r} in {folder.name}: the file {semantics}{SUFFIX} is not there",
            where=str(folder),
            fix=nearest(semantics, files, of="semantics here"),
        )
    return found


def has_split_file(folder: Path, semantics: str) -> bool:
    """Whether `split_file` finds one."""
    return any((folder / f"{name}{SUFFIX}").is_file() for name in (semantics, semantics.removesuffix("_original")))


def read_split(path: Path, *, classes: int | None = None, labels: np.ndarray | None = None) -> SplitFile:
    """Read one split file.

    Args:
        path: a `*_splits.mat`.
        classes: number of classes, where it is known; the class names count first.
        labels: labels from 0, where they are known and neither names nor `classes` say the number of classes.

    Raises:
        DataError: a variable is missing, is no whole number, or fits no orientation.
    """
    contents = read_mat(path)
    _need(path, contents, ["att", *(_PARTS_IN_FILE[part] for part in PARTS)])
    names = clean_names(contents["allclasses_names"].ravel()) if "allclasses_names" in contents else None
    count = contents["att"].shape[-1]
    if names is not None or classes is not None:
        count = len(names) if names is not None else classes
    elif labels is not None:
        count = count_classes(labels, contents["att"].shape)
    source = path.name.removesuffix(SUFFIX)
    tables = {
        name: np.ascontiguousarray(
            orient(contents[key], count=count, axis=1, what=key, of="classes", where=path), dtype=np.float64
        )
        for key, name in (("att", source), ("original_att", f"{source}_original"))
        if key in contents
    }
    parts = {
        part: whole_numbers(contents[key], what=key, where=path, first=_FIRST)
        for part, key in _PARTS_IN_FILE.items()
        if key in contents
    }
    unknown = unknown_entries(tables.get(f"{source}_original", tables[source]))
    notes = (note_of(source, unknown, names),) if unknown.any() else ()
    if unknown.any():
        tables = _with_known(tables, source, unknown)
    return SplitFile(path=path, tables=tables, parts=parts, class_names=names, notes=notes)


def _with_known(tables: Mapping[str, np.ndarray], source: str, unknown: np.ndarray) -> dict[str, np.ndarray]:
    """The tables with means for what is not known; rows of `att`, which have unit length there, have it again."""
    original = f"{source}_original"
    if original not in tables:
        return {source: with_known_means(tables[source], unknown)}
    filled, turned = with_known_means(tables[original], unknown), tables[source].copy()
    rows = np.flatnonzero(unknown.any(1))
    turned[rows] = filled[rows] / np.linalg.norm(filled[rows], axis=1, keepdims=True)
    is_unit = np.allclose(np.linalg.norm(tables[source], axis=1), 1, atol=1e-4)
    return {source: turned if is_unit else with_known_means(tables[source], unknown), original: filled}


def read_features(path: Path) -> dict[str, Any]:
    """Read a feature file: `features` [N, C] in float32, `labels` [N] from 0 and, where there, `image_files`.

    Raises:
        DataError: a variable is missing, or the features fit no orientation.
    """
    contents = read_mat(path, ["features", "labels", "image_files"])
    _need(path, contents, ["features", "labels"])
    labels = whole_numbers(contents["labels"], what="labels", where=path, first=_FIRST)
    turned = orient(contents.pop("features"), count=len(labels), axis=1, what="features", of="labels", where=path)
    if turned.dtype.kind not in "fiu":
        raise DataError(f"features must be numbers, not {turned.dtype}", where=str(path))
    features = np.empty(turned.shape, np.float32)
    for rows in rows_of(turned):
        features[rows] = turned[rows]
    files = contents.get("image_files")
    return {
        "features": features,
        "labels": labels,
        "image_files": None if files is None else tuple(str(file) for file in files.ravel()),
    }


def add_splits(
    raw: RawData,
    provenance: dict[str, Any],
    first: SplitFile,
    agreeing: list[SplitFile],
    left_out: Mapping[str, str],
) -> RawData:
    """Add what agreeing split files know (sources, validation lists, attribute names), and record it."""
    tables, parts = dict(raw.tables), dict(raw.parts)
    provenance["files"][first.path.name] = fingerprint(first.path)
    for other in agreeing:
        tables.update({name: table for name, table in other.tables.items() if name not in tables})
        provenance["files"][other.path.name] = fingerprint(other.path)
    lender = next((split for split in (first, *agreeing) if "val" in split.parts), None)
    if lender is not None and "val" not in parts:
        parts.update({part: lender.parts[part] for part in ("train", "val") if part in lender.parts})
    provenance["validation"] = {
        "file": None if lender is None else lender.path.name,
        "borrowed": lender is not None and lender is not first,
    }
    if left_out:
        provenance["left_out"] = dict(left_out)
    names = _attribute_names(first.path.parent)
    return replace(
        raw,
        tables=tables,
        parts=parts,
        attribute_names={
            source: names
            for source in ("att", "att_original")
            if names and source in tables and tables[source].shape[1] == len(names)
        },
    )


def clean_names(names: np.ndarray) -> tuple[str, ...]:
    """Class names without the files' numbering, one word each: `002.Laysan_Albatross` -> `Laysan_Albatross`.

    Plus signs and blanks become underscores. Names that would become equal stay as they are.
    """
    given = tuple(str(name) for name in names)
    cleaned = tuple(re.sub(r"[+\s]+", "_", re.sub(r"^\d+\.", "", name.strip())) for name in given)
    return cleaned if len(set(cleaned)) == len(set(given)) else given


def companions(first: SplitFile) -> tuple[list[SplitFile], dict[str, str]]:
    """The folder's other split files: those that agree, and why the others were left out."""
    agreeing: list[SplitFile] = []
    left_out: dict[str, str] = {}
    classes = len(next(iter(first.tables.values())))
    for path in sorted(first.path.parent.glob(f"*{SUFFIX}")):
        if path == first.path:
            continue
        try:
            other = read_split(path, classes=classes)
        except DataError as error:  # not the file that was asked for, so no reason to stop
            left_out[path.name] = error.what
            continue
        if other.agrees_with(first):
            agreeing.append(other)
        else:
            left_out[path.name] = f"its parts or classes are not those of {first.path.name}"
    return agreeing, left_out


def _attribute_names(folder: Path) -> tuple[str, ...]:
    path = folder / ATTRIBUTE_NAMES
    if not path.is_file():
        return ()
    return tuple(
        line.strip()
        for line in read_text(path, "the names of attributes cannot be read").splitlines()
        if line.strip()
    )


def _need(path: Path, contents: Mapping[str, np.ndarray], keys: list[str]) -> None:
    missing = [key for key in keys if key not in contents]
    if missing:
        raise DataError(
            f"{path.name} has no {', '.join(missing)}",
            where=f"{path} (it has: {', '.join(mat_names(path)) or 'nothing'})",
            fix="use a file in the xlsa17 layout; the names of the variables are fixed",
        )
