"""Who is on the page: each visitor's session and photos, and what is forgotten when."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dkgzsl.app.limits import MEGABYTE, Limits, Refusal
from dkgzsl.app.session import Session
from dkgzsl.memory import give_memory_back

_EVERY: Final = 5.0
"""Seconds between two rounds of the upkeep."""
_M_ARENA_MAX: Final = -8  # of glibc's malloc.h


@dataclass
class Visitor:
    """One visitor: a tab of a browser.

    Attributes:
        session: the run as this visitor has changed it.
        photos: features of photos that came one by one, by number: for a new class, or an adaptation.
        used: when the last request came, in seconds of `time.monotonic`.
        lock: held while the session changes.
    """

    session: Session
    photos: dict[int, np.ndarray] = field(default_factory=dict)
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    numbered: int = 0

    @property
    def bytes(self) -> int:
        """Of the features."""
        return sum(one.nbytes for one in list(self.photos.values()))

    def features(self, numbers: list[int]) -> np.ndarray:
        """Features of photos by their numbers.

        Raises:
            Refusal: one is not here any more.
        """
        try:
            return np.stack([self.photos[number] for number in numbers])
        except (KeyError, ValueError) as error:
            raise Refusal("The photos are not here any more. Please choose them again.", field="photos") from error


class Visitors:
    """All visitors, the last one at the end.

    Args:
        first: the session that each begins with.
        limits: how many are remembered, and how much of them.
    """

    def __init__(self, first: Session, limits: Limits) -> None:
        self.first, self._limits = first, limits
        self._there: OrderedDict[str, Visitor] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._there)

    def of(self, token: str) -> Visitor:
        """The visitor with a token, a new one where it is not known."""
        with self._lock:
            found = self._there.pop(token, None) or Visitor(self.first)
            found.used = time.monotonic()
            self._there[token] = found
            while len(self._there) > self._limits.visitors:
                self._there.popitem(last=False)
            return found

    def keep(self, visitor: Visitor, features: np.ndarray) -> int:
        """Keep the features of a photo.

        Returns:
            Its number.

        Raises:
            Refusal: there is no room.
        """
        if len(visitor.photos) >= self._limits.kept_photos:
            most = self._limits.kept_photos
            raise Refusal(
                f"The page takes {most} photos at once. Use these first, or take some out.", field="photos"
            )
        with self._lock:
            kept = sum(one.bytes for one in self._there.values())
            if kept + features.nbytes > self._limits.kept_megabytes * MEGABYTE:
                raise Refusal("The page has no room for further photos now. Try again later.", field="photos")
            visitor.numbered += 1
            visitor.photos[visitor.numbered] = features
            return visitor.numbered

    def forget_idle(self) -> int:
        """Forget who did nothing for some time, except the last ones and those with unsaved changes.

        Returns:
            How many were forgotten.
        """
        oldest = time.monotonic() - self._limits.keep_seconds
        with self._lock:
            old = list(self._there.items())[: max(0, len(self._there) - self._limits.remembered)]
            idle = [token for token, one in old if one.used < oldest and not one.session.unsaved]
            for token in idle:
                del self._there[token]
        return len(idle)


class Upkeep:
    """A thread that forgets idle visitors and gives free memory back, until it is closed.

    Args:
        visitors: of the page.
        every: seconds between two rounds.
    """

    def __init__(self, visitors: Visitors, every: float = _EVERY) -> None:
        self._visitors, self._every = visitors, every
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="upkeep", daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self._visitors.forget_idle()
            give_memory_back()


def few_arenas() -> None:
    """Let all threads share two pools of memory: each of many threads with its own would keep what it freed."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
