"""Safe unpacking of archives: files and folders alone, none outside the folder, bounded in size.

The standard library's modules read the formats. Zip members are written here, tar members through the filter
`data` (PEP 706). Names that the filter would change are refused, and so are symbolic links: no data set needs
them, and the filter had flaws with them.
"""

from __future__ import annotations

import errno
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final, TypeVar

from dkgzsl.errors import DataError

CHUNK: Final = 1 << 20
Member = TypeVar("Member")
MEMBERS: Final = 2_000_000
"""More members than this are taken for an attack."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes done and the bytes in all, None where these are unknown."""


class BadArchiveError(DataError):
    """The archive is broken, unsafe, or another one than expected."""


def unpack(archive: Path, folder: Path, *, limit: int, inside: str = "", progress: Progress | None = None) -> int:
    """Unpack a zip or tar archive (plain, gz, bz2, xz) into an empty folder.

    Every member's name and kind is checked, wanted or not; a caller who meets an error removes the folder.

    Args:
        archive: the archive; its content says its format.
        folder: an existing, empty folder.
        limit: most bytes to write.
        inside: only members below this folder of the archive.
        progress: called with the bytes written, at most once a member.

    Returns:
        The bytes written, 0 where nothing lies below `inside`.

    Raises:
        BadArchiveError: no archive, a broken one, or one with members that could land outside `folder`, with
            symbolic links or devices, or with more than `limit` bytes.
        DataError: the disk is full or the folder cannot be written.
    """
    report = progress or silent
    try:
        with archive.open("rb") as file:
            start = file.read(512).lstrip()
        if start.startswith(b"<"):
            raise _broken(archive, "it is a web page")
        unpacker = _unzip if start.startswith(b"PK") else _untar
        return unpacker(archive, folder, limit, inside, report)
    except tarfile.FilterError as error:
        raise _unsafe(archive, f"{error}") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise _broken(archive, str(error) or "it ends too early") from error
    except (RuntimeError, NotImplementedError, UnicodeError) as error:  # zipfile: encrypted, unknown compression
        raise _broken(archive, str(error)) from error
    except FileExistsError as error:
        raise _broken(archive, f"two members have the name {error.filename!r}") from error
    except OSError as error:
        # None: gzip and bz2 on damaged data; the others: members that contradict each other, endless names
        if error.errno in (None, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise _broken(archive, str(error)) from error
        raise disk_error(error, folder) from error


def disk_error(error: OSError, path: Path) -> DataError:
    """The sentence for a disk that is full or a folder that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError("the disk is full", where=str(path), fix="free space and run the same command again")
    return DataError(
        f"cannot write: {error.strerror or error}",
        where=str(path),
        fix="choose a folder that you may write with --data-root",
    )


def check_room(folder: Path, needed: int) -> None:
    """Raise a DataError where the disk of an existing folder has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"not enough room on the disk: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free",
            where=str(folder),
            fix="free space, or choose another disk with --data-root",
        )


def _unzip(archive: Path, folder: Path, limit: int, inside: str, report: Progress) -> int:
    with zipfile.ZipFile(archive) as source:
        wanted = []
        for member in _counted(source.infolist(), archive):
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(archive, f"{member.filename!r} is a link or a device")
            path = _path(member.filename, archive)
            if _below(path, inside):
                wanted.append((member, folder / path))
        total = sum(member.file_size for member, _ in wanted)
        _bound(total, limit, archive)
        check_room(folder, total)
        done = 0
        for member, target in wanted:
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            # zipfile reads no more than the size that it states, and checks the CRC at the end
            with source.open(member) as reader, target.open("xb") as writer:
                shutil.copyfileobj(reader, writer, CHUNK)
            done += member.file_size
            report(done, total)
        return done


def _untar(archive: Path, folder: Path, limit: int, inside: str, report: Progress) -> int:
    if not hasattr(tarfile, "data_filter"):
        raise DataError(
            "this Python cannot unpack tar archives safely", fix="update to the latest 3.11 or a newer Python"
        )
    done = 0
    with _open_tar(archive) as source:
        for member in _counted(source, archive):
            path = _path(member.name, archive)
            if member.islnk():
                _path(member.linkname, archive)
            elif not (member.isfile() or member.isdir()):
                raise _unsafe(archive, f"{member.name!r} is a link or a device")
            if not _below(path, inside):
                continue
            _bound(done + member.size, limit, archive)
            source.extract(member, folder, filter="data")
            done += member.size
            report(done, None)
        _expect_end(source)
    return done


def _open_tar(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive, "r:*")
    except tarfile.ReadError as error:
        raise _broken(archive, "it is neither a zip nor a tar archive, or cut short at once") from error


def _expect_end(source: tarfile.TarFile) -> None:
    """Raise where the archive does not end as it must: tarfile takes a damaged header for the end, silently."""
    reader = source.fileobj
    assert reader is not None
    reader.seek(source.offset)
    block = reader.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or any(block):
        raise tarfile.ReadError("it ends in the middle or is damaged")
    while reader.read(CHUNK):  # to the end, where the compression checks its sum
        pass


def _counted(members: Iterable[Member], archive: Path) -> Iterator[Member]:
    for count, member in enumerate(members):
        if count >= MEMBERS:
            raise _unsafe(archive, f"it has more than {MEMBERS} members")
        yield member


def _path(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        raise _unsafe(archive, f"{name!r} would land outside its folder")
    return path


def _below(path: PurePosixPath, inside: str) -> bool:
    return path.is_relative_to(inside)


def _bound(size: int, limit: int, archive: Path) -> None:
    if size > limit:
        raise _unsafe(archive, f"unpacked it takes more than {limit / 1e9:.2f} GB, far more than it should")


def _unsafe(archive: Path, why: str) -> BadArchiveError:
    return BadArchiveError(
        f"the archive is not safe to unpack: {why}", where=str(archive), fix="take it from its official source"
    )


def _broken(archive: Path, why: str) -> BadArchiveError:
    return BadArchiveError(f"the archive is broken: {why}", where=str(archive), fix="fetch it again")


def silent(done: int, total: int | None) -> None:
    """Report nothing."""
