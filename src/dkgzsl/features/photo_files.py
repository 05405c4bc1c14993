"""Which files are photos: by their names, in linked folders too, and with names that are no UTF-8."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

IMAGE_SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".heic", ".heif", ".hif", ".avif"),
)
"""How photos' files end, in lower case. `.heic` and its like need the extra `heic` to be decoded."""
_SYSTEM: Final = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found", "icon\r"}


def is_system(path: Path) -> bool:
    """Whether a file or folder is hidden, or one that an operating system or an editor keeps for itself."""
    return path.name.startswith((".", "~$")) or path.name.lower() in _SYSTEM


def is_photo(path: Path) -> bool:
    """Whether a file is a photo by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def files_below(folder: Path) -> Iterator[Path]:
    """Files at any depth, sorted by folder, links followed, without hidden and system files.

    A link that leads back to a folder above it is not entered again. A link that leads nowhere counts as a file.
    """
    yield from _below(folder, (os.path.realpath(folder),))


def _below(folder: Path, entered: tuple[str, ...]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if is_system(path):
            continue
        if not path.is_dir():
            yield path
            continue
        real = os.path.realpath(path)
        if real not in entered:
            yield from _below(path, (*entered, real))


def printable(path: str | Path) -> str:
    r"""A path as text that any file and screen takes: a byte that is no UTF-8 is written `\xe9`.

    `as_on_disk` finds the file again.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def as_on_disk(path: Path) -> Path:
    r"""The path that `printable` wrote: `\xe9` is the byte again where no file has the text as its name."""
    if "\\x" not in str(path) or path.exists():
        return path
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), os.fsencode(path))
    return Path(os.fsdecode(raw))


def spelled(name: str) -> str:
    """The name of a file or folder as one would read it: bytes that are no UTF-8 are taken for Windows-1252."""
    raw = os.fsencode(name)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "backslashreplace")
