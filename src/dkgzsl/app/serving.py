"""Serve the page of a run until Ctrl-C."""

from __future__ import annotations

import sys
import threading
from typing import Final

from dkgzsl.app.actions import Page
from dkgzsl.app.limits import Limits
from dkgzsl.app.server import Server
from dkgzsl.app.session import Session
from dkgzsl.app.visitors import Upkeep, few_arenas
from dkgzsl.errors import ConfigError
from dkgzsl.inference.photos import PhotoReader

FIRST_PORT: Final = 7860
_PORTS: Final = 100


def serve(
    session: Session, reader: PhotoReader, *, host: str, port: int | None, limits: Limits | None = None
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        session: the session that each visitor starts with.
        reader: reads images in the same way as the run's features were made.
        host: address to listen on.
        port: None takes the first free one from 7860.
        limits: what the page takes at once (default: `Limits()`).

    Raises:
        ConfigError: Pillow is not installed, the port is taken, or the address does not belong to this machine.
    """
    try:
        import PIL  # noqa: F401 - it reads the photos
    except ImportError as error:
        raise ConfigError("the page needs an extra", fix="pip install 'dkgzsl[app]'") from error
    sys.setswitchinterval(0.0005)  # else each of many short requests waits 5 ms for the threads that predict
    few_arenas()
    server = start(Page(session, reader, limits or Limits()), host=host, port=port)
    upkeep = Upkeep(server.page.visitors)
    print(f"the page is at {address_of(server)} (Ctrl-C ends it)", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("the page has ended", flush=True)
    finally:
        upkeep.close()
        server.close()


def start(page: Page, *, host: str, port: int | None) -> Server:
    """Start to serve a page in the background.

    Args:
        page: what is served.
        host: address to listen on.
        port: None takes the first free one from 7860.

    Raises:
        ConfigError: the port is taken, or the address does not belong to this machine.
    """
    server = _bound(page, host, port)
    server.start()
    return server


def address_of(server: Server) -> str:
    """Where a browser on this machine finds the page."""
    host, port = str(server.server_address[0]), int(server.server_address[1])
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/"


def _bound(page: Page, host: str, port: int | None) -> Server:
    ports = range(FIRST_PORT, FIRST_PORT + _PORTS) if port is None else (port,)
    reason: OSError | None = None
    for one in ports:
        try:
            return Server((host, one), page)
        except OSError as error:
            reason = error
    raise ConfigError(
        f"the page cannot be served at {host}, port {ports[0]}: {reason.strerror or reason if reason else ''}",
        fix="name a free port with --port N, or an address of this machine with --host ADDRESS",
    ) from reason
