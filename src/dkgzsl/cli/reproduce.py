"""`dkgzsl reproduce`: published settings under both protocols, compared with the published figures."""

from __future__ import annotations

import json

from dkgzsl.config import ReproduceConfig as Config
from dkgzsl.display import FIGURE_NAMES, percent

__all__ = ["Config", "run"]

_HEADS = {key: FIGURE_NAMES[key] for key in ("t1", "u", "s", "h")}


def run(config: Config) -> None:
    """Run what can be run, print the table and the notes."""
    from dataclasses import asdict

    from rich.table import Table

    from dkgzsl.benchmark.reproduce import PROTOCOLS, reproduce
    from dkgzsl.cli.figures import console
    from dkgzsl.runs.progress import Reporter

    found = reproduce(config, log=Reporter().log)
    if config.json:
        rows = [{**asdict(line), "measured": measured, "reason": why} for line, measured, why in found.lines]
        print(json.dumps({"rows": rows, "notes": list(found.notes)}))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for head in ("", *_HEADS.values()):
        table.add_column(head, justify="right" if head else "left")
    for line, measured, why in found.lines:
        about = f"{line.method}, {line.dataset}, {line.backbone}, {line.semantics}"
        chosen = f"chosen on {line.chosen_on}" + ("" if line.checked else ", quoted from memory")
        table.add_row(f"{about}: published ({chosen})", *(percent(line.figures[key]) for key in _HEADS))
        for protocol in PROTOCOLS:
            if protocol in measured:
                values = (measured[protocol].get(key) for key in _HEADS)
                shown = f"  here, {protocol}" + (" (chosen on test)" if protocol == "oracle" else "")
                shown += "" if config.epochs is None else f", epochs: {config.epochs}"
                table.add_row(shown, *(percent(value and value["mean"]) for value in values))
        if why:
            table.add_row(f"  not run: {why}")
    out = console()
    out.print(table)
    for note in found.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    if config.dry_run:
        out.print("dry run: nothing was run")
