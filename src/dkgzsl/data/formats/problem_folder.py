"""An imported problem: a folder that lists images, classes, roles and class descriptions.

problem.json          name, where the images lie, classes with roles, the default semantics
images.csv            path and class of each image, and `test` as its part where the user fixed the test images
semantics/NAME.csv    one table a source, with NAME.json where the table was computed
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float, Integer

from dkgzsl.data.formats.computed_tables import as_json, origin_of
from dkgzsl.data.formats.image_folder import ImageFolder, list_classes
from dkgzsl.data.formats.problem_record import FORMAT, read_record
from dkgzsl.data.formats.reader import Wanted
from dkgzsl.data.formats.tables import (
    SemanticTable,
    read_named_columns,
    read_semantic_table,
    write_csv,
    write_semantic_table,
)
from dkgzsl.data.missing import note_of, unknown_entries, with_known_means
from dkgzsl.data.problem import ImageIndices
from dkgzsl.data.raw import RawData
from dkgzsl.data.splits import drawn_by, test_images
from dkgzsl.errors import DataError
from dkgzsl.features.images import unreadable_photos
from dkgzsl.features.photo_files import printable
from dkgzsl.features.store import INDEX, open_store
from dkgzsl.files import fingerprint, whole_folder

if TYPE_CHECKING:
    from dkgzsl.features.extraction import ImageList

DEFAULT_BACKBONE: Final = "resnet50"
"""The backbone that is proposed where none was named: it takes seconds for a hundred photos on a processor."""
_RECORD: Final = "problem.json"
_IMAGES: Final = "images.csv"
_SEMANTICS: Final = "semantics"
_FIXED_TEST: Final = {"splits": "seen test images as in the folder test/"}


@dataclass(frozen=True)
class ProblemFolder:
    """An imported problem as it lies in its folder; no features yet.

    Attributes:
        folder: the problem's folder.
        name: the problem's name.
        source: folder that the images' paths are relative to.
        class_names: K names.
        roles: `seen`, `seen-train`, `seen-val` or `unseen`, for each class.
        paths: relative path of each image.
        labels: class of each image.
        semantics_name: the default source.
        extraction: options of `extract` that the user wants for it, by name.
        test: which images of seen classes are their test images, where that is fixed; none where they are drawn.
    """

    folder: Path
    name: str
    source: Path
    class_names: tuple[str, ...]
    roles: tuple[str, ...]
    paths: tuple[str, ...]
    labels: Integer[np.ndarray, " images"]
    semantics_name: str
    test: Bool[np.ndarray, " images"]
    extraction: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def tables(self) -> dict[str, SemanticTable]:
        """Class descriptions by source."""
        return {path.stem: read_semantic_table(path) for path in self.table_files}

    @property
    def table_files(self) -> list[Path]:
        """The tables' files."""
        return sorted((self.folder / _SEMANTICS).glob("*.csv"))

    def sources(self) -> dict[str, Float[np.ndarray, "classes semantic"]]:
        """Class descriptions by source [K, S], rows in the order of `class_names`.

        Raises:
            DataError: a table has not exactly one row a class.
        """
        for name, table in self.tables.items():
            if set(table.classes) != set(self.class_names):
                odd = sorted(set(table.classes) ^ set(self.class_names))
                raise DataError(
                    f"the table has not one row a class: {', '.join(odd[:5])}",
                    where=str(self.folder / _SEMANTICS / f"{name}.csv"),
                    fix="import the folder again",
                )
        return {name: table.rows_of(self.class_names) for name, table in self.tables.items()}

    @property
    def fixes_test(self) -> bool:
        """Whether the seen test images are fixed, not drawn."""
        return bool(self.test.any())

    def parts(self, test_seed: int, usable: Bool[np.ndarray, " images"]) -> dict[str, ImageIndices]:
        """Positions by part; seen test images that are not fixed are drawn by `test_seed` (`dkgzsl.data.splits`).

        The draw is over all images, so that it does not depend on which of them are `usable`; those that are not
        are in no part. `train` and `val` divide `trainval` where a class has the role seen-val.
        """
        roles = np.array(self.roles)[self.labels]
        seen = np.flatnonzero(np.array(self.roles) != "unseen")
        is_test = self.test & (roles != "unseen")
        if not self.fixes_test:
            is_test[test_images(self.labels, seen, seed=test_seed)] = True
        masks = {
            "trainval": (roles != "unseen") & ~is_test,
            "test_seen": is_test,
            "test_unseen": roles == "unseen",
        }
        if "seen-val" in self.roles:
            masks["val"] = masks["trainval"] & (roles == "seen-val")
            masks["train"] = masks["trainval"] & (roles != "seen-val")
        return {part: np.flatnonzero(mask & usable) for part, mask in masks.items()}


def is_problem_folder(folder: Path) -> bool:
    """Whether a folder holds an imported problem."""
    return (folder / _RECORD).is_file()


def read_problem_folder(folder: Path) -> ProblemFolder:
    """Read an imported problem.

    Raises:
        DataError: the folder holds none, or one that is damaged.
    """
    path = folder / _RECORD
    record = read_record(path)
    names = tuple(entry["class"] for entry in record["classes"])
    number = {name: label for label, name in enumerate(names)}
    images = [c for _, c in read_named_columns(folder / _IMAGES, ("path", "class"), optional=("part",))]
    unknown = next((name for _, name, _ in images if name not in number), None)
    if unknown is not None:
        raise DataError(f"an image is of the unknown class {unknown!r}", where=str(folder / _IMAGES))
    return ProblemFolder(
        folder=folder,
        name=record["name"],
        source=_source(folder, record),
        class_names=names,
        roles=tuple(entry["role"] for entry in record["classes"]),
        paths=tuple(image for image, _, _ in images),
        labels=np.array([number[name] for _, name, _ in images], np.int64),
        semantics_name=record["semantics"],
        test=np.array([part == "test" for _, _, part in images], bool),
        extraction=record.get("extraction") or {},
    )


class ProblemFolderReader:
    """Reads an imported problem with the features of a store."""

    def recognises(self, path: Path) -> bool:
        """Whether a folder holds an imported problem."""
        return is_problem_folder(path)

    def images(self, path: Path) -> ImageList:
        """The problem's images.

        Raises:
            DataError: the problem is damaged.
        """
        from dkgzsl.features.extraction import ImageList

        listed = read_problem_folder(path)
        return ImageList(listed.name, listed.source, listed.paths, listed.labels.tolist(), listed.class_names)

    def read(self, path: Path, wanted: Wanted) -> tuple[RawData, dict[str, Any]]:
        """Read the problem and a finished feature store, matched by the images' paths.

        The features stay a memory map where both list the same images in the same order; otherwise the rows are
        copied. Images that the extraction could not read are in no part.

        Raises:
            DataError: no store is named and features are needed, problem or store cannot be read, or the store
                lacks an image.
        """
        if wanted.features is None and not wanted.features_needed:
            return _before_extraction(read_problem_folder(path), path, wanted)
        if wanted.features is None:
            raise DataError(
                "an imported problem needs its feature store",
                where=str(path),
                fix=extract_command(path),
            )
        listed, features = read_problem_folder(path), Path(wanted.features)
        if features.is_file():
            raise DataError(
                "these features are a file, and an imported problem takes a feature store, which is a folder",
                where=str(features),
                fix="dkgzsl data convert FILE --out STORE --backbone NAME makes one; the file needs an array "
                f"`image_files`, the paths of the problem's images such as {listed.paths[0]}",
            )
        store = open_store(features)
        rows = store.rows_of(listed.paths)
        same = len(rows) == len(store.tokens) and bool((rows == np.arange(len(rows))).all())
        origins = {table.stem: origin_of(table) for table in listed.table_files}
        computed = {name: origin for name, origin in origins.items() if origin}
        bad = np.flatnonzero(~store.readable[rows])
        raw = replace(
            _raw(listed, path, listed.parts(wanted.test_seed, store.readable[rows])),
            features=store.tokens if same else store.tokens[rows],
            # The dimensions of an embedding are no attributes: their names say nothing.
            attribute_names={name: table.columns for name, table in listed.tables.items() if name not in computed},
            unreadable={int(at): store.entries[rows[at]].why or "" for at in bad},
        )
        files = [path / _RECORD, path / _IMAGES, *listed.table_files, features / INDEX]
        return raw, {
            "format": "problem folder",
            "folder": str(path),
            "files": {file.name: fingerprint(file) for file in files},
            "features": features.name,
            **store.provenance(),
            "default_semantics": listed.semantics_name,
            "computed_semantics": computed,
            **(_FIXED_TEST if listed.fixes_test else drawn_by(wanted.test_seed)),
        }


def _raw(listed: ProblemFolder, path: Path, parts: dict[str, ImageIndices]) -> RawData:
    """A problem as it lies in its folder, without features."""
    tables, notes = listed.sources(), []
    for name, table in tables.items():
        unknown = unknown_entries(table)
        if unknown.any():
            tables[name] = with_known_means(table, unknown)
            notes.append(note_of(name, unknown, listed.class_names))
    return RawData(
        name=listed.name,
        where=str(path),
        parts=parts,
        tables=tables,
        class_names=listed.class_names,
        labels=listed.labels,
        image_files=tuple(str(listed.source / image) for image in listed.paths),
        described_only=True,
        notes=tuple(notes),
    )


def _before_extraction(listed: ProblemFolder, path: Path, wanted: Wanted) -> tuple[RawData, dict[str, Any]]:
    """For `data check`: what can be known before there are features, the images' files among it."""
    unreadable = unreadable_photos(listed.source, listed.paths, listed.labels.tolist())
    usable = np.ones(len(listed.labels), bool)
    usable[[*unreadable]] = False
    raw = replace(_raw(listed, path, listed.parts(wanted.test_seed, usable)), unreadable=unreadable)
    return raw, {"format": "problem folder", "default_semantics": listed.semantics_name}


def extract_command(folder: Path) -> str:
    """The command that extracts an imported problem's features, with what `data import` was given for it.

    Args:
        folder: the problem's.
    """
    wish = {"backbone": DEFAULT_BACKBONE, **read_problem_folder(folder).extraction}
    flags = [word for key, value in wish.items() for word in (f"--{key.replace('_', '-')}", value)]
    out = Path(
        f"{str(folder).rstrip('/')}-{wish['backbone'].partition('@')[0].replace('/', '').replace(':', '-')}"
    )
    return shlex.join(["dkgzsl", "extract", str(folder), *flags, "--out", str(out)])


def write_problem_folder(
    found: ImageFolder,
    out: Path,
    *,
    name: str,
    overwrite: bool = False,
    extraction: Mapping[str, str] | None = None,
) -> None:
    """Write a validated folder of images as a problem: all of it, or nothing.

    Args:
        found: the folder.
        out: the problem's folder.
        name: of the problem.
        overwrite: replace a problem that is there.
        extraction: options of `extract` that the user wants for it, by name.

    Raises:
        DataError: `out` holds something already, and is not to be overwritten or is no problem; or it cannot be
            written.
    """
    if out.exists() and not is_problem_folder(out) and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            "there is something else than a problem", where=str(out), fix="name a new folder with --out"
        )
    if is_problem_folder(out) and not overwrite:
        raise DataError("there is a problem already", where=str(out), fix="name a new folder, or give --overwrite")
    try:
        with whole_folder(out, replace=overwrite) as draft:
            _write(found, draft, name, extraction or {})
    except OSError as error:
        raise DataError(f"cannot write the problem: {error.strerror}", where=str(out)) from error


def semantics_folder(folder: Path) -> Path:
    """The folder of the tables of an imported problem, or of a folder that is yet to be imported."""
    return folder / _SEMANTICS if is_problem_folder(folder) else folder


def class_names_of(folder: Path) -> tuple[str, ...]:
    """Names of the classes of a problem, or of a folder of one's own images that is yet to be imported.

    Raises:
        DataError: it is neither.
    """
    if is_problem_folder(folder):
        return read_problem_folder(folder).class_names
    return list_classes(folder)


def _write(found: ImageFolder, folder: Path, name: str, extraction: Mapping[str, str]) -> None:
    (folder / _SEMANTICS).mkdir()
    for source, table in found.tables.items():
        ordered = SemanticTable(found.class_names, table.columns, table.rows_of(found.class_names))
        target, origin = folder / _SEMANTICS / f"{source}.csv", origin_of(found.origins[source])
        write_semantic_table(target, ordered)
        if origin:
            target.with_suffix(".json").write_text(as_json(origin), encoding="utf-8")
    classes = [found.class_names[label] for label in found.labels]
    rows = [[path, name] for path, name in zip(found.images, classes, strict=True)]
    if found.test:
        rows = [[path, name, "test" if path in found.test else ""] for path, name in rows]
    write_csv(folder / _IMAGES, ["path", "class", *(["part"] if found.test else [])], rows)
    record = {
        "format": FORMAT,
        "name": name,
        "source": printable(found.folder.resolve()),
        "source_from_here": _from_here(found.folder.resolve(), folder.resolve()),
        "semantics": found.semantics_name,
        **({"extraction": dict(extraction)} if extraction else {}),
        "classes": [{"class": c, "role": role} for c, role in zip(found.class_names, found.roles, strict=True)],
    }
    (folder / _RECORD).write_text(as_json(record), encoding="utf-8")


def _source(folder: Path, record: Mapping[str, Any]) -> Path:
    """Where the images lie: the recorded place, or, where nothing is there any more, the same from the problem."""
    source, relative = Path(record["source"]), record.get("source_from_here")
    if relative is None or source.exists():
        return source
    moved = Path(os.path.normpath(folder.resolve() / relative))
    return moved if moved.exists() else source


def _from_here(source: Path, folder: Path) -> str | None:
    try:
        return printable(Path(os.path.relpath(source, folder)))
    except ValueError:  # another drive
        return None
