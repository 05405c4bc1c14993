"""The page over HTTP, by the standard library: it loads nothing from other machines and sends nothing to them."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any, Final, cast
from urllib.parse import urlsplit

from dkgzsl.app.actions import Page, checked_values, in_page_words, numbers_of
from dkgzsl.app.http import LONGEST_HEAD, UNKNOWN, Reply, Request, next_request, send
from dkgzsl.app.limits import Refusal
from dkgzsl.app.visitors import Visitor
from dkgzsl.errors import DkgzslError

TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_TOKEN: Final = re.compile(r"[0-9a-z]{8,40}")
_BACKLOG: Final = 256
_PICTURES: Final = 4
"""Threads that read pictures, and wait for them while the run's data are opened."""


class Server:
    """Serves a `Page`: one thread talks to all visitors, a few others predict.

    A thread for each visitor would be simpler. With 200 of them on a busy machine each waited for the
    interpreter's lock for seconds, before the page could even refuse a request.

    Args:
        address: host and port; 0 takes a free one.
        page: what is served.

    Raises:
        OSError: the port is taken, or the address does not belong to this machine.
    """

    def __init__(self, address: tuple[str, int], page: Page) -> None:
        self.page = page
        self.loopback = is_loopback(address[0])
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.create_server(address, family=family, backlog=_BACKLOG)
        self.server_address = self._socket.getsockname()
        self._workers = ThreadPoolExecutor(page.limits.workers, "predicts")
        self._readers = ThreadPoolExecutor(_PICTURES, "pictures")
        self._open = self._uploading = 0
        self._files = _files()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="page", daemon=True)

    def start(self) -> None:
        """Serve, in the background."""
        self._thread.start()
        self._begun.wait()

    def close(self) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(5)
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        listening = await asyncio.start_server(self._connection, sock=self._socket, limit=LONGEST_HEAD)
        self._begun.set()
        await self._end.wait()
        listening.close()  # the connections end with the loop

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, or close it where too many are open."""
        self._open += 1
        try:
            while self._open <= self.page.limits.connections:
                close = await self._served(reader, writer)
                if close:
                    break
        except (OSError, asyncio.CancelledError):
            pass  # the visitor has gone; or the page ends, where asyncio of Python 3.11 would print a traceback
        finally:
            self._open -= 1
            writer.close()

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve the next request; returns whether the connection ends."""
        try:
            request = await next_request(reader)
        except Refusal as refusal:
            await send(writer, _refused(refusal), close=True)
            return True
        if request is None:
            return True
        reply = await self._reply(request)
        close = not request.whole or request.headers.get("Connection", "").lower() == "close"
        await send(writer, reply, close=close)
        return close

    async def _reply(self, request: Request) -> Reply:
        """The reply, or in the page's words what is wrong."""
        try:
            self._check_origin(request)
            return await (self._get(request) if request.method == "GET" else self._post(request))
        except Refusal as refusal:
            return _refused(refusal)
        except DkgzslError as error:
            return _refused(in_page_words(error))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            complain(error)
            return _refused(Refusal(UNKNOWN, status=400))
        except ConnectionError:
            raise
        except Exception as error:
            complain(error)
            return _refused(Refusal("Something went wrong here. The page's terminal says what.", status=500))

    def _check_origin(self, request: Request) -> None:
        """Pages of other sites may neither read this one under a name of theirs, nor send it requests."""
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        name = urlsplit(f"//{host}").hostname or ""
        if self.loopback and not is_loopback(name):
            raise Refusal("This page is served under another address.", status=403)
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refusal("This page takes no requests from other pages.", status=403)

    async def _get(self, request: Request) -> Reply:
        page, path = self.page, request.path
        if path == "/api/page":
            visitor = self._visitor(request)
            if visitor.session is page.visitors.first:
                return Reply(200, page.first, "application/json", _kept(False))
            return await self._worked(page.opened, visitor)
        if path == "/api/pictures":
            return _json(await self._in(self._readers, page.shown))
        if path in ("/api/picture", "/api/example"):
            key = "class" if path == "/api/picture" else "number"
            given = request.query.get(key, "0")
            find = page.pictures.of_class if key == "class" else lambda text: page.pictures.example(int(text))
            found = await self._in(self._readers, page.picture, find, given)
            if found is not None:
                content, kind = found
                return Reply(200, content, kind, _kept(True))
        elif path in self._files:
            content, kind = self._files[path]
            return Reply(200, content, kind, _kept(False))
        return Reply(404, b"There is no such page.", "text/plain; charset=utf-8", _kept(False))

    async def _post(self, request: Request) -> Reply:
        page, visitor = self.page, self._visitor(request)
        if request.path == "/api/recognise":
            bias = float(request.query.get("bias", "0"))
            return await self._worked(page.recognise, visitor, await self._photo(request), bias, counts=True)
        if request.path == "/api/photo":
            return await self._worked(page.keep_photo, visitor, await self._photo(request), counts=True)
        too_large = Refusal("The request is too large. Please load the page again.", status=413)
        limits = page.limits
        given = json.loads(
            await request.body(limits.request_megabytes, too_large, seconds=limits.sending) or b"{}"
        )
        if not isinstance(given, dict):
            raise Refusal(UNKNOWN, status=400)
        return await self._worked(_done, page, request.path, visitor, given, counts=request.path == "/api/example")

    async def _worked(self, work: Callable[..., dict[str, Any]], *given: Any, counts: bool = False) -> Reply:
        """What a worker made, after a wait in the line."""
        async with self.page.line.turn(counts=counts):
            return _json(await self._in(self._workers, work, *given))

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[..., Any], *given: Any) -> Any:
        return await self._loop.run_in_executor(pool, work, *given)

    def _visitor(self, request: Request) -> Visitor:
        token = request.headers.get("X-Visitor", "")
        if not _TOKEN.fullmatch(token):
            raise Refusal(UNKNOWN, status=400)
        return self.page.visitors.of(token)

    async def _photo(self, request: Request) -> bytes:
        """The photo of a request; what cannot be served in time is not received."""
        limits = self.page.limits
        if self._uploading >= limits.uploading or self.page.line.full:
            await request.discard(limits.photo_megabytes, seconds=limits.sending)
            raise self.page.line.busy()
        self._uploading += 1
        try:
            return await request.body(limits.photo_megabytes, limits.too_large, seconds=limits.sending)
        finally:
            self._uploading -= 1


def _files() -> dict[str, tuple[bytes, str]]:
    """The page's files: content and media type by address."""
    found: dict[str, tuple[bytes, str]] = {}
    for place in (files("dkgzsl.app") / "page").iterdir():
        kind = TYPES.get(place.name.rpartition(".")[2])
        if kind is not None:
            found[f"/{place.name}"] = (place.read_bytes(), kind)
    return {**found, "/": found["/page.html"]}


def _done(page: Page, path: str, visitor: Visitor, given: Mapping[str, Any]) -> dict[str, Any]:
    if path == "/api/example":
        return page.recognise_example(visitor, int(given["number"]), float(given.get("bias", 0)))
    if path == "/api/class":
        return page.class_of(visitor, str(given["name"]))
    if path == "/api/mentioned":
        return page.mentioned(visitor, str(given["text"]))
    if path == "/api/alike":
        return page.alike(visitor, numbers_of(given["photos"]))
    if path == "/api/drop":
        return page.drop_photos(visitor, numbers_of(given["photos"]))
    if path == "/api/adapt":
        return page.adapt(visitor, numbers_of(given["photos"]))
    if path == "/api/save":
        return page.save(visitor)
    if path == "/api/add":
        return page.add_class(visitor, _described(given))
    raise Refusal(UNKNOWN, status=404)


def _kept(keep: bool) -> dict[str, str]:
    return {**_HEADERS, "Cache-Control": "private, max-age=600" if keep else "no-store"}


def _json(content: Mapping[str, Any], *, status: int = 200, later: int | None = None) -> Reply:
    more = {} if later is None else {"Retry-After": str(later)}
    body = json.dumps(content, ensure_ascii=False).encode()
    return Reply(status, body, "application/json", {**_kept(False), **more})


def _refused(refusal: Refusal) -> Reply:
    content = {"error": refusal.text, "field": refusal.field, "later": refusal.later}
    return _json(content, status=refusal.status, later=refusal.later)


def _described(given: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a class, each part of its kind."""
    texts = {key: cast(str, given[key]) for key in ("like", "text") if given.get(key) is not None}
    if not all(isinstance(one, str) for one in texts.values()):
        raise Refusal(UNKNOWN, status=400)
    photos, values = numbers_of(given.get("photos") or []), checked_values(given.get("values"))
    return {"name": str(given.get("name", "")), "values": values, "photos": photos, **texts}


def is_loopback(host: str) -> bool:
    """Whether an address or a name is this machine's own, for itself alone."""
    if host in ("localhost", ""):
        return host == "localhost"
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def complain(error: BaseException | None) -> None:
    """One line on the terminal for an error, instead of a traceback: visitors could fill it with those."""
    if error is None:
        return
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.rpartition('/')[2]}, line {frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())[:200]
    print(f"dkgzsl app: a request failed: {type(error).__name__}: {text}{place}", file=sys.stderr, flush=True)
