"""`dkgzsl reproduce`: published settings under both protocols, compared with the published figures."""

from __future__ import annotations

import json

from dkgzsl.config import ReproduceConfig as Config

__all__ = ["Config", "run"]


def run(config: Config) -> None:
    """Run what can be run, print the table and the notes."""
    from dataclasses import asdict

    from rich.table import Table

    from dkgzsl.benchmark.reproduce import reproduce
    from dkgzsl.cli.figures import console
    from dkgzsl.runs.progress import Reporter

    found = reproduce(config, log=Reporter().log)
    if config.json:
        rows = [{**asdict(line), "measured": measured, "reason": why} for line, measured, why in found.lines]
        print(json.dumps({"rows": rows, "notes": list(found.notes)}))
        return
    if config.latex:
        print(found.to_latex(), end="")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for head in found.heads():
        table.add_column(head, justify="right" if head else "left")
    for cells in found.cells(epochs=config.epochs):
        table.add_row(*cells)
    out = console()
    out.print(table)
    for note in found.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    if config.dry_run:
        out.print("dry run: nothing was run")
