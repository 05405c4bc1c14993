"""One writer at a time, and one folder for another at once: what `files` and all verbs that write build on."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from dkgzsl.errors import DkgzslError

_EXCHANGE: Final = 2
"""RENAME_EXCHANGE of Linux's renameat2."""
_HERE: Final = -100
"""AT_FDCWD: paths are relative to the working folder."""
_PAUSE: Final = 0.05


class InUseError(DkgzslError):
    """Another command writes the same file or folder."""


_GOING_ON: list[str] = []


@contextmanager
def going_on(how: str) -> Iterator[None]:
    """Whoever interrupts the block learns how to go on: a KeyboardInterrupt gets it as a note.

    Args:
        how: a sentence, or a command.
    """
    _GOING_ON.append(how)
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(how)
        raise
    finally:
        _GOING_ON.remove(how)


def how_to_go_on() -> list[str]:
    """The sentences of all `going_on` blocks that are at work, the outermost first."""
    return list(_GOING_ON)


@contextmanager
def locked(path: Path, *, what: str, wait: float = 0.0) -> Iterator[None]:
    """Nobody else writes a file or folder meanwhile, in this process or another one of this machine.

    The lock is a hidden neighbour, `.NAME.lock`, so that it stays where the folder is replaced. It goes when the
    block ends; one that a killed process has left locks nothing. Where the folder above cannot be written, nothing
    can be put in the path's place either, and there is no lock.

    Args:
        path: what is to be written; there or not. Folders above it are made.
        what: what it is, for the message.
        wait: seconds to wait for another command.

    Raises:
        InUseError: another command writes it.
    """
    whole = path.resolve()
    lock = whole.with_name(f".{whole.name}.lock")
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        release = _acquired(lock, time.monotonic() + wait)
    except OSError:  # read-only, or a file system without locks
        yield
        return
    if release is None:
        raise InUseError(
            f"another command is writing {what}", where=str(path), fix="wait until it has ended, or stop it"
        )
    try:
        yield
    finally:
        release()


def _acquired(lock: Path, until: float) -> Any:
    """What releases the lock; None where it was not free in time."""
    try:
        import fcntl
    except ImportError:  # Windows
        import filelock

        other = filelock.FileLock(lock)
        try:
            other.acquire(timeout=max(0.0, until - time.monotonic()))
        except filelock.Timeout:
            return None
        return other.release
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if time.monotonic() >= until:
                return None
            time.sleep(_PAUSE)
            continue
        except BaseException:
            os.close(descriptor)
            raise
        if _is_same(descriptor, lock):
            return lambda: _release(descriptor, lock)
        os.close(descriptor)  # whoever had it has removed the file since: this lock is nobody's


def _is_same(descriptor: int, lock: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    return False


def _release(descriptor: int, lock: Path) -> None:
    with suppress(OSError):
        lock.unlink()  # while it is held: who waits for the removed file finds out, and takes the next one
    os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Two files or folders take each other's names in one step, where the system can.

    Returns:
        Whether they did; otherwise nothing has changed.
    """
    rename = _renameat2()
    return rename is not None and rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


@cache
def _renameat2() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # not in every C library


def folder_to_disk(folder: Path) -> None:
    """Let the renames in a folder reach the disk; where folders cannot be opened (Windows), the system does."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
