"""What the page does every few seconds: old photos go, idle visitors go, free memory goes back to the system."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from dkgzsl.app.limits import Limits
from dkgzsl.app.session import Session
from dkgzsl.memory import give_memory_back

FOLDER: Final = "GRADIO_TEMP_DIR"
_EVERY: Final = 5.0
"""Seconds between two rounds."""
_M_ARENA_MAX: Final = -8  # of glibc's malloc.h


class PhotoFolder:
    """A folder of the page's own for uploaded photos; each goes after some time, the folder at the end.

    Args:
        keep_seconds: how long a photo stays after it came.
    """

    def __init__(self, keep_seconds: float) -> None:
        self.path = Path(mkdtemp(prefix="dkgzsl-page-"))
        self._keep = keep_seconds
        self._before = os.environ.get(FOLDER)
        os.environ[FOLDER] = str(self.path)  # Gradio reads it when the page is built

    def close(self) -> None:
        """Remove the folder and all in it."""
        if self._before is None:
            os.environ.pop(FOLDER, None)
        else:
            os.environ[FOLDER] = self._before
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_old(self) -> None:
        """Remove what came too long ago, and folders that are empty then."""
        oldest = time.time() - self._keep
        for path in sorted(self.path.rglob("*"), reverse=True):  # what is in a folder before the folder
            with suppress(OSError):  # it has gone, or something came into it meanwhile
                if path.lstat().st_ctime < oldest:
                    path.rmdir() if path.is_dir() else path.unlink()


def forget_idle(page: Any, *, keep: int, seconds: float) -> int:
    """Forget visitors who did nothing for some time, except the last ones and those with unsaved classes.

    Gradio keeps 0.2 to 0.5 MB for each. Where a version of Gradio keeps visitors in another way, nothing is done:
    the page's `Limits.visitors` bounds their number then.

    Args:
        page: a page that is served.
        keep: so many visitors are remembered, however long they did nothing.
        seconds: how long a visitor may do nothing.

    Returns:
        How many were forgotten.
    """
    holder = getattr(page, "state_holder", None)
    visitors, used = getattr(holder, "session_data", None), getattr(holder, "time_last_used", None)
    if visitors is None or used is None:
        return 0
    now = datetime.now()  # Gradio's times have no time zone either
    idle = [
        name
        for name in list(visitors)[: max(0, len(visitors) - keep)]  # those used last stand at the end
        if name in used and (now - used[name]).total_seconds() > seconds and not _unsaved(visitors.get(name))
    ]
    waiting = getattr(getattr(page, "_queue", None), "pending_event_ids_session", {})
    for name in idle:
        visitors.pop(name, None)
        used.pop(name, None)
        if not waiting.get(name, True):
            waiting.pop(name, None)
    return len(idle)


def _unsaved(visitor: Any) -> bool:
    """Whether a visitor has added classes that are in no version of the run."""
    kept = list(getattr(visitor, "state_data", {}).values())
    return any(isinstance(one, Session) and one.added for one in kept)


class Upkeep:
    """A thread that keeps the page small, until it is closed.

    Args:
        page: a page that is served.
        photos: the page's folder.
        limits: how long photos and visitors are kept.
    """

    def __init__(self, page: Any, photos: PhotoFolder, limits: Limits) -> None:
        self._page, self._photos, self._limits = page, photos, limits
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="upkeep", daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _run(self) -> None:
        keep = self._limits.keep_seconds
        while not self._ended.wait(min(_EVERY, keep / 2)):
            self._photos.remove_old()
            forget_idle(self._page, keep=self._limits.remembered, seconds=keep)
            give_memory_back()


def few_arenas() -> None:
    """Let all threads share two pools of memory: each of many threads with its own would keep what it freed."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
