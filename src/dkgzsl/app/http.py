"""The little of HTTP/1.1 that the page needs, over asyncio's streams: requests of known length, whole replies."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from dkgzsl.app.limits import MEGABYTE, Refusal

LONGEST_HEAD: Final = 65536
"""Bytes of a request before its body."""
_PART: Final = 65536
_IDLE: Final = 20.0
"""Seconds for which a connection may wait for its next request, and a reply for its reader."""
UNKNOWN: Final = "This is no request that the page makes. Please load the page again."


@dataclass
class Request:
    """A request, its body not read yet.

    Attributes:
        method: GET or POST.
        path: without the query.
        query: the first value of each name.
        headers: of the request.
        reader: where the body comes from.
        whole: whether nothing of it is still to come.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    reader: asyncio.StreamReader
    whole: bool = False

    @property
    def length(self) -> int:
        """Bytes of the body.

        Raises:
            Refusal: it is not said.
        """
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or self.headers.get("Transfer-Encoding"):
            raise Refusal("The size of the request is missing.", status=411)
        return int(length)

    async def body(self, megabytes: int, too_large: Refusal, *, seconds: float) -> bytes:
        """The body, where it is not too large and comes in time.

        Raises:
            Refusal: otherwise.
        """
        if self.length > megabytes * MEGABYTE:
            await self.discard(5 * megabytes, seconds=seconds)
            raise too_large
        parts: list[bytes] = []
        await self._read(self.length, parts, seconds)
        return b"".join(parts)

    async def discard(self, megabytes: int, *, seconds: float) -> None:
        """Read and forget the body, up to some size: who is still sending does not see a refusal."""
        await self._read(min(self.length, megabytes * MEGABYTE), None, seconds)

    async def _read(self, length: int, parts: list[bytes] | None, seconds: float) -> None:
        left = length
        try:
            async with asyncio.timeout(seconds):
                while left:
                    part = await self.reader.read(min(left, _PART))
                    if not part:
                        raise ConnectionError("the visitor has gone")
                    left -= len(part)
                    if parts is not None:
                        parts.append(part)
        except TimeoutError as error:
            raise Refusal("The request did not come in time. Please try again.", status=408) from error
        self.whole = length == self.length


@dataclass(frozen=True)
class Reply:
    """A whole reply.

    Attributes:
        status: of HTTP.
        body: its content.
        kind: its media type.
        headers: further ones.
    """

    status: int
    body: bytes
    kind: str
    headers: Mapping[str, str] = field(default_factory=dict)


async def next_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; None where the visitor has gone, or does nothing for some time.

    Raises:
        Refusal: it is no request, or none that the page takes.
    """
    try:
        async with asyncio.timeout(_IDLE):
            head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, TimeoutError, OSError):
        return None
    except asyncio.LimitOverrunError as error:
        raise Refusal(UNKNOWN, status=431) from error
    line, _, rest = head.partition(b"\r\n")
    words = line.decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Refusal(UNKNOWN, status=400)
    method, target, _ = words
    if method not in ("GET", "POST"):
        raise Refusal(UNKNOWN, status=405)
    try:
        headers = parse_headers(io.BytesIO(rest))
        asked = urlsplit(target)
    except (HTTPException, ValueError) as error:
        raise Refusal(UNKNOWN, status=400) from error
    query = {key: values[0] for key, values in parse_qs(asked.query).items()}
    return Request(method, unquote(asked.path), query, headers, reader, whole=method == "GET")


async def send(writer: asyncio.StreamWriter, reply: Reply, *, close: bool) -> None:
    """Send a reply; nothing happens where the visitor has gone."""
    headers = {
        "Content-Type": reply.kind,
        "Content-Length": str(len(reply.body)),
        **reply.headers,
        "Connection": "close" if close else "keep-alive",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    first = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n{head}\r\n".encode("latin-1")
    with suppress(OSError, TimeoutError):
        writer.write(first + reply.body)
        async with asyncio.timeout(_IDLE):
            await writer.drain()
