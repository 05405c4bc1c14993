"""`dkgzsl data import`: a folder of one's own images becomes a problem."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dkgzsl.cli.next_step import command, next_line
from dkgzsl.errors import DataError


@dataclass(frozen=True)
class Config:
    """Make a problem of your own images.

    FOLDER holds images/CLASS/*, and one or more tables of class descriptions (CSV, Excel or Parquet; a column
    `class`, then numbers, percentages, or yes and no), each a source of semantics named after its file. Photos may
    also lie in CLASS/* next to the tables, or in train/CLASS/* and test/CLASS/*. Classes
    with photos are seen, and classes without are unseen. An optional classes.csv (columns `class` and `role`)
    gives a class another role: seen, seen-train (validation never treats it as unseen), seen-val (validation
    always does), unseen, or ignore (left out).
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of images and tables; the images stay there."""
    semantics: str
    """The table used by default, by name: attributes for attributes.csv."""
    out: Path
    """Folder of the problem."""
    name: str | None = None
    """Name of the problem (default: the folder's)."""
    backbone: str | None = None
    """Backbone that shall compute its features; it is kept for the command that `data check` prints."""
    weights: Path | None = None
    """The backbone's file of weights, kept in the same way (default: published weights)."""
    image_size: int | None = None
    """Side of the square image in pixels, kept in the same way (default: the backbone's own)."""
    overwrite: bool = False
    """Replace the problem in --out."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Validate the folder and write the problem."""
    from dkgzsl.data.formats.image_folder import read_image_folder, refuse_unreadable
    from dkgzsl.data.formats.problem_folder import write_problem_folder

    found = read_image_folder(config.folder, config.semantics)
    refuse_unreadable(found)
    name = config.name or config.folder.resolve().name
    if config.weights is not None and not config.weights.is_file():
        raise DataError("there is no such file of weights", where=str(config.weights))
    weights = None if config.weights is None else config.weights.resolve()
    wish = {"backbone": config.backbone, "weights": weights, "image_size": config.image_size}
    extraction = {key: str(value) for key, value in wish.items() if value is not None}
    write_problem_folder(found, config.out, name=name, overwrite=config.overwrite, extraction=extraction)
    roles = Counter(found.roles)
    sources = {source: table.values.shape[1] for source, table in found.tables.items()}
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    if not roles["unseen"]:
        print("note: no class is unseen; there is nothing to recognise without images yet", file=sys.stderr)
    if config.json:
        summary = {
            "problem": str(config.out),
            "name": name,
            "images": len(found.images),
            "classes": dict(roles),
            "semantics": sources,
            "default_semantics": found.semantics_name,
            "ignored_files": list(found.ignored),
            "notes": list(found.notes),
        }
        print(json.dumps(summary, ensure_ascii=False))
        return
    print(f"problem    {config.out} ({name})")
    print(f"images     {len(found.images):,}")
    print(f"classes    {len(found.class_names)}: " + ", ".join(f"{roles[r]} {r}" for r in sorted(roles)))
    shown = (f"{s} [{size}]{' (default)' if s == found.semantics_name else ''}" for s, size in sources.items())
    print(f"semantics  {', '.join(shown)}")
    print(next_line(command("data", "check", config.out)))
