"""`dkgzsl app`: a local page to try a trained model on images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dkgzsl.errors import ConfigError, refuse_without


@dataclass(frozen=True)
class Config:
    """Open a local page to try images, look up classes and describe new ones; Ctrl-C ends it.

    It listens on this machine alone, unless --host names another address, and sends no request to other machines.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 opens the page, and saving into the run, to the network."""
    port: int | None = None
    """Port (default: the first free one from 7860 on)."""
    version: int | None = None
    """Version of the run's classes (default: the newest)."""
    weights: Path | None = None
    """The backbone's weights (default: those that the run records, by path and sha256)."""
    device: str | None = None
    """Where the backbone runs: cpu, cuda, ... (default: CUDA where there is one)."""

    def __post_init__(self) -> None:
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ConfigError(f"port must lie between 1 and 65535, not {self.port}")


def run(config: Config) -> None:
    """Serve the page until it is interrupted."""
    refuse_without("PIL", extra="app")
    from dkgzsl.app.serving import serve
    from dkgzsl.app.session import Session
    from dkgzsl.inference.photos import photo_reader

    session = Session.open(Path(config.run), config.version)
    reader = photo_reader(session.recognizer.record, weights=config.weights, device=config.device)
    serve(session, reader, host=config.host, port=config.port)
