"""A file server on 127.0.0.1 that misbehaves as it is set up, request by request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


@dataclass
class Request:
    path: str
    range: str | None
    if_range: str | None


@dataclass
class Files:
    """What is served; `script` is used up, one answer a request, before the honest answer takes over."""

    content: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    script: list[Answer] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Files

    def do_GET(self) -> None:
        self.files.asked.append(Request(self.path, self.headers["Range"], self.headers["If-Range"]))
        answer = self.files.script.pop(0) if self.files.script else honest
        answer(self)
        self.close_connection = True

    def head(self, status: int, *, length: int | None, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if self.files.etag:
            self.send_header("ETag", self.files.etag)
        if self.files.modified:
            self.send_header("Last-Modified", self.files.modified)
        self.send_header("Connection", "close")
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def honest(handler: Handler, cut: int | None = None) -> None:
    """What RFC 9110 asks for; `cut` bytes at most are sent, whatever was promised."""
    content, asked = handler.files.content, handler.headers["Range"]
    fits = handler.headers["If-Range"] in (None, handler.files.etag, handler.files.modified)
    if asked is None or not fits:
        handler.head(200, length=len(content))
        handler.wfile.write(content[:cut])
        return
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    if start >= len(content):
        handler.head(416, length=0, more={"Content-Range": f"bytes */{len(content)}"})
        return
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.head(206, length=len(content) - start, more={"Content-Range": span})
    handler.wfile.write(content[start:][:cut])


def breaks_off(after: int) -> Answer:
    return lambda handler: honest(handler, cut=after)


def ignores_range(after: int | None = None) -> Answer:
    def answer(handler: Handler) -> None:
        handler.head(200, length=len(handler.files.content))
        handler.wfile.write(handler.files.content[:after])

    return answer


def says(status: int, **headers: str) -> Answer:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.head(status, length=0, more=more)


def claims(length: int) -> Answer:
    """Say a length that is not the content's."""

    def answer(handler: Handler) -> None:
        handler.head(200, length=length)
        handler.wfile.write(handler.files.content[:length])

    return answer


def changes(content: bytes, etag: str) -> Answer:
    """From this request on the file is another one."""

    def answer(handler: Handler) -> None:
        handler.files.content, handler.files.etag = content, etag
        honest(handler)

    return answer


def mixes(content: bytes, etag: str) -> Answer:
    """Another file from this request on, and the server sends its rest for all that If-Range says."""

    def answer(handler: Handler) -> None:
        handler.files.content, handler.files.etag = content, etag
        del handler.headers["If-Range"]
        honest(handler)

    return answer


def without_length(handler: Handler) -> None:
    handler.head(200, length=None)
    handler.wfile.write(handler.files.content)


def chunked(stop: bool) -> Answer:
    """Chunked transfer that stops in the middle or not."""

    def answer(handler: Handler) -> None:
        half = len(handler.files.content) // 2
        handler.head(200, length=None, more={"Transfer-Encoding": "chunked"})
        for part in (handler.files.content[:half], handler.files.content[half:]):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if stop:
                return
        handler.wfile.write(b"0\r\n\r\n")

    return answer


def web_page(handler: Handler) -> None:
    page = b"<html>please log in</html>"
    handler.head(200, length=len(page), more={"Content-Type": "text/html; charset=utf-8"})
    handler.wfile.write(page)


def silence(seconds: float) -> Answer:
    def answer(handler: Handler) -> None:
        handler.head(200, length=len(handler.files.content))
        handler.wfile.write(handler.files.content[:10])
        handler.wfile.flush()
        threading.Event().wait(seconds)

    return answer


@contextmanager
def serve(content: bytes, name: str = "file.bin") -> Iterator[Files]:
    """Serve `content` at every path of a fresh port."""
    files = Files(content)
    handler = type("Bound", (Handler,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    files.url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
