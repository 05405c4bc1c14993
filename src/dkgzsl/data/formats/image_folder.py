"""One's own images: class folders, tables of class descriptions, and optionally the classes' roles.

FOLDER/images/CLASS/*        the photos; one folder a class (other layouts: `dkgzsl.data.formats.photo_layout`)
FOLDER/attributes.csv        descriptions: a column `class`, then numbers; any number of such tables,
FOLDER/sentences.xlsx        each a source of semantics named after its file
FOLDER/classes.csv           optional: columns `class` and `role`, others are ignored; a class without a row there
                             is seen if it has photos, and unseen if not

Class names are the same in all of them but for case, `_`, hyphens and blanks (`dkgzsl.data.names.name_key`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dkgzsl.data.formats.photo_layout import (
    ClassFolder,
    class_folders,
    find_layout,
    no_photos,
    refuse_unphotographed,
)
from dkgzsl.data.formats.semantic_files import find_tables, renamed
from dkgzsl.data.formats.spreadsheet import SUFFIXES
from dkgzsl.data.formats.tables import SemanticTable, read_named_columns
from dkgzsl.data.names import by_known_name, clean_name, name_key
from dkgzsl.errors import DataError, nearest
from dkgzsl.features.images import unreadable_photos
from dkgzsl.features.photo_files import IMAGE_SUFFIXES as IMAGE_SUFFIXES

ROLES: Final = ("seen", "seen-train", "seen-val", "unseen")
"""seen-val: seen, and treated as unseen by validation. seen-train: seen, and never treated so."""
IGNORE: Final = "ignore"
"""The role of a class that is left out: its folder and its rows stay where they are."""
_CLASSES: Final = "classes"


@dataclass(frozen=True)
class ImageFolder:
    """What a folder of images holds, validated.

    Attributes:
        folder: the folder.
        class_names: K names, sorted.
        roles: one of `ROLES` for each class.
        images: paths relative to `folder`, with forward slashes, sorted by class and name, as `printable` writes
            them.
        labels: class of each image, a position in `class_names`.
        semantics_name: the default source.
        tables: the sources by name; rows of all K classes, no others.
        origins: file of each source.
        ignored: files in the class folders that are no images by their names.
        test: images that lie in a folder test/, which are the seen test images and no others.
        notes: what was decided while reading, for people.
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
    test: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def read_image_folder(folder: Path, semantics: str) -> ImageFolder:
    """Read and validate a folder of one's own images; no image is opened.

    Args:
        folder: the folder.
        semantics: name of the default table, without its suffix.

    Raises:
        DataError: no images or no such table, a class without a row or without a role, a row or role of an unknown
            class, a misspelt role, a seen class without images, a class folder whose files are no photos by their
            names, or a table that cannot be read.
    """
    layout = find_layout(folder)
    if layout is None:
        raise no_photos(folder)
    listed = _classes_file(folder)
    roles = {} if listed is None else _read_roles(listed)
    ignored = {name for name, role in roles.items() if role == IGNORE}
    given = {name: role for name, role in roles.items() if role != IGNORE}
    tables = find_tables(folder, semantics, other_than=listed).without(ignored)
    listed_keys = {name_key(name) for name in given}
    unlisted = [name for name in tables.default.classes if name_key(name) not in listed_keys]
    classes = sorted([*given, *unlisted])
    origin = listed if not unlisted and listed is not None else tables.origins[semantics]
    found, strange = class_folders(folder, layout, (*classes, *ignored))
    found = {key: one for key, one in found.items() if key not in {name_key(name) for name in ignored}}
    if not any(one.photos or one.others for one in found.values()):
        raise DataError(
            "the class folders hold no images",
            where=str(layout.base),
            fix=f"images are files named {', '.join(IMAGE_SUFFIXES)} in {layout.base.name}/CLASS/",
        )
    _refuse_turned(found, tables.default, tables.origins[semantics])
    folders = _by_class(found, classes, origin, layout.base)
    tables = renamed(tables, classes, origin)
    unseen = [name_key(name) for name, role in given.items() if role == "unseen"]
    refuse_unphotographed(found, unseen, folder)
    images = {name: one.photos for name, one in folders.items() if one.photos}
    untrained = {name for name, one in folders.items() if one.test >= {*one.photos}}
    given |= {name: "seen" if name in images and name not in untrained else "unseen" for name in unlisted}
    _check_roles(given, set(images), untrained, folder)
    test = frozenset(path for name, one in folders.items() if given[name] != "unseen" for path in one.test)
    others = tuple(path for one in found.values() for path in one.others)
    return ImageFolder(
        folder=folder,
        class_names=tuple(classes),
        roles=tuple(given[name] for name in classes),
        images=tuple(path for name in classes for path in images.get(name, ())),
        labels=tuple(label for label, name in enumerate(classes) for _ in images.get(name, ())),
        semantics_name=semantics,
        tables=tables.tables,
        origins=tables.origins,
        ignored=others,
        test=test,
        notes=(*tables.notes, *_notes(strange, others, ignored, len(test) if layout.fixes_test else None)),
    )


def refuse_unreadable(found: ImageFolder) -> None:
    """That of each class with photos at least one can be read; of each, photos are opened until one can be.

    Raises:
        DataError: there is a class of which none can; the message says how many they are, and why.
    """
    whys = unreadable_photos(found.folder, found.images, found.labels)
    for label, name in enumerate(found.class_names):
        mine = [why for position, why in whys.items() if found.labels[position] == label]
        if mine:
            raise DataError(
                f"class {name}: {len(mine)} files, none can be read as an image ({mine[0]})",
                where=str(found.folder / found.images[found.labels.index(label)]),
                fix=f"replace the files, take the folder out, or give it the role {IGNORE} in {_CLASSES}.csv",
            )


def list_classes(folder: Path) -> tuple[str, ...]:
    """Names of the classes of a folder, by classes.csv, tables and class folders; a table is not needed yet.

    Raises:
        DataError: there are none, or classes.csv cannot be read.
    """
    listed = _classes_file(folder)
    roles = {} if listed is None else _read_roles(listed)
    ignored = {name for name, role in roles.items() if role == IGNORE}
    names = {*roles} - ignored
    layout = find_layout(folder)
    tables = find_tables(folder, None, other_than=listed).without(ignored) if folder.is_dir() else None
    described = {name for table in (tables.tables if tables else {}).values() for name in table.classes}
    names |= {*by_known_name(described, names).values()}
    found, _ = class_folders(folder, layout, names) if layout is not None else ({}, [])
    names |= {*by_known_name({one.name for one in found.values()}, names).values()}
    keys = {name_key(name) for name in ignored}
    names = {name for name in names if name_key(name) not in keys}
    if not names:
        raise DataError(
            "there are no classes: neither images/CLASS/, nor classes.csv, nor a table", where=str(folder)
        )
    return tuple(sorted(names))


def _classes_file(folder: Path) -> Path | None:
    files = (folder / f"{_CLASSES}{suffix}" for suffix in SUFFIXES)
    return next((path for path in files if path.is_file()), None)


def _refuse_turned(found: Mapping[str, ClassFolder], table: SemanticTable, path: Path) -> None:
    """That the classes are the rows of the table, not its columns."""
    columns, rows = ({name_key(name) for name in names} for names in (table.columns, table.classes))
    if found and not rows & {*found} and columns >= {*found}:
        raise DataError(
            "the classes are the columns of the table, not its rows",
            where=str(path),
            fix="exchange rows and columns: one row a class, one column an attribute",
        )


def _by_class(
    found: Mapping[str, ClassFolder], classes: Sequence[str], origin: Path, base: Path
) -> dict[str, ClassFolder]:
    """The class folders by the names that the classes have elsewhere."""
    names = {name_key(name): name for name in classes}
    for key, one in found.items():
        if key not in names:
            raise DataError(
                f"the class folder {one.name!r} is no known class",
                where=str(base / one.name),
                fix=f"give it a row in {origin.name}; {_short(nearest(one.name, classes))}; to leave it out, "
                f"write the role {IGNORE} for it in {_CLASSES}.csv",
            )
    return {names[key]: one for key, one in found.items()}


def _read_roles(path: Path) -> dict[str, str]:
    roles: dict[str, str] = {}
    keys: set[str] = set()
    for line, (cell, word) in read_named_columns(path, ("class", "role")):
        name, where, role = clean_name(cell), f"{path}, row {line}", word.lower()
        if name_key(name) in keys:
            raise DataError(f"class {name!r} has two rows", where=where, fix="keep one of them")
        if role not in (*ROLES, IGNORE):
            raise DataError(
                f"unknown role {word!r} of class {name!r}", where=where, fix=nearest(role, (*ROLES, IGNORE))
            )
        roles[name] = role
        keys.add(name_key(name))
    if not roles:
        raise DataError("the table has a header and no rows", where=str(path))
    return roles


def _check_roles(roles: Mapping[str, str], with_images: set[str], untrained: set[str], folder: Path) -> None:
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
            fix=f"give them images, or the role unseen in {_CLASSES}.csv",
        )
    tested = [name for name in seen if name in untrained]
    if tested:
        raise DataError(
            f"{len(tested)} seen classes have photos in test/ alone: {_few(tested)}",
            where=str(folder),
            fix=f"put some of their photos into train/, or give them the role unseen in {_CLASSES}.csv",
        )


def _notes(strange: Sequence[str], others: Sequence[str], ignored: set[str], test: int | None) -> list[str]:
    notes = []
    if others:
        notes.append(f"{len(others)} files in the class folders are no images by their names, such as {others[0]}")
    if strange:
        notes.append(f"folders without photos, of no class, are left out: {_few(strange)}")
    if ignored:
        notes.append(f"classes of the role {IGNORE} are left out: {_few(sorted(ignored))}")
    if test is not None:
        notes.append(f"the {test} photos of seen classes in test/ are their test images; no others are drawn")
    return notes


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _short(sentence: str) -> str:
    """A sentence by `nearest` without its list of names, which may be of hundreds."""
    return sentence.partition(" (")[0] if sentence.startswith("did you mean") else sentence[:200]
