"""The page over HTTP, by the standard library: it loads nothing from other machines and sends nothing to them."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from io import BufferedReader
from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

from dkgzsl.app.actions import Page, checked_values, in_page_words, numbers_of
from dkgzsl.app.limits import MEGABYTE, Limits, Refusal
from dkgzsl.app.visitors import Visitor
from dkgzsl.errors import DkgzslError

TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS: Final = (
    ("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     "img-src 'self' data: blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)  # fmt: skip
_TOKEN: Final = re.compile(r"[0-9a-z]{8,40}")
_UNKNOWN: Final = "This is no request that the page makes. Please load the page again."
_PART: Final = 65536


class Server(ThreadingHTTPServer):
    """Serves a `Page`; a thread for each connection, up to a number.

    Args:
        address: host and port.
        page: what is served.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], page: Page) -> None:
        self.page = page
        self.uploading = threading.Semaphore(page.limits.uploading)
        self.drawing = threading.Semaphore(page.limits.workers)
        self._connections = threading.Semaphore(page.limits.connections)
        self.loopback = _is_loopback(address[0])
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a thread, or close it where too many are open."""
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line on the terminal; a visitor who went away is none."""
        del request, client_address
        error = sys.exception()
        if not isinstance(error, OSError):
            complain(error)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dkgzsl", ""
    timeout = 20  # seconds without a byte
    server: Server
    _read_whole = False

    def do_GET(self) -> None:
        """A file of the page, a picture, or what the page shows at first."""
        self._guarded(self._get)

    def do_POST(self) -> None:
        """A photo or a request; the reply is JSON."""
        self._guarded(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""

    @property
    def _limits(self) -> Limits:
        return self.server.page.limits

    def _guarded(self, serve: Callable[[str, Mapping[str, str]], None]) -> None:
        """Serve, and say in the page's words what went wrong."""
        self._read_whole = self.command == "GET"
        asked = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(asked.query).items()}
        try:
            self._check_origin()
            serve(unquote(asked.path), query)
        except Refusal as refusal:
            self._refuse(refusal)
        except DkgzslError as error:
            self._refuse(in_page_words(error))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            complain(error)
            self._refuse(Refusal(_UNKNOWN, status=400))
        except OSError:
            self.close_connection = True  # the visitor has gone
        except Exception as error:
            complain(error)
            self._refuse(Refusal("Something went wrong here. The terminal of the page says what.", status=500))

    def _check_origin(self) -> None:
        """Pages of other sites may neither read this one under a name of theirs, nor send it requests."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        name = urlsplit(f"//{host}").hostname or ""
        if self.server.loopback and not (name == "localhost" or _is_loopback(name)):
            raise Refusal("This page is served under another address.", status=403)
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refusal("This page takes no requests from other pages.", status=403)

    def _get(self, path: str, query: Mapping[str, str]) -> None:
        page = self.server.page
        if path == "/api/page":
            return self._json(page.opened(self._visitor()))
        if path == "/api/pictures":
            return self._json(page.shown())
        if path in ("/api/picture", "/api/example"):
            return self._picture(path, query)
        name = "page.html" if path == "/" else path.removeprefix("/")
        place = files("dkgzsl.app") / "page" / name
        suffix = name.rpartition(".")[2]
        if not re.fullmatch(r"[a-z_]+\.(html|css|js|svg)", name) or not place.is_file():
            return self._send(404, b"There is no such page.", "text/plain; charset=utf-8")
        return self._send(200, place.read_bytes(), TYPES[suffix])

    def _picture(self, path: str, query: Mapping[str, str]) -> None:
        pictures = self.server.page.pictures
        pictures.wait(30.0)
        with self.server.drawing:
            if path == "/api/picture":
                found = pictures.of_class(query.get("class", ""))
            else:
                found = pictures.example(int(query.get("number", "0")))
        if found is None:
            return self._send(404, b"There is no such picture.", "text/plain; charset=utf-8")
        return self._send(200, *found, kept=True)

    def _post(self, path: str, query: Mapping[str, str]) -> None:
        page, visitor = self.server.page, self._visitor()
        if path in ("/api/recognise", "/api/photo"):
            photo = self._photo()
            with page.line.turn():
                if path == "/api/photo":
                    return self._json(page.keep_photo(visitor, photo))
                return self._json(page.recognise(visitor, photo, float(query.get("bias", "0"))))
        given = self._given()
        with page.line.turn(counts=path == "/api/example"):
            return self._json(self._done(path, visitor, given))

    def _done(self, path: str, visitor: Visitor, given: Mapping[str, Any]) -> dict[str, Any]:
        page = self.server.page
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
        raise Refusal(_UNKNOWN, status=404)

    def _visitor(self) -> Visitor:
        token = self.headers.get("X-Visitor", "")
        if not _TOKEN.fullmatch(token):
            raise Refusal(_UNKNOWN, status=400)
        return self.server.page.visitors.of(token)

    def _photo(self) -> bytes:
        """The photo of a request, of which only a few are received at once."""
        if not self.server.uploading.acquire(blocking=False):
            self._discard()
            raise self.server.page.line.busy()
        try:
            return self._body(self._limits.photo_megabytes, self._limits.too_large)
        finally:
            self.server.uploading.release()

    def _given(self) -> Mapping[str, Any]:
        too_large = Refusal("The request is too large. Please load the page again.", status=413)
        given = json.loads(self._body(self._limits.request_megabytes, too_large) or b"{}")
        if not isinstance(given, dict):
            raise Refusal(_UNKNOWN, status=400)
        return given

    def _length(self) -> int:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise Refusal("The size of the request is missing.", status=411)
        return int(length)

    def _body(self, megabytes: int, too_large: Refusal) -> bytes:
        length = self._length()
        if length > megabytes * MEGABYTE:
            self._discard()
            raise too_large
        return self._read(length, keep=True)

    def _discard(self) -> None:
        """Read and forget what is sent, up to some size: who is still sending does not see a refusal."""
        length = self._length()
        most = 5 * self._limits.photo_megabytes * MEGABYTE
        self.close_connection = length > most
        self._read(min(length, most), keep=False)

    def _read(self, length: int, *, keep: bool) -> bytes:
        body, left, ends = bytearray(), length, time.monotonic() + self._limits.sending
        while left:
            part = cast(BufferedReader, self.rfile).read1(min(left, _PART))
            if not part or time.monotonic() > ends:
                self.close_connection = True
                raise Refusal("The request did not come in time. Please try again.", status=408)
            left -= len(part)
            if keep:
                body += part
        self._read_whole = True
        return bytes(body)

    def _refuse(self, refusal: Refusal) -> None:
        if not self._read_whole:
            self.close_connection = True  # what is still to come would be taken for the next request
        content = {"error": refusal.text, "field": refusal.field, "later": refusal.later}
        self._json(content, status=refusal.status, later=refusal.later)

    def _json(self, content: Mapping[str, Any], *, status: int = 200, later: int | None = None) -> None:
        body = json.dumps(content, ensure_ascii=False).encode()
        self._send(status, body, "application/json", later=later)

    def _send(self, status: int, body: bytes, kind: str, *, kept: bool = False, later: int | None = None) -> None:
        with suppress(OSError):  # the visitor has gone
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "private, max-age=600" if kept else "no-store")
            for name, value in _HEADERS:
                self.send_header(name, value)
            if later is not None:
                self.send_header("Retry-After", str(later))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)


def _described(given: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a class, each part of its kind."""
    texts = {key: cast(str, given[key]) for key in ("like", "text") if given.get(key) is not None}
    if not all(isinstance(one, str) for one in texts.values()):
        raise Refusal(_UNKNOWN, status=400)
    photos, values = numbers_of(given.get("photos") or []), checked_values(given.get("values"))
    return {"name": str(given.get("name", "")), "values": values, "photos": photos, **texts}


def _is_loopback(host: str) -> bool:
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
