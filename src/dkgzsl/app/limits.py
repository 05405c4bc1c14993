"""What the page takes at once: sizes, numbers, waiting times, and polite refusals."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

MEGABYTE: Final = 1_000_000
_RECENT, _RATE, _SOON, _LATE = 10.0, 8.0, 5.0, 20.0
"""Refusals of the last 10 s, divided by 8: seconds until a refused visitor may come back; from 5 to 20."""


class Refusal(Exception):
    """A request that is not served, in words for the visitor.

    Args:
        text: one or two sentences: what is wrong, and what to do.
        status: of HTTP. A request that the page makes, and that needs other input, has the status 200: of another
            one browsers complain on their console.
        field: the part of the page that the text belongs to, such as `name`; None: the whole view.
        later: seconds until the visitor may try again.
    """

    def __init__(
        self, text: str, *, status: int = 200, field: str | None = None, later: int | None = None
    ) -> None:
        super().__init__(text)
        self.text, self.status, self.field, self.later = text, status, field, later


@dataclass(frozen=True)
class Limits:
    """What the page takes at once.

    Attributes:
        photo_megabytes: the largest photo.
        request_megabytes: the largest request without a photo.
        waiting: requests that wait for a worker; further ones are refused.
        patience: seconds that a request may have to wait, as the last ones show; beyond, further ones are refused.
        longest: seconds that a request may wait; one that has waited longer is refused, whatever was expected.
        workers: requests that are worked on at once.
        uploading: photos that are received at once.
        connections: connections that are open at once; further ones are closed.
        sending: seconds within which a request has to be here.
        kept_photos: photos of one visitor whose features are kept, for a new class or an adaptation.
        kept_megabytes: features of all visitors together.
        visitors: who are remembered; those who were there longest ago go first.
        remembered: of them those who are remembered however long they do nothing; further ones are forgotten after
            `keep_seconds`, except where they have changes that are not saved.
        keep_seconds: see `remembered`.
    """

    photo_megabytes: int = 20
    request_megabytes: int = 1
    waiting: int = 16
    patience: float = 2.0
    longest: float = 5.0
    workers: int = 2
    uploading: int = 8
    connections: int = 256
    sending: float = 60.0
    kept_photos: int = 500
    kept_megabytes: int = 1000
    visitors: int = 500
    remembered: int = 50
    keep_seconds: float = 60.0

    @property
    def too_large(self) -> Refusal:
        """Of a photo that is too large."""
        text = (
            f"This photo is too large: the page takes photos of up to {self.photo_megabytes} MB. Make it smaller."
        )
        return Refusal(text, status=413, field="photo")


class Line:
    """The line in which requests wait for one of a few workers, first come, first served; for one event loop.

    Args:
        limits: how many may work and wait, and for how long.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._free = asyncio.Semaphore(limits.workers)
        self._there = 0
        self._seconds_each = 0.1
        self._refusals: deque[float] = deque()  # when they were, the last ten seconds

    @asynccontextmanager
    async def turn(self, *, counts: bool = True) -> AsyncIterator[None]:
        """Wait for a worker.

        Args:
            counts: whether the time that it takes says something about the next ones.

        Raises:
            Refusal: too many wait already, or the turn did not come in time.
        """
        if self.full:
            raise self.busy()
        self._there += 1
        try:
            try:
                async with asyncio.timeout(self._limits.longest):
                    await self._free.acquire()
            except TimeoutError as error:
                raise self.busy() from error
            began = time.monotonic()
            try:
                yield
            finally:
                self._free.release()
                if counts:
                    seconds = (time.monotonic() - began) / self._limits.workers
                    self._seconds_each += 0.2 * (seconds - self._seconds_each)
        finally:
            self._there -= 1

    @property
    def full(self) -> bool:
        """Whether one more request would have to wait too long."""
        limits = self._limits
        if self._there >= limits.waiting:
            return True
        long = (self._there + 1) * self._seconds_each > limits.patience
        return self._there >= 2 * limits.workers and long

    def busy(self) -> Refusal:
        """A refusal; the more visitors are refused, the later they may come back: refusals take time, too."""
        now = time.monotonic()
        self._refusals.append(now)
        while self._refusals and self._refusals[0] < now - _RECENT:
            self._refusals.popleft()
        seconds = round(min(max(_SOON, len(self._refusals) / _RATE), _LATE) * random.uniform(1.0, 1.2))
        text = f"The page is busy with other requests. Please try again in {seconds} seconds."
        return Refusal(text, status=429, later=seconds)
