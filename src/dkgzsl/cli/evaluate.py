"""`dkgzsl evaluate`: a run's figures again, from its folder and the data that it was trained on."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dkgzsl.cli.clock import seconds_since_start
from dkgzsl.cli.next_step import command, next_line


@dataclass(frozen=True)
class Config:
    """Compute a run's figures again: its saved models score the test images of its data."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    data: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of the data set, where it was moved (default: the place that the run records)."""
    features: Annotated[str | None, tyro.conf.arg(metavar="NAME_OR_STORE")] = None
    """Feature file or store, where it was moved (default: the place that the run records)."""
    data_root: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets, where it was moved (default: the one of the training)."""
    device: str | None = None
    """cpu, cuda, ... (default: CUDA where there is one)."""
    version: int | None = None
    """Version of the run's classes: 0 as trained, higher ones by add-class, adapt, ... (default: newest)."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Score, print the figures."""
    from dkgzsl.cli.figures import print_figures
    from dkgzsl.runs.evaluation import evaluate
    from dkgzsl.runs.places import example_photo

    evaluated = evaluate(
        Path(config.run),
        data=config.data,
        features=config.features,
        data_root=config.data_root,
        device=config.device,
        version=config.version,
        clock=seconds_since_start,
    )
    if config.json:
        print(json_format.dumps(evaluated.result))
    else:
        print_figures(evaluated.result, evaluated.details)
        photo = example_photo(Path(config.run))
        if photo is not None:
            print(next_line(command("predict", config.run, photo)))
