"""`dkgzsl report`: the page of a run, or of several runs compared."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dkgzsl.errors import ConfigError


@dataclass(frozen=True)
class Config:
    """Make report.html of a run again from its folder, or one page that compares several runs."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN...]")]
    """Run folders."""
    out: Path | None = None
    """File to write (default: report.html in the run's folder; for several runs, comparison.html here)."""
    without_images: bool = False
    """Leave pictures of test images out."""
    json: bool = False
    """Print a JSON object on standard output."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ConfigError("no run is named", fix="dkgzsl report RUN [RUN...]")


def run(config: Config) -> None:
    """Make the page, say where it is."""
    from dkgzsl.runs.pages import write_comparison, write_report

    if len(config.runs) == 1:
        page = write_report(config.runs[0], out=config.out, images=not config.without_images)
    else:
        page = write_comparison(config.runs, out=config.out or Path("comparison.html"))
    print(json_format.dumps({"report": str(page)}) if config.json else page)
