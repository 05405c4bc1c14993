"""What the page takes at once: sizes, numbers, how long files and visitors are kept, and polite refusals."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_MEGABYTE: Final = 1_000_000
_FORM: Final = 20_000
"""Bytes of an upload besides the photo: names and boundaries of the form."""
_PROMISE: Final = 10.0
"""Seconds for which a photo that came counts as waiting, until its visitor asks for the prediction."""
REFUSED: Final = 429
"""Status of a refusal; the page shows the text that comes with it (of a 503 it shows words of its own)."""
_FOLDER: Final = "GRADIO_TEMP_DIR"


@dataclass(frozen=True)
class Limits:
    """What the page takes at once.

    Attributes:
        photo_megabytes: the largest photo.
        waiting: requests that wait for a worker; further ones are refused.
        patience: seconds that a request may have to wait, as the last ones show; beyond, further ones are refused.
        workers: requests that are worked on at once.
        uploading: photos that are received at once.
        uploaded_megabytes: photos that are kept at once.
        keep_seconds: how long an uploaded photo is kept. It is read within seconds; two visitors may share one.
        visitors: whose last photo and added classes are remembered; those who were there longest ago go first.
    """

    photo_megabytes: int = 20
    waiting: int = 40
    patience: float = 4.0
    workers: int = 2
    uploading: int = 16
    uploaded_megabytes: int = 1000
    keep_seconds: float = 60.0
    visitors: int = 500

    @property
    def busy(self) -> str:
        """What a visitor reads who is refused."""
        return (
            "The page is busy: as many photos as it can take are waiting already, and yours was not taken. "
            "Please try again in a few seconds."
        )

    @property
    def too_large(self) -> str:
        """What a visitor reads whose photo is too large."""
        return (
            f"The photo is too large: the page takes photos of up to {self.photo_megabytes} MB. Make it smaller."
        )


class Gate:
    """ASGI middleware that refuses what is too large or too much, before the page sees it.

    Args:
        app: the page.
        limits: what is taken.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._uploading = self._waiting = 0
        self._seconds_each = 0.1
        self._promised: deque[float] = deque()  # photos that came, and are not waiting yet: until when they count
        self._uploaded: deque[tuple[float, int]] = deque()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        path = str(scope.get("path", "")).rstrip("/")
        if scope["type"] == "http" and path.endswith("/queue/data"):
            await self._wait(scope, receive, send)
        elif scope["type"] != "http" or scope.get("method") != "POST":
            await self._app(scope, receive, send)
        elif path.endswith("/upload"):
            await self._upload(scope, receive, send)
        else:
            await self._checked(scope, receive, send)

    async def _wait(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand on the request whose reply is the prediction; how long it takes shows what can be taken further."""
        self._waiting += 1
        if self._promised:
            self._promised.popleft()
        ahead, began = self._waiting, time.monotonic()
        try:
            await self._app(scope, receive, send)
            self._seconds_each += 0.2 * ((time.monotonic() - began) / ahead - self._seconds_each)
        finally:
            self._waiting -= 1

    @property
    def _full(self) -> bool:
        """Whether one more photo would have to wait too long."""
        while self._promised and self._promised[0] < time.monotonic():
            self._promised.popleft()
        there = self._uploading + len(self._promised) + self._waiting
        if self._uploading >= self._limits.uploading or there >= self._limits.waiting:
            return True
        return there >= 2 * self._limits.workers and (there + 1) * self._seconds_each > self._limits.patience

    async def _upload(self, scope: Message, receive: Receive, send: Send) -> None:
        length = next((value for name, value in scope["headers"] if name.lower() == b"content-length"), b"")
        if not length.isdigit():
            return await _refuse(send, 411, "The photo's size is not said.", plain=True)
        size, now = int(length), time.monotonic()
        if size > self._limits.photo_megabytes * _MEGABYTE + _FORM:
            await _read(receive, 5 * self._limits.photo_megabytes * _MEGABYTE)
            return await _refuse(send, 413, self._limits.too_large, plain=True)
        while self._uploaded and self._uploaded[0][0] < now - self._limits.keep_seconds:
            self._uploaded.popleft()
        kept = size + sum(one for _, one in self._uploaded)
        if self._full or kept > self._limits.uploaded_megabytes * _MEGABYTE:
            await _read(receive, size)
            return await _refuse(send, REFUSED, self._limits.busy, plain=True)
        self._uploading += 1
        self._uploaded.append((now, size))
        try:
            await self._checked(scope, receive, send)
            self._promised.append(time.monotonic() + _PROMISE)
        finally:
            self._uploading -= 1
        return None

    async def _checked(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand a request on; a full queue, and a request that Gradio fails at, get the page's own words."""
        begun = full = False

        async def sending(message: Message) -> None:
            nonlocal begun, full
            if message["type"] == "http.response.start" and message["status"] == 503:
                begun = full = True
                await _refuse(send, REFUSED, self._limits.busy)
            elif not full:
                begun = True
                await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if begun:
                raise
            await _refuse(send, 400, "This is no request that the page makes. Please load the page again.")


async def _read(receive: Receive, most: int) -> None:
    """Read and forget what is sent, up to so many bytes: who is still sending does not see a refusal."""
    while most > 0:
        message = await receive()
        most -= len(message.get("body", b""))
        if not message.get("more_body", False):
            return


async def _refuse(send: Send, status: int, text: str, *, plain: bool = False) -> None:
    """Send a refusal; of an upload's the page shows the whole text, of others the JSON's `detail`."""
    content = text.encode() if plain else json.dumps({"detail": text, "error": text}).encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8" if plain else b"application/json"),
        (b"content-length", str(len(content)).encode()),
        *([(b"retry-after", b"5")] if status == REFUSED else []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class PhotoFolder:
    """A folder of the page's own for uploaded photos; each goes after some time, the folder at the end.

    Args:
        keep_seconds: how long a photo stays after it came.
    """

    def __init__(self, keep_seconds: float) -> None:
        self.path = Path(mkdtemp(prefix="dkgzsl-page-"))
        self._keep, self._ended = keep_seconds, threading.Event()
        self._before = os.environ.get(_FOLDER)
        os.environ[_FOLDER] = str(self.path)  # Gradio reads it when the page is built
        threading.Thread(target=self._run, name="old-photos", daemon=True).start()

    def close(self) -> None:
        """Remove the folder and all in it."""
        self._ended.set()
        if self._before is None:
            os.environ.pop(_FOLDER, None)
        else:
            os.environ[_FOLDER] = self._before
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_old(self) -> None:
        """Remove what came too long ago, and folders that are empty then."""
        oldest = time.time() - self._keep
        for path in sorted(self.path.rglob("*"), reverse=True):  # what is in a folder before the folder
            with suppress(OSError):  # it has gone, or something came into it meanwhile
                if path.lstat().st_ctime < oldest:
                    path.rmdir() if path.is_dir() else path.unlink()

    def _run(self) -> None:
        while not self._ended.wait(min(5.0, self._keep / 2)):
            self.remove_old()
