"""Benchmark tables as people read them on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from dkgzsl.benchmark.table import cells_of_row, column_title
from dkgzsl.cli.figures import console

_HEADS = ("%", "T1", "U", "S", "H", "H cal.", "AUSUC", "seeds", "s", "lead in H cal. [95 %]")


def print_rows(rows: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, Any]]) -> None:
    """A table for each column of the benchmark, and what failed."""
    out = console(width=150)
    for title in dict.fromkeys(column_title(dict(row)) for row in rows):
        table = Table(box=None, pad_edge=False, padding=(0, 1))
        for number, head in enumerate(_HEADS):
            text = number in (0, len(_HEADS) - 1)  # these two may fold on a narrow terminal, figures never
            table.add_column(head, justify="left" if text else "right", no_wrap=not text, overflow="fold")
        for row in rows:
            if column_title(dict(row)) == title:
                table.add_row(*cells_of_row(dict(row)))
        out.print(title, markup=False, soft_wrap=True)
        out.print(table)
        out.print()
    for one in failed:
        out.print(f"failed: {one['method']} (seed {one['seed']}): {one['error']}", markup=False, soft_wrap=True)
