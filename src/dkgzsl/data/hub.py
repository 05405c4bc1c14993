"""Loading published models where there may be no network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

CLIP = "clip:"
"""What the names of CLIP models begin with, as backbones and as encoders of text (`dkgzsl.data.clip_model`)."""


@contextmanager
def hub_without_waiting() -> Iterator[None]:
    """While this lasts, the model hub's library looks into its cache alone if the hub cannot be reached.

    By itself it asks for each file six times, up to a minute in all, before it looks there. Behind a proxy nothing
    is changed: names need not resolve there.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        if not getproxies():
            constants.HF_HUB_OFFLINE = before or not _resolves(urlsplit(constants.ENDPOINT).hostname or "")
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
