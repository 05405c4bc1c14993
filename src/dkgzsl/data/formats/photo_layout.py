"""Where the photos of one's own images lie: one folder a class, in the layouts that people have.

FOLDER/images/CLASS/*              or Images/, photos/, pictures/, or the only folder with class folders
FOLDER/CLASS/*                     class folders next to the tables
FOLDER/images/train/CLASS/*        with test/CLASS/* (and val/CLASS/*), below images/ or in FOLDER itself
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dkgzsl.data.names import clean_name, name_key
from dkgzsl.errors import DataError
from dkgzsl.features.photo_files import IMAGE_SUFFIXES, files_below, is_photo, is_system, printable, spelled

_FOLDERS: Final = ("images", "image", "photos", "pictures", "img", "imgs")
_TRAIN: Final = {"train", "training"}
_VALIDATION: Final = {"val", "valid", "validation"}
_TEST: Final = {"test", "testing"}


@dataclass
class ClassFolder:
    """What the folders of one class hold.

    Attributes:
        name: of the class, as its folder writes it.
        photos: paths of photos relative to the data's folder, as `printable` writes them, sorted.
        test: those of them that lie in test/.
        others: paths of files that are no photos by their names.
    """

    name: str
    photos: list[str] = field(default_factory=list)
    test: set[str] = field(default_factory=set)
    others: list[str] = field(default_factory=list)

    def kinds(self) -> str:
        """How the files that are no photos end, in words: `2 .psd, 1 .txt`."""
        found = Counter(Path(other).suffix.lower() or "without a suffix" for other in self.others)
        return ", ".join(f"{count} {suffix}" for suffix, count in found.most_common(4))


@dataclass(frozen=True)
class Layout:
    """Where the photos of a folder lie.

    Attributes:
        base: the folder that the class folders, or train/ and test/, lie in.
        roots: folders of class folders, and whether their photos are test images.
    """

    base: Path
    roots: tuple[tuple[Path, bool], ...]

    @property
    def fixes_test(self) -> bool:
        """Whether there is a folder of test images."""
        return any(test for _, test in self.roots)


def find_layout(folder: Path) -> Layout | None:
    """Where class folders with photos lie; None where the folder has none."""
    if not folder.is_dir():
        return None
    inside = {path.name.lower(): path for path in _folders(folder)}
    named = next((inside[name] for name in _FOLDERS if name in inside), None)
    base = _only_one_with_photos(folder) if named is None else named
    layout = Layout(base, _roots(base))
    if named is None and not any(_has_photos(one) for root, _ in layout.roots for one in _folders(root)):
        return None
    return layout


def class_folders(folder: Path, layout: Layout, known: Iterable[str]) -> tuple[dict[str, ClassFolder], list[str]]:
    """The classes' folders by `name_key`, and names of folders that hold no photo and are of no known class.

    Args:
        folder: the data's folder; paths are relative to it.
        layout: where its photos lie.
        known: names of the classes that are described or listed.

    Raises:
        DataError: two class folders of one root have the same name but for case, `_`, hyphens and blanks.
    """
    keys = {name_key(name) for name in known}
    found: dict[str, ClassFolder] = {}
    strange = []
    for root, test in layout.roots:
        here: dict[str, Path] = {}
        for path in _folders(root):
            name = clean_name(spelled(path.name))
            key = name_key(name)
            if key in here:
                raise DataError(
                    f"two class folders are called {name!r}: {here[key].name!r} and {path.name!r}",
                    where=str(root),
                    fix="put their photos into one of them",
                )
            here[key] = path
            filled = _filled(ClassFolder(name), folder, path, test=test)
            if not filled.photos and key not in keys:
                strange.append(printable(path.relative_to(folder).as_posix()))
                continue
            _join(found, key, filled)
    return found, strange


def no_photos(folder: Path) -> DataError:
    """The error of a folder without class folders; it names what is there."""
    here = [f"{path.name}/" for path in _folders(folder)] if folder.is_dir() else []
    shown = ", ".join(map(printable, here[:8])) + (", ..." if len(here) > 8 else "")
    return DataError(
        "there is no folder images/ with one folder a class, and no class folder with photos next to the tables",
        where=f"{folder} ({f'folders there: {shown}' if here else 'no folder is there'})",
        fix=f"put the photos into images/CLASS/; they are files named {', '.join(IMAGE_SUFFIXES)}",
    )


def refuse_unphotographed(found: Mapping[str, ClassFolder], given_roles: Sequence[str], where: Path) -> None:
    """That no class has files of which none is a photo: it would become an unseen class without a word.

    Args:
        found: the classes' folders.
        given_roles: keys of the classes that are unseen because classes.csv says so.
        where: for the message.

    Raises:
        DataError: there is one.
    """
    bad = [one for key, one in found.items() if one.others and not one.photos and key not in given_roles]
    if bad:
        first, more = bad[0], f" (and {len(bad) - 1} more classes are alike)" if len(bad) > 1 else ""
        raise DataError(
            f"class {first.name}: {len(first.others)} files, none is a photo by its name ({first.kinds()}){more}",
            where=str(where / first.others[0]),
            fix=f"save them as JPEG or PNG, or take the folder out (photos: {', '.join(IMAGE_SUFFIXES)})",
        )


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_system(path)]


def _only_one_with_photos(folder: Path) -> Path:
    """The only folder that holds class folders, whatever its name; or else the folder itself."""
    filled = [path for path in _folders(folder) if _has_photos(path)]
    if len(filled) != 1 or any(map(is_photo, filled[0].iterdir())):
        return folder
    return filled[0] if any(map(_has_photos, _folders(filled[0]))) else folder


def _roots(base: Path) -> tuple[tuple[Path, bool], ...]:
    """train/, val/ and test/ where they hold class folders, or else the folder itself."""
    folders = _folders(base)
    parts = [path for path in folders if path.name.lower() in _TRAIN | _VALIDATION | _TEST]
    if not any(path.name.lower() in _TRAIN for path in parts) or not all(_folders(path) for path in parts):
        return ((base, False),)
    return tuple((path, path.name.lower() in _TEST) for path in parts)


def _has_photos(folder: Path) -> bool:
    return any(map(is_photo, files_below(folder)))


def _filled(one: ClassFolder, folder: Path, path: Path, *, test: bool) -> ClassFolder:
    for file in files_below(path):
        relative = printable(file.relative_to(folder).as_posix())
        (one.photos if is_photo(file) else one.others).append(relative)
    if test:
        one.test.update(one.photos)
    return one


def _join(found: dict[str, ClassFolder], key: str, one: ClassFolder) -> None:
    there = found.setdefault(key, one)
    if there is not one:
        there.photos = sorted(there.photos + one.photos)
        there.others += one.others
        there.test |= one.test
