"""Feature stores by URL (s3://, gs://, memory://, ...): copied whole to this machine, then read as any other.

A training reads all rows many times, and its memory map, its checksums and its reading ahead work on files. So a
store is copied once, in blocks, and later commands compare its record and the sizes of its files alone. A copy
that broke off goes on. Each row is compared with its checksum when it is read, as in every store.

The other way, `extract` fills the same folder and sends it when the store is whole. The record is the first file
to go and the last to come: what has none counts as no store.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from dkgzsl.errors import ConfigError, DataError, DkgzslError
from dkgzsl.features.store import INDEX, RECORD, TOKENS
from dkgzsl.files import home_folder, write_whole
from dkgzsl.writing import locked

_BLOCK: Final = 64 * 2**20
_WAIT: Final = 24 * 3600.0
"""Seconds to wait for another command of this machine that copies the same store."""
_WANTED: Final = ".copied-record.json"
"""Next to files that are being copied: the record that they belong to."""


def is_url(place: str | Path | None) -> bool:
    """Whether a place is a URL and not a path of this machine."""
    return isinstance(place, str) and "://" in place


def local_folder(url: str) -> Path:
    """Where this machine has its copy of a store, there or not: `stores` in `home_folder`."""
    plain = url.rstrip("/")
    return home_folder() / "stores" / sha256(plain.encode()).hexdigest()[:16] / plain.rpartition("/")[2]


def local_store(url: str) -> Path:
    """Copy a store to this machine where it is not there yet, or is another by now.

    Returns:
        Folder of the copy.

    Raises:
        ConfigError: the library that reads such URLs is not installed.
        DataError: there is no store, or it cannot be read or copied.
    """
    folder = local_folder(url)
    with _remote(url) as (files, root), locked(folder, what="the copy of this store", wait=_WAIT):
        if not files.exists(f"{root}/{RECORD}"):
            raise DataError("there is no feature store", where=url, fix="dkgzsl extract ... --out URL makes one")
        record = files.cat_file(f"{root}/{RECORD}")
        if _is_same(files, root, folder, record):
            return folder
        _begin(folder, record)
        for name in (TOKENS, INDEX):
            _copy(files, f"{root}/{name}", folder / name)
        write_whole(folder / RECORD, record)
        (folder / _WANTED).unlink()
    return folder


def has_store(url: str) -> bool:
    """Whether there is a store.

    Raises:
        ConfigError: the library that reads such URLs is not installed.
        DataError: the place cannot be read.
    """
    with _remote(url) as (files, root):
        return bool(files.exists(f"{root}/{RECORD}"))


def send_store(folder: Path, url: str, *, overwrite: bool = False) -> bool:
    """Copy a finished store to its URL.

    Args:
        folder: of the store.
        url: where it goes.
        overwrite: send it also where the same is there.

    Returns:
        Whether it was sent; otherwise the same store is there.

    Raises:
        ConfigError: the library that writes such URLs is not installed.
        DataError: it cannot be written.
    """
    with _remote(url) as (files, root):
        there = files.cat_file(f"{root}/{RECORD}") if files.exists(f"{root}/{RECORD}") else None
        if not overwrite and there is not None and _is_same(files, root, folder, there):
            return False
        if there is not None:
            files.rm_file(f"{root}/{RECORD}")
        files.makedirs(root, exist_ok=True)
        for name in (TOKENS, INDEX, RECORD):
            files.put_file(str(folder / name), f"{root}/{name}")
    return True


@contextmanager
def _remote(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL and the path in it; what it raises becomes an error of ours."""
    try:
        import fsspec
    except ImportError as error:
        raise ConfigError(
            "stores by URL need fsspec, which is not installed", where=url, fix='pip install "dkgzsl[cluster]"'
        ) from error
    try:
        files, root = fsspec.core.url_to_fs(url.rstrip("/"))
        files.invalidate_cache()  # another command may have written meanwhile
        yield files, root
    except DkgzslError:
        raise
    except ImportError as error:  # its text names the package
        raise ConfigError(
            str(error).splitlines()[0], where=url, fix='pip install "dkgzsl[cluster]" (s3://), gcsfs (gs://)'
        ) from error
    except Exception as error:  # of many kinds: each file system has its own
        why = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DataError(
            f"cannot reach the feature store: {why}",
            where=url,
            fix="check the URL, the keys and the server (docs/scaling.md); the same command goes on",
        ) from error


def _is_same(files: Any, root: str, folder: Path, record: bytes) -> bool:
    """Whether both have the same record, and files of the same sizes."""
    if not (folder / RECORD).is_file() or (folder / RECORD).read_bytes() != record:
        return False
    return all(
        (folder / name).is_file()
        and files.exists(f"{root}/{name}")
        and files.size(f"{root}/{name}") == (folder / name).stat().st_size
        for name in (TOKENS, INDEX)
    )


def _begin(folder: Path, record: bytes) -> None:
    """An empty folder, or one with what is copied of the same store."""
    wanted = folder / _WANTED
    if not wanted.is_file() or wanted.read_bytes() != record:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_whole(wanted, record)


def _copy(files: Any, source: str, target: Path) -> None:
    """Copy a file in blocks; what is there of it stays."""
    size = files.size(source)
    with target.open("ab") as file:
        if file.tell() > size:
            file.truncate(0)
        while (done := file.tell()) < size:
            file.write(files.cat_file(source, start=done, end=min(size, done + _BLOCK)))
