"""`dkgzsl data describe`: class descriptions from names or sentences, by a sentence encoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dkgzsl.errors import DataError


@dataclass(frozen=True)
class Config:
    """Make a table of class descriptions from text alone: the classes' names, or a sentence about each."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PROBLEM_OR_FOLDER")]
    """An imported problem, or a folder to be imported; the table is added there."""
    encoder: str
    """A sentence-transformers model by name, the folder that holds one, or clip:MODEL@WEIGHTS."""
    called: Annotated[str, tyro.conf.arg(name="as", metavar="NAME")]
    """Name of the new semantics."""
    template: Annotated[str | None, tyro.conf.arg(metavar="SENTENCE")] = None
    """Sentence with {name}, {description} or both (default: "a photo of a {name}"; with --descriptions, the
    description)."""
    descriptions: Path | None = None
    """CSV file with the columns class and description."""
    device: str | None = None
    """cpu, cuda, ... (default: CUDA where there is one)."""
    overwrite: bool = False
    """Replace a table of that name."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Encode the classes and write the table."""
    from dkgzsl.data.formats.computed_tables import write_computed_table
    from dkgzsl.data.formats.problem_folder import class_names_of, semantics_folder
    from dkgzsl.data.text_semantics import encode, read_descriptions, texts_of

    if not config.called or Path(config.called).name != config.called or config.called == "classes":
        raise DataError(f"{config.called!r} cannot name a table", fix="give a plain name with --as, such as names")
    path = semantics_folder(config.folder) / f"{config.called}.csv"
    if path.exists() and not config.overwrite:
        raise DataError("there is a table of that name", where=str(path), fix="another name, or --overwrite")
    classes = class_names_of(config.folder)
    descriptions = read_descriptions(config.descriptions) if config.descriptions else None
    texts = texts_of(classes, template=config.template, descriptions=descriptions)
    table, origin = encode(classes, texts, encoder=config.encoder, device=config.device)
    write_computed_table(path, table, origin)
    if config.json:
        summary = {
            "table": str(path),
            "semantics": config.called,
            "classes": len(classes),
            "size": table.values.shape[1],
            "example": texts[0],
        }
        print(json.dumps(summary, ensure_ascii=False))
        return
    print(f"table      {path}: {len(classes)} classes x {table.values.shape[1]}")
    print(f"for one    {classes[0]}: {texts[0]}")
    print(f"use it     --semantics {config.called}")
