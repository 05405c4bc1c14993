"""`dkgzsl data convert`: feature stores from and to the field's files."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dkgzsl.errors import ConfigError, DataError


@dataclass(frozen=True)
class Config:
    """Make a feature store of a file of features (HDF5 region map, xlsa17 .mat, .npz), or a .mat of a store."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE_OR_STORE")]
    """An HDF5 file with feature_map and labels, a .mat or .npz with features and labels, or a feature store."""
    out: Path
    """Folder of the store, or the .mat file."""
    backbone: str | None = None
    """What made the features of FILE; recorded with every number."""
    overwrite: bool = False
    """Replace what is in --out."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Convert a file into a store, or a store into a file."""
    from dkgzsl.data.convert import store_from_file, store_to_mat
    from dkgzsl.data.formats.feature_files import is_arrays, read_labelled
    from dkgzsl.features.store import is_store, open_store

    shape: tuple[int, ...]
    if is_store(config.source):
        if config.out.suffix.lower() != ".mat":
            raise ConfigError(f"a store is written as a .mat file, not {config.out.name!r}")
        if config.out.exists() and not config.overwrite:
            raise DataError("there is a file already", where=str(config.out), fix="another --out, or --overwrite")
        shape = store_to_mat(open_store(config.source), config.out)
    else:
        if is_arrays(config.source):
            read_labelled(config.source)  # what cannot be read is said before what is missing
        if config.backbone is None:
            raise ConfigError("the file does not say what made its features", fix="name it with --backbone")
        shape = store_from_file(config.source, config.out, backbone=config.backbone, overwrite=config.overwrite)
    if config.json:
        print(json.dumps({"out": str(config.out), "shape": list(shape)}))
    else:
        _print(config.out, shape)


def _print(out: Path, shape: tuple[int, ...]) -> None:
    """What was written, and what it is for."""
    if out.suffix.lower() == ".mat":
        print(f"file       {out}: {shape[1]:,} images, features of {shape[0]:,} numbers")
        return
    images, tokens, channels = shape
    regions = "no regions" if tokens == 1 else f"{tokens - 1:,} regions"
    print(f"store      {out}: {images:,} images, {regions}, features of {channels:,} numbers")
    print(f"use        dkgzsl train PROBLEM --features {shlex.quote(str(out))}")
