"""`dkgzsl benchmark`: methods compared over data sets, semantics and seeds."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

from dkgzsl.config import BenchmarkConfig as Config
from dkgzsl.errors import RunError
from dkgzsl.writing import going_on

__all__ = ["Config", "run"]


def run(config: Config) -> None:
    """Do the cells, print the table."""
    from typing import Any

    from dkgzsl.benchmark.cells import Cell
    from dkgzsl.benchmark.grid import cells_of
    from dkgzsl.benchmark.run import benchmark, named
    from dkgzsl.cli.figures import print_rows
    from dkgzsl.display import counted
    from dkgzsl.runs.progress import Reporter

    cells = cells_of(config)
    if config.dry_run:
        for cell in cells:
            print(f"{cell.dataset} {cell.semantics} {cell.representation} {cell.method} seed {cell.seed}")
        print(f"{counted(len(cells), 'cell')}; dry run: nothing was written")
        return
    reporter = Reporter()

    def on_cell(cell: Cell, record: dict[str, Any]) -> None:
        name = f"{cell.method} on {record.get('name', cell.dataset)} ({cell.semantics}, seed {cell.seed})"
        if "error" in record:
            reporter.log(f"failed: {name}: {record['error']}")
        reporter.advance(note=f"{name}, {record.get('seconds', 0):.0f} s")

    out = str(named(config.out))
    with going_on(f"what is done is kept: the same command with --out {shlex.quote(out)} goes on"), reporter:
        reporter.stage("cells", len(cells))
        found = benchmark(replace(config, out=out), cells=cells, on_cell=on_cell)
    if config.json:
        print(json.dumps({"rows": found.rows, "failed": found.failed, "out": str(found.folder)}))
    elif config.latex:
        print(found.to_latex(), end="")
    else:
        print_rows(found.rows, found.failed)
        print(f"table.md, table.csv and table.json in {found.folder}")
    if not found.rows:
        raise RunError(
            "every cell failed",
            where=str(found.folder),
            fix="see the reasons above; the same --out tries them again",
        )
