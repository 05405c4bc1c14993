"""One's own images: a folder of class folders, tables of class descriptions, and optionally the classes' roles.

FOLDER/images/CLASS/*        the photos; one folder a class
FOLDER/attributes.csv        descriptions: a column `class`, then numbers; any number of such tables,
FOLDER/sentences.parquet     each a source of semantics named after its file
FOLDER/classes.csv           optional: columns `class` and `role`, others are ignored
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dkgzsl.data.formats.tables import (
    SUFFIXES,
    SemanticTable,
    is_semantic_table,
    read_named_columns,
    read_semantic_table,
)
from dkgzsl.data.names import clean_name
from dkgzsl.errors import DataError, nearest

ROLES: Final = ("seen", "seen-train", "seen-val", "unseen")
"""seen-val: seen, and treated as unseen by validation. seen-train: seen, and never treated so."""
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_CLASSES: Final = "classes.csv"


@dataclass(frozen=True)
class ImageFolder:
    """What a folder of images holds, validated.

    Attributes:
        folder: the folder.
        class_names: K names, sorted.
        roles: one of `ROLES` for each class.
        images: paths relative to `folder`, with forward slashes, sorted by class and name.
        labels: class of each image, a position in `class_names`.
        semantics_name: the default source.
        tables: the sources by name; rows of all K classes, no others.
        origins: file of each source.
        ignored: files in the class folders that are no images by their names.
    """

    folder: Path
    class_names: tuple[str, ...]
    roles: tuple[str, ...]
    images: tuple[str, ...]
    labels: tuple[int, ...]
    semantics_name: str
    tables: Mapping[str, SemanticTable]
    origins: Mapping[str, Path]
    ignored: tuple[str, ...]


def read_image_folder(folder: Path, semantics: str) -> ImageFolder:
    """Read and validate a folder of one's own images; no image is opened.

    Args:
        folder: the folder.
        semantics: name of the default table, without its suffix.

    Raises:
        DataError: no images or no such table, a class without a row or without a role, a row or role of an unknown
            class, a misspelt role, a seen class without images, or a table that cannot be read.
    """
    images_folder = folder / "images"
    if not images_folder.is_dir():
        raise DataError(
            "there is no folder images/ with one folder a class",
            where=str(folder),
            fix="see dkgzsl data import --help",
        )
    origins = _find_tables(folder)
    if semantics not in origins:
        raise DataError(
            f"no table of class descriptions is called {semantics!r}",
            where=str(folder),
            fix=nearest(semantics, origins, of="tables here"),
        )
    tables = {name: read_semantic_table(path) for name, path in origins.items()}
    found, ignored = _find_images(folder, images_folder)
    given = _read_roles(folder / _CLASSES) if (folder / _CLASSES).is_file() else None
    described = set(tables[semantics].classes)
    classes = sorted(given or described)
    with_images = {name for name, paths in found.items() if paths}
    for name in sorted(found):
        if name not in classes:
            listed = folder / _CLASSES if given else origins[semantics]
            raise DataError(
                f"the class folder {name!r} is no known class",
                where=str(images_folder / name),
                fix=f"give it a row in {listed.name}; " + _short(nearest(name, classes)),
            )
    for source, table in tables.items():
        _same_classes(table.classes, classes, origins[source], folder / _CLASSES if given else origins[semantics])
    roles = given or {name: "seen" if name in with_images else "unseen" for name in classes}
    _check_roles(roles, with_images, folder)
    return ImageFolder(
        folder=folder,
        class_names=tuple(classes),
        roles=tuple(roles[name] for name in classes),
        images=tuple(path for name in classes for path in found.get(name, ())),
        labels=tuple(label for label, name in enumerate(classes) for _ in found.get(name, ())),
        semantics_name=semantics,
        tables=tables,
        origins=origins,
        ignored=tuple(ignored),
    )


def list_classes(folder: Path) -> tuple[str, ...]:
    """Names of the classes of a folder: those of classes.csv, or else all that it has; a table is not needed yet.

    Raises:
        DataError: there are none, or a table cannot be read.
    """
    if (folder / _CLASSES).is_file():
        return tuple(sorted(_read_roles(folder / _CLASSES)))
    names: set[str] = set()
    if (folder / "images").is_dir():
        names |= {clean_name(path.name) for path in (folder / "images").iterdir() if path.is_dir()}
    for path in _find_tables(folder).values() if folder.is_dir() else ():
        names |= set(read_semantic_table(path).classes)
    names = {name for name in names if not name.startswith(".")}
    if not names:
        raise DataError(
            "there are no classes: neither images/CLASS/, nor classes.csv, nor a table", where=str(folder)
        )
    return tuple(sorted(names))


def _find_tables(folder: Path) -> dict[str, Path]:
    origins: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name == _CLASSES or not is_semantic_table(path):
            continue
        if path.stem in origins:
            raise DataError(
                f"two tables are called {path.stem!r}: {origins[path.stem].name} and {path.name}",
                where=str(folder),
                fix="rename one of them",
            )
        origins[path.stem] = path
    return origins


def _find_images(folder: Path, images_folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    found: dict[str, list[str]] = {}
    ignored = []
    for class_folder in sorted(images_folder.iterdir()):
        if not class_folder.is_dir() or class_folder.name.startswith("."):
            continue
        name = clean_name(class_folder.name)
        if name in found:
            raise DataError(f"two class folders are called {name!r}", where=str(images_folder))
        found[name] = []
        for path in sorted(class_folder.rglob("*")):
            relative = path.relative_to(folder).as_posix()
            if path.is_dir() or path.name.startswith("."):
                continue
            if path.suffix.lower() in IMAGE_SUFFIXES:
                found[name].append(relative)
            else:
                ignored.append(relative)
    if not any(found.values()):
        raise DataError(
            "the class folders hold no images",
            where=str(images_folder),
            fix=f"images are files named {', '.join(IMAGE_SUFFIXES)} in images/CLASS/",
        )
    return found, ignored


def _read_roles(path: Path) -> dict[str, str]:
    roles: dict[str, str] = {}
    for line, (cell, role) in read_named_columns(path, ("class", "role")):
        name, where = clean_name(cell), f"{path}, row {line}"
        if name in roles:
            raise DataError(f"class {name!r} has two rows", where=where, fix="keep one of them")
        if role not in ROLES:
            raise DataError(f"unknown role {role!r} of class {name!r}", where=where, fix=nearest(role, ROLES))
        roles[name] = role
    if not roles:
        raise DataError("the table has a header and no rows", where=str(path))
    return roles


def _same_classes(rows: Sequence[str], classes: Sequence[str], path: Path, listed: Path) -> None:
    missing, unknown = sorted(set(classes) - set(rows)), sorted(set(rows) - set(classes))
    if missing:
        similar = nearest(missing[0], unknown) if unknown else f"add a row a class to {path.name}"
        raise DataError(
            f"{len(missing)} of {len(classes)} classes have no row: {_few(missing)}",
            where=str(path),
            fix=_short(similar),
        )
    if unknown:
        raise DataError(
            f"{len(unknown)} rows are of classes that {listed.name} does not know: {_few(unknown)}",
            where=str(path),
            fix=f"add them to {listed.name}, or take the rows out",
        )


def _check_roles(roles: Mapping[str, str], with_images: set[str], folder: Path) -> None:
    seen = [name for name, role in roles.items() if role != "unseen"]
    if not seen:
        raise DataError(
            "no class is seen", where=str(folder), fix="at least two classes need images and a seen role"
        )
    empty = [name for name in seen if name not in with_images]
    if empty:
        raise DataError(
            f"{len(empty)} seen classes have no images: {_few(empty)}",
            where=str(folder / "images"),
            fix=f"give them images, or the role unseen in {_CLASSES}",
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _short(sentence: str) -> str:
    """A sentence by `nearest` without its list of names, which may be of hundreds."""
    return sentence.partition(" (")[0] if sentence.startswith("did you mean") else sentence[:200]
