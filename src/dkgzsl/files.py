"""Whole files and whole folders: a reader meets the old one or the new one, never a part; checksums of both."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from hashlib import file_digest, sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from dkgzsl.errors import RunError
from dkgzsl.reading import reading
from dkgzsl.writing import exchange, folder_to_disk, locked

if TYPE_CHECKING:
    from torch import Tensor  # importing torch takes seconds, and most of this module does without it

DRAFT: Final = ".partial"
"""How the name of a draft ends; it begins with a dot and the name of what is written."""
_WHOLE_UP_TO: Final = 2 * 2**30
_END: Final = 64 * 2**20
_PIECE: Final = 2**20


def home_folder() -> Path:
    """Where data sets and weights are kept, there or not: DKGZSL_HOME, or else `dkgzsl` in the user's cache folder
    (XDG_CACHE_HOME, or ~/.cache).
    """
    if home := os.environ.get("DKGZSL_HOME"):
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dkgzsl"


def is_draft(path: Path) -> bool:
    """Whether a path is named as the drafts of this module are."""
    return path.name.startswith(".") and path.name.endswith(DRAFT)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft to write in place of a file: it becomes the file when the block ends, and goes when the block fails.

    Args:
        path: the file; its folder exists.

    Yields:
        Path of the draft, in the same folder. The block writes and closes it.

    Raises:
        OSError: the draft cannot be written, or does not exist when the block ends.
    """
    draft = _draft_of(path)
    try:
        yield draft
        _to_disk(draft)
        draft.replace(path)
        folder_to_disk(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a whole file; text is written in UTF-8 with its line ends as they are.

    Raises:
        OSError: it cannot be written; the old file is still there.
    """
    with whole_file(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """`whole_file` for the file that a verb is asked to write: one writer at a time, and no drafts of killed ones.

    A link stays a link: the file that it leads to is written.

    Args:
        path: the file, there or not; its folder exists.

    Yields:
        Path of the draft, in the folder of the file.

    Raises:
        OSError: the file cannot be written; the older one is still there.
        InUseError: another command writes it.
    """
    whole = path.resolve()
    whole.parent.stat()  # a lock would make the folder
    with locked(whole, what="this file"):
        sweep(whole)
        with whole_file(whole) as draft:
            yield draft


@contextmanager
def whole_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty draft folder to fill: it becomes the folder when the block ends, and goes when the block fails.

    Folders above it are made. A link stays a link: the folder that it leads to is written. What a killed process
    has left of an earlier replacement is put right first (see `restore`).

    Args:
        path: the folder; new or empty, unless `replace` is set.
        replace: whether a folder or file that is there makes way. It stays until the new folder has its place.

    Yields:
        Path of the draft, next to the folder.

    Raises:
        OSError: the folder cannot be written, or there is something and `replace` is not set.
        InUseError: another command writes it.
    """
    whole = path.resolve()
    with locked(whole, what="this folder"):
        restore(whole)
        sweep(whole)
        draft = _draft_of(whole)
        draft.mkdir(parents=True)
        try:
            yield draft
            put_in_place(draft, whole, replace=replace)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def put_in_place(draft: Path, whole: Path, *, replace: bool) -> None:
    """Let a filled folder take another's place; the old one goes last.

    Raises:
        OSError: it cannot, or there is something and `replace` is not set.
    """
    for file in draft.rglob("*"):
        if file.is_file():
            _to_disk(file)
    if not replace or not whole.exists():
        draft.replace(whole)
    elif exchange(draft, whole):
        pass  # in one step: the draft's name is the old one's now
    else:
        old = _old_of(whole)
        whole.rename(old)  # killed after this line: `restore` puts it back
        try:
            draft.rename(whole)
        except BaseException:
            old.rename(whole)
            raise
        draft = old.rename(_draft_of(whole))
    folder_to_disk(whole.parent)
    take_away(draft)


def restore(path: Path) -> None:
    """Put a folder back that was about to be replaced by a process that was killed between two renames.

    Call it under the folder's lock.

    Raises:
        OSError: it cannot be put back.
    """
    old = _old_of(path)
    if not os.path.lexists(old):
        return
    if os.path.lexists(path):
        take_away(old.rename(_draft_of(path)))  # the new one has its place: the old one was about to go
    else:
        old.rename(path)


def take_away(path: Path) -> None:
    """Remove a file or folder that may be there.

    A folder first gets the name of a draft, so that nobody takes what is left of it for the whole.
    """
    if path.is_dir() and not path.is_symlink():
        away = path if is_draft(path) else _draft_of(path)
        try:
            path.rename(away)
        except OSError:  # a mount point keeps its name: it is emptied
            away = path
        shutil.rmtree(away, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def holds_something(folder: Path) -> bool:
    """Whether a folder has anything but drafts, which a command leaves that was killed in its first moments."""
    return folder.is_dir() and any(not is_draft(path) for path in folder.iterdir())


def sweep(path: Path) -> None:
    """Remove the drafts of a file or folder that killed processes have left. Call it under its lock."""
    with suppress(OSError):
        for draft in path.parent.glob(f".{escape(path.name)}.????????{DRAFT}"):
            take_away(draft)


def sweep_inside(folder: Path) -> None:
    """Remove the drafts in a folder, at any depth, that killed processes have left. Call it under its lock."""
    with suppress(OSError):
        for draft in [path for path in folder.rglob(f".*{DRAFT}") if is_draft(path)]:
            take_away(draft)


def _old_of(path: Path) -> Path:
    """Where a folder lies for a moment that cannot be exchanged in one step."""
    return path.with_name(f".{path.name}.replaced{DRAFT}")


def _draft_of(path: Path) -> Path:
    """A hidden neighbour by a random name, so that two that write the same file at once do not mix."""
    return path.with_name(f".{path.name}.{token_hex(4)}{DRAFT}")


def _to_disk(file: Path) -> None:
    """Without it a power cut may leave an empty file under the final name: renames may reach the disk first."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """The file's SHA-256, or above 2 GiB `ends:` and that of its size, first and last 64 MiB.

    Region maps of tens of gigabytes would take a minute to read in full before each run.
    """
    size = path.stat().st_size
    if size <= _WHOLE_UP_TO:
        return sha256_of(path)
    digest = sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_END))
        file.seek(size - _END)
        digest.update(file.read(_END))
    return f"ends:{digest.hexdigest()}"


@dataclass(frozen=True)
class ManifestEntry:
    """A file of a manifest.

    Attributes:
        size: bytes.
        sha256: of its content, in hexadecimal.
    """

    size: int
    sha256: str


Manifest = Mapping[str, ManifestEntry]
"""Files of a folder by their paths in it, with `/` between the steps."""


def manifest_of(folder: Path) -> Manifest:
    """Size and checksum of each file in a folder, at any depth, in the order of their paths.

    Raises:
        OSError: a file cannot be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): ManifestEntry(path.stat().st_size, sha256_of(path)) for path in files
    }


def check_manifest(
    manifest: Manifest, sizes: Mapping[str, int | None], *, besides: frozenset[str] = frozenset(), where: str
) -> None:
    """That exactly the manifest's files are in a folder, at their sizes; contents are not read.

    Args:
        manifest: what has to be there.
        sizes: bytes of each file that is there; None where they are not known yet.
        besides: names of files that may be there although the manifest does not name them.
        where: the folder, for messages.

    Raises:
        RunError: a file is missing, has another size, or is not in the manifest.
    """
    for name in sorted(set(sizes) - set(manifest) - besides):
        raise RunError(f"there is a file that the manifest does not name: {name!r}", where=where)
    for name, entry in manifest.items():
        if name not in sizes:
            raise RunError(f"{name} is missing", where=where)
        if sizes[name] not in (None, entry.size):
            raise RunError(f"{name} has {sizes[name]:,} bytes, the manifest says {entry.size:,}", where=where)


def copy_verified(source: Path, target: Path, entry: ManifestEntry, *, name: str, where: str) -> None:
    """Copy a file whose content is that of a manifest; links are not followed.

    The hash is taken of the bytes as they are written, so that a source that changes meanwhile is found out.

    Args:
        source: the file.
        target: where it goes; its folder exists.
        entry: what it has to be.
        name: how the manifest names it, for messages.
        where: the folder or repository that it comes from, for messages.

    Raises:
        RunError: the source is no ordinary file, cannot be read, or has another content.
        OSError: the target cannot be written.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    digest, done = sha256(), 0
    try:
        descriptor = os.open(source, flags)
    except OSError as error:
        raise RunError(f"{name} cannot be read: {error.strerror}", where=where) from error
    with os.fdopen(descriptor, "rb") as file, target.open("wb") as copy:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise RunError(f"{name} is no ordinary file", where=where)
        while done <= entry.size and (piece := file.read(_PIECE)):
            done += len(piece)
            digest.update(piece)
            copy.write(piece)
    if done != entry.size or digest.hexdigest() != entry.sha256:
        raise RunError(
            f"{name} is not the file that was pushed: size or sha256 differ", where=where, fix="pull it again"
        )


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write a whole safetensors file whose metadata holds `values` as JSON; folders above it are made.

    Raises:
        RunError: the file cannot be written; the old one is still there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as draft:
            save_file(_separate(tensors), draft, metadata={"values": json.dumps(values)})
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot write the checkpoint: {error}", where=str(path)) from error


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `write_checkpoint` wrote, on the CPU; None where there is no file.

    Raises:
        RunError: the file cannot be read, or is not a checkpoint.
    """
    again = "start again without --resume, with --overwrite"
    with reading("not a checkpoint", path, error=RunError, fix=again):
        if not path.exists():
            return None
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            values = json.loads(file.metadata()["values"])
            if not isinstance(values, dict):
                raise ValueError("its values have no names")
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, values


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors takes them: contiguous, and none sharing memory with another."""
    separate: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        kept = tensor.detach().contiguous()
        address = kept.untyped_storage().data_ptr()
        separate[name] = kept.clone() if address in storages else kept
        storages.add(address)
    return separate
