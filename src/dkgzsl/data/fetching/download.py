"""One file by HTTP: resumed where it broke off, whole and checked under its final name or not there at all.

By Python's urllib: pooch starts over after a break, and requests would be a further dependency that does not do
the hard part (validators, ranges, wrong lengths).
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import Message
from functools import cache
from pathlib import Path
from typing import Any, Final, get_type_hints
from urllib.parse import urlsplit

from dkgzsl.data.fetching.archives import CHUNK, Progress, check_room, disk_error, silent
from dkgzsl.errors import DataError
from dkgzsl.files import sha256_of
from dkgzsl.reading import read_json


@dataclass(frozen=True)
class State:
    """What the server said of the file that was begun."""

    url: str
    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range takes: a strong ETag, or else the date; without either, parts may be of two files."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


@cache
def _schema() -> Any:
    """What `NAME.part.json` says, and nothing else; made when first needed, since pydantic takes a while."""
    from pydantic import ConfigDict, create_model

    names: dict[str, Any] = {name: (kind, None) for name, kind in get_type_hints(State).items()}
    return create_model(
        "Begun", __config__=ConfigDict(strict=True, extra="forbid"), **{**names, "url": (str, ...)}
    )


class Partial:
    """A file begun: `NAME.part`, and in `NAME.part.json` what says whether the rest still fits."""

    def __init__(self, path: Path) -> None:
        self.file = path.with_name(path.name + ".part")
        self._notes = path.with_name(path.name + ".part.json")

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self.file.stat().st_size if self.file.exists() else 0

    def state(self, url: str) -> State | None:
        """What is known of the part; None where it cannot be continued from `url`."""
        try:
            state = State(**read_json(self._notes, _schema(), "what was begun is not known"))
        except DataError:
            return None
        fits = state.url == url and state.validator is not None and 0 < self.size <= (state.total or self.size)
        return state if fits else None

    def resumable(self, url: str) -> int:
        """Bytes that need not be fetched again from `url`."""
        return self.size if self.state(url) else 0

    def begin(self, state: State) -> None:
        """Start over."""
        self.discard()
        self._notes.write_text(json.dumps(asdict(state)), encoding="utf-8")

    def discard(self) -> None:
        """Remove what is here."""
        self.file.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        """Give it its final name."""
        self.file.replace(path)
        self._notes.unlink(missing_ok=True)


LONGEST_PAUSE: Final = 60.0
TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP codes after which another try makes sense."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to come back.

    Attributes:
        timeout: seconds without a byte before a connection is given up.
        tries: tries in a row that bring no new byte before we give up.
        pause: seconds before the second try; doubles from try to try, up to a minute.
    """

    timeout: float = 30.0
    tries: int = 5
    pause: float = 1.0


@dataclass(frozen=True)
class Downloaded:
    """What came.

    Attributes:
        size: bytes.
        sha256: in hexadecimal digits.
        etag: the server's name for this version of the file.
        resumed: bytes that an earlier command had left.
    """

    size: int
    sha256: str
    etag: str | None
    resumed: int


class _BrokenOffError(Exception):
    """A passing failure: try again after `pause` seconds (None: as usual)."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = pause


class _TooLargeError(DataError):
    """Not the file that was asked for: no part of it is worth keeping."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, but never from https down to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Refuse a redirect that gives up encryption."""
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after != "https" and (before, after) != ("http", "http"):
            raise DataError(f"the server redirects from {before} to {newurl}", where=req.full_url, fix=_ELSEWHERE)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_ELSEWHERE: Final = "name another address, or an archive on disk, with --source"


def download(
    url: str,
    path: Path,
    *,
    limit: int,
    room: int = 0,
    sha256: str | None = None,
    sha256_from: str = "known",
    patience: Patience | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Downloaded:
    """Fetch `url` to `path`, going on where an earlier try or an earlier command broke off.

    A part is continued only if the server says by ETag or date that the file is still the same (RFC 9110,
    sections 13.1.5 and 14.2); else it is fetched anew.

    Args:
        url: http or https.
        path: the final name, in an existing folder; appears whole or not at all.
        limit: most bytes to accept.
        room: bytes that must be free on the disk beyond the file itself.
        sha256: what the file must have; None where it is not known.
        sha256_from: where that is known from, for the message.
        patience: time-out and tries.
        progress: called with the bytes here and the bytes in all.
        log: called with a sentence at each new try.

    Raises:
        DataError: offline, refused, missing (404), broken off too often, another sha256, disk full, folder not
            writable. The part is kept where going on later makes sense.
    """
    patience = patience or Patience()
    part = Partial(path)
    try:
        resumed = part.resumable(url)

        def attempt() -> State:
            return _attempt(url, part, limit, room, patience.timeout, progress or silent)

        state = _attempts(attempt, url, part, patience, log)
        got = sha256_of(part.file)
        size = part.size
        if sha256 is not None and got != sha256:
            part.discard()
            raise DataError(
                f"the file is another one than expected: sha256 {got}, {sha256_from}: {sha256}",
                where=url,
                fix=f"try again; if it stays so, the file was changed at its source: {_ELSEWHERE}",
            )
        part.finish(path)
    except _TooLargeError:
        part.discard()
        raise
    except OSError as error:
        raise disk_error(error, path) from error
    return Downloaded(size=size, sha256=got, etag=state.etag, resumed=resumed)


def _attempts(
    attempt: Callable[[], State], url: str, part: Partial, patience: Patience, log: Callable[[str], None] | None
) -> State:
    """Try until the file is whole, or until too many tries in a row have brought no new byte."""
    furthest, failures = part.resumable(url), 0
    while True:
        try:
            return attempt()
        except _BrokenOffError as broken:
            failures = 0 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures >= patience.tries:
                kept = part.resumable(url)
                again = (
                    f"{kept} bytes are kept: run the same command again to go on" if kept else "try again later"
                )
                raise DataError(
                    f"the download failed {failures} times in a row: {broken}",
                    where=url,
                    fix=f"{again}, or {_ELSEWHERE}",
                ) from broken
            pause = min(broken.pause or patience.pause * 2 ** max(failures - 1, 0), LONGEST_PAUSE)
            if log:
                log(f"{broken}; next try in {pause:.0f} s")
            time.sleep(pause)


def _attempt(url: str, part: Partial, limit: int, room: int, timeout: float, progress: Progress) -> State:
    """Ask once for what is missing and write it down; returns when the file is whole."""
    begun = part.state(url)
    start = part.size if begun else 0
    headers = {"User-Agent": "dkgzsl", "Accept": "*/*", "Accept-Encoding": "identity"}
    if begun:
        headers |= {"Range": f"bytes={start}-", "If-Range": begun.validator or ""}
    try:
        response = _open(urllib.request.Request(url, headers=headers), timeout, first=start == 0)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error, url, part, begun, start)
    with response:
        if "text/html" in response.headers.get("Content-Type", ""):
            raise DataError("the server sent a web page, not a file", where=response.url, fix=_ELSEWHERE)
        length = _number(response.headers.get("Content-Length"))
        if response.status == 206:
            first, total = _content_range(response.headers)
            if begun is None or first != start or _differs(begun, response.headers, total):
                part.discard()
                raise _BrokenOffError("the server went on with another file than the one begun: starting over")
            state, total = begun, begun.total or total
        else:  # the whole file: a first try, a changed file, or a server without ranges
            start, total = 0, length
            state = State(url, response.headers.get("ETag"), response.headers.get("Last-Modified"), total)
            part.begin(state)
        _check_size(total, limit, url)
        check_room(part.file.parent, (total or 0) - start + room)
        _copy(response, part, start, total, limit, url, progress)
    return state


def _copy(
    response: http.client.HTTPResponse,
    part: Partial,
    size: int,
    total: int | None,
    limit: int,
    url: str,
    progress: Progress,
) -> None:
    progress(size, total)
    with part.file.open("ab") as file:
        while chunk := _read(response):
            file.write(chunk)
            size += len(chunk)
            _check_size(size, limit, url)
            progress(size, total)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and size != total:
        if size > total:
            part.discard()
        raise _BrokenOffError(f"the connection broke off: {size} of {total} bytes came")


def _open(request: urllib.request.Request, timeout: float, *, first: bool) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError:
        raise
    except (ValueError, http.client.InvalidURL) as error:
        raise DataError(f"not an address: {error}", where=request.full_url, fix=_ELSEWHERE) from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DataError(
                f"the server's certificate is not valid: {reason.verify_message}",
                where=request.full_url,
                fix=_ELSEWHERE,
            ) from error
        if isinstance(reason, socket.gaierror) and first:
            raise DataError(
                f"the server {request.host!r} cannot be found: no connection to the internet, or no such server",
                where=request.full_url,
                fix=f"check the connection, or {_ELSEWHERE}",
            ) from error
        raise _BrokenOffError(f"no connection: {_words(reason)}") from error
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"the connection broke off: {_words(error)}") from error


def _refused(error: urllib.error.HTTPError, url: str, part: Partial, begun: State | None, start: int) -> State:
    """Raise what an error code means; return where it means that all is here already."""
    if error.code == 416 and begun is not None:
        _, total = _content_range(error.headers)
        if total == start and not _differs(begun, error.headers, total):
            return begun
        part.discard()
        raise _BrokenOffError("the server has another file than the one begun: starting over")
    if error.code in TEMPORARY:
        seconds = _number(error.headers.get("Retry-After"))
        raise _BrokenOffError(
            f"the server answers {error.code} {error.reason}", pause=None if seconds is None else float(seconds)
        ) from error
    why = "is not there (any more)" if error.code in (404, 410) else "cannot be had"
    raise DataError(
        f"the file {why}: the server answers {error.code} {error.reason}", where=url, fix=_ELSEWHERE
    ) from error


def _check_size(size: int | None, limit: int, url: str) -> None:
    if size is not None and size > limit:
        raise _TooLargeError(
            f"the file is far larger than it should be: more than {limit / 1e9:.2f} GB", where=url, fix=_ELSEWHERE
        )


def _differs(begun: State, headers: Message, total: int | None) -> bool:
    etag = headers.get("ETag")
    other_tag = etag is not None and begun.etag is not None and etag != begun.etag
    return other_tag or (total is not None and begun.total is not None and total != begun.total)


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    """First byte and total of `Content-Range: bytes 5-9/10`, None where they are not stated."""
    span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    return _number(span.partition("-")[0]), _number(total)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isascii() and text.strip().isdigit() else None


def _words(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came for too long"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
