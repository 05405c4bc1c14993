"""`dkgzsl synthesize`: visual features of any class of a run, from its description."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dkgzsl.errors import DataError


@dataclass(frozen=True)
class Config:
    """Synthesize visual features of classes from their descriptions, and write them as arrays with labels."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    out: Path
    """File to write: .npz, .safetensors, or .mat in the xlsa17 layout."""
    classes: tuple[str, ...] = ()
    """Names of classes, seen, unseen or added (default: all that the run recognises)."""
    number: int = 100
    """Features per class."""
    seed: int = 0
    """Seed of the noise; a class's features depend on it alone, not on the other classes."""
    version: int | None = None
    """Version of the run's classes: 0 as trained, higher ones by add-class, adapt, ... (default: newest)."""
    overwrite: bool = False
    """Replace what is in --out."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Synthesize, write, say what was written."""
    from dkgzsl.inference.synthesis import check_ending, synthesize, write_synthesized

    check_ending(config.out)
    if config.out.exists() and not config.overwrite:
        raise DataError("there is a file already", where=str(config.out), fix="another --out, or --overwrite")
    made = synthesize(
        Path(config.run),
        classes=config.classes,
        number=config.number,
        seed=config.seed,
        version=config.version,
    )
    write_synthesized(config.out, made)
    shape = list(made.features.shape)
    if config.json:
        content = {"out": str(config.out), "shape": shape, "classes": list(made.class_names)}
        print(json_format.dumps(content, ensure_ascii=False))
    else:
        rows, size = shape
        print(f"features   {config.out}: {rows:,} rows of {size:,} numbers")
        print(f"classes    {len(made.class_names)}, {config.number} rows each")
