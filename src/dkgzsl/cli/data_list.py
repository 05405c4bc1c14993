"""`dkgzsl data list`: the data sets that are known, and which are here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import tyro


@dataclass(frozen=True)
class Config:
    """List the data sets that are known, and which are here."""

    data_root: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets (default: data in DKGZSL_HOME, or else in the user's cache folder)."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Print one row a data set."""
    from dkgzsl.data.catalog import data_root
    from dkgzsl.data.inventory import inventory

    root = data_root(config.data_root)
    rows = inventory(root)
    if config.json:
        print(json.dumps({"data_root": str(root), "datasets": rows}))
    else:
        _print(rows, str(root))


def _print(rows: list[dict[str, Any]], root: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(caption=f"data root: {root}; dkgzsl data fetch NAME brings what is missing", box=None)
    for heading in ("name", "images", "seen + unseen", "semantics", "here", "licence"):
        table.add_column(heading, justify="right" if heading == "images" else "left")
    for row in rows:
        sources = ", ".join(f"{name} {size}" for name, size in row["semantics"].items())
        counts = "" if row["seen_classes"] is None else f"{row['seen_classes']} + {row['unseen_classes']}"
        table.add_row(
            row["name"],
            f"{row['images']:,}" if row["images"] else "",
            counts,
            sources,
            row["here"],
            row["licence"],
        )
    Console(soft_wrap=True).print(table)
