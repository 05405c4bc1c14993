"""What the page takes at once: sizes, numbers, waiting times, and polite refusals."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_MEGABYTE: Final = 1_000_000
_FORM: Final = 20_000
"""Bytes of an upload besides the photo: names and boundaries of the form."""
_LARGEST_REQUEST: Final = 1_000_000
"""Bytes of a request for a prediction: a name, a description, the values of the sliders."""
_KIND: Final = re.compile(rb'"msg":"(\w+)"')
_EVENT: Final = re.compile(rb'"event_id":"(\w+)"')
_HEAD: Final = 10_000
"""Bytes of an event within which its kind is looked for: a prediction's picture is not searched."""
_RECENT, _RATE, _SOON, _LATE = 10.0, 8.0, 5.0, 20.0
"""Refusals of the last 10 s, divided by 8: seconds until a refused visitor may come back; from 5 to 20."""
_PROMISE: Final = 10.0
"""Seconds for which a photo that came counts as waiting, until its visitor asks for the prediction."""
_UNKNOWN: Final = "This is no request that the page makes. Please load the page again."
REFUSED: Final = 429
"""Status of a refusal; the page shows the text that comes with it (of a 503 it shows words of its own)."""


@dataclass(frozen=True)
class Limits:
    """What the page takes at once.

    Attributes:
        photo_megabytes: the largest photo.
        waiting: requests that wait for a worker; further ones are refused.
        patience: seconds that a request may have to wait, as the last ones show; beyond, further ones are refused.
        longest: seconds that a request may wait; one that has waited longer is refused, whatever was expected.
        workers: requests that are worked on at once.
        uploading: photos that are received at once.
        uploaded_megabytes: photos that are kept at once.
        keep_seconds: how long an uploaded photo is kept. It is read within seconds; two visitors may share one.
        visitors: whose last photo and added classes are remembered; those who were there longest ago go first.
        remembered: of them those who are remembered however long they do nothing; further ones are forgotten
            after `keep_seconds`, except where they have classes that are not saved.
    """

    photo_megabytes: int = 20
    waiting: int = 16
    patience: float = 2.0
    longest: float = 5.0
    workers: int = 2
    uploading: int = 8
    uploaded_megabytes: int = 1000
    keep_seconds: float = 60.0
    visitors: int = 500
    remembered: int = 50

    def busy(self, seconds: int) -> str:
        """What a visitor reads who is refused, and may come back after so many seconds."""
        return (
            "The page is busy: as many photos as it can take are waiting already, and yours was not taken. "
            f"Please try again in {seconds} seconds."
        )

    @property
    def overdue(self) -> str:
        """What a visitor reads whose photo has waited too long."""
        return (
            f"The page is busy: your photo has waited {self.longest:.0f} seconds, and its turn did not come. "
            "Please try again in a few seconds."
        )

    @property
    def gone(self) -> str:
        """What a visitor reads whose photo is not among the uploaded ones."""
        return (
            f"The photo is not here: the page keeps photos for {self.keep_seconds:.0f} seconds, and takes none "
            "that were not uploaded. Please choose it again."
        )

    @property
    def too_large(self) -> str:
        """What a visitor reads whose photo is too large."""
        return (
            f"The photo is too large: the page takes photos of up to {self.photo_megabytes} MB. Make it smaller."
        )


class Gate:
    """ASGI middleware that refuses what is too large, too much or too late, before the page sees it.

    Args:
        app: the page.
        limits: what is taken.
        folder: where uploaded photos are; requests may name no other files. None: nothing is compared.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], limits: Limits, folder: Path | None = None) -> None:
        self._app, self._limits = app, limits
        self._folder = None if folder is None else folder.resolve()
        self._uploading = self._waiting = 0
        self._seconds_each = 0.1
        self._promised: deque[float] = deque()  # photos that came, and are not waiting yet: until when they count
        self._uploaded: deque[tuple[float, int]] = deque()
        self._refusals: deque[float] = deque()  # when they were, the last ten seconds
        self._opening = asyncio.Semaphore(limits.workers)  # the page's description takes Gradio 30 ms of a thread

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        path = str(scope.get("path", "")).rstrip("/")
        if scope["type"] == "http" and path.endswith("/queue/data"):
            await self._wait(scope, receive, send)
        elif scope["type"] == "http" and path in ("", "/config"):
            async with self._opening:
                await self._app(scope, receive, send)
        elif scope["type"] != "http" or scope.get("method") != "POST":
            await self._app(scope, receive, send)
        elif path.endswith("/upload"):
            await self._upload(scope, receive, send)
        elif path.endswith("/queue/join"):
            await self._join(scope, receive, send)
        else:
            await self._checked(scope, receive, send)

    async def _join(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand on a request for a prediction, unless it names a file that was not uploaded."""
        body = await _body(receive, _LARGEST_REQUEST)
        if body is None:
            return await _refuse(send, 413, "The request is too large. Please load the page again.")
        if self._folder is not None and not _only_uploaded(body, self._folder):
            return await _refuse(send, 400, self._limits.gone)
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self._checked(scope, again, send)

    async def _wait(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand on the request whose reply is the prediction; how long it takes shows what can be taken further."""
        self._waiting += 1
        if self._promised:
            self._promised.popleft()
        ahead, began = self._waiting, time.monotonic()
        try:
            reply = Reply(send, self._limits.overdue)
            await reply.within(self._limits.longest, self._app(scope, receive, reply.send))
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

    async def _busy(self, send: Send, *, plain: bool = False) -> None:
        """Refuse; the more visitors are refused, the later they may come back: refusals take time, too."""
        now = time.monotonic()
        self._refusals.append(now)
        while self._refusals[0] < now - _RECENT:
            self._refusals.popleft()
        seconds = round(min(max(_SOON, len(self._refusals) / _RATE), _LATE) * random.uniform(1.0, 1.2))
        await _refuse(send, REFUSED, self._limits.busy(seconds), plain=plain, later=seconds)

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
            return await self._busy(send, plain=True)
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
                await self._busy(send)
            elif not full:
                begun = True
                await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if begun:
                raise
            await _refuse(send, 400, _UNKNOWN)


class Reply:
    """The reply to a visitor who waits: a stream of events, which ends in time, and without a traceback.

    Args:
        send: sends to the visitor.
        overdue: what a visitor reads whose request did not begin in time.
    """

    def __init__(self, send: Send, overdue: str) -> None:
        self._send, self._overdue = send, overdue
        self._begun = self._ended = self._late = False
        self._waiting: dict[bytes, None] = {}  # requests of this visitor that have not begun

    async def send(self, message: Message) -> None:
        """Hand on what the page sends, and note which requests wait."""
        if self._late:
            return
        if message["type"] == "http.response.start":
            self._begun = True
        else:
            self._note(message.get("body", b""))
            self._ended = not message.get("more_body", False)
        await self._send(message)

    def _note(self, events: bytes) -> None:
        for event in events.split(b"\n\n"):
            kind, name = _KIND.search(event[:_HEAD]), _EVENT.search(event)
            if kind and name and kind[1] == b"estimation":
                self._waiting[name[1]] = None
            elif kind and name:
                self._waiting.pop(name[1], None)

    async def within(self, seconds: float, replying: Awaitable[None]) -> None:
        """Wait for the reply; refuse what has not begun after some seconds."""
        task = asyncio.ensure_future(replying)
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
            if not done and (self._waiting or not self._begun):
                self._late = True
                task.cancel()  # Gradio takes the visitor's requests out of its queue
                await self._refuse()
            await task
        except asyncio.CancelledError:
            if not task.done():  # the server ends, or the visitor has gone
                task.cancel()
                raise
        except Exception:  # a visitor whom the page does not know; the stream has said so
            if not self._begun:
                await _refuse(
                    self._send, 400, "This is no request that the page makes. Please load the page again."
                )
            elif not self._ended and not self._late:
                await self._send({"type": "http.response.body", "body": b""})

    async def _refuse(self) -> None:
        if not self._begun:
            return await _refuse(self._send, REFUSED, self._overdue)
        output = {"error": self._overdue, "title": "Busy", "visible": True, "duration": 10}
        refusals = [
            {"msg": "process_completed", "event_id": name.decode(), "output": output, "success": False,
             "title": "Busy"}
            for name in self._waiting
        ]  # fmt: skip
        events = "".join(f"data: {json.dumps(one)}\n\n" for one in [*refusals, {"msg": "close_stream"}])
        return await self._send({"type": "http.response.body", "body": events.encode()})


def _only_uploaded(body: bytes, folder: Path) -> bool:
    """Whether every file that a request names is one of the folder, and there."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return True  # the page says itself what is wrong with it
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            path = one.get("path")
            if isinstance(path, str) and not _is_in(Path(path), folder):
                return False
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return True


def _is_in(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder) and path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a circle of links
        return False


async def _body(receive: Receive, most: int) -> bytes | None:
    """The whole body of a request; None where it is larger than so many bytes, or does not come whole."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > most:
            await _read(receive, 50 * most) if message.get("more_body", False) else None
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _read(receive: Receive, most: int) -> None:
    """Read and forget what is sent, up to so many bytes: who is still sending does not see a refusal."""
    while most > 0:
        message = await receive()
        most -= len(message.get("body", b""))
        if not message.get("more_body", False):
            return


async def _refuse(send: Send, status: int, text: str, *, plain: bool = False, later: int = 5) -> None:
    """Send a refusal; of an upload's the page shows the whole text, of others the JSON's `detail`."""
    content = text.encode() if plain else json.dumps({"detail": text, "error": text}).encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8" if plain else b"application/json"),
        (b"content-length", str(len(content)).encode()),
        *([(b"retry-after", str(later).encode())] if status == REFUSED else []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
