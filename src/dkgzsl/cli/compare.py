"""`dkgzsl compare`: figures of several runs in one table, with paired differences."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dkgzsl.errors import ConfigError

if TYPE_CHECKING:
    from dkgzsl.report.pages.compare import Compared


@dataclass(frozen=True)
class Config:
    """Print figures of several runs over seeds, and paired differences to the first run.

    `dkgzsl report RUN RUN...` makes a page of the same figures, with curves.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN...")]
    """Run folders; the others are compared with the first."""
    json: bool = False
    """Print a JSON object on standard output."""
    csv: bool = False
    """Print a table of comma-separated values on standard output."""
    latex: bool = False
    """Print a table for LaTeX (booktabs) on standard output."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise ConfigError("a comparison takes at least two runs", fix="dkgzsl compare RUN RUN...")
        if self.json + self.csv + self.latex > 1:
            raise ConfigError("--json, --csv and --latex cannot be combined", fix="name one")


def run(config: Config) -> None:
    """Compare, print."""
    from dkgzsl.report.pages.compare import as_csv, as_latex, as_object
    from dkgzsl.runs.pages import compare_runs

    compared = compare_runs(config.runs)
    if config.json:
        print(json_format.dumps(as_object(compared)))
    elif config.csv:
        print(as_csv(compared), end="")
    elif config.latex:
        print(as_latex(compared), end="")
    else:
        _print(compared)


def _print(compared: Sequence[Compared]) -> None:
    from rich.table import Table
    from rich.text import Text

    from dkgzsl.cli.figures import console
    from dkgzsl.report.pages.headline import difference_text
    from dkgzsl.report.wording import DASH, FIGURES, mean_percent, printable

    several = any(one.content.several for one in compared)
    out = console()
    figures = Table(box=None, pad_edge=False, padding=(0, 2))
    figures.add_column("%", overflow="fold")
    for label, _ in FIGURES.values():
        figures.add_column(label, justify="right", no_wrap=True)
    for one in compared:
        metrics = one.content.result["metrics"]
        cells = [mean_percent(metrics.get(key), several=several) for key in FIGURES]
        figures.add_row(Text(printable(one.name)), *cells)
    out.print(figures)
    for one in compared[1:]:
        out.print()
        about = f"{printable(one.name)} minus {printable(compared[0].name)}"
        if one.reason is not None:
            out.print(f"{about}: not compared, {one.reason}", markup=False, soft_wrap=True)
            continue
        out.print(f"{about}, points [95 % interval over classes]:", markup=False, soft_wrap=True)
        for key, (label, _) in FIGURES.items():
            found = one.differences.get(key)
            out.print(f"  {label:<13} {DASH if found is None else difference_text(found)}", markup=False)
    out.print()
    for one in compared:
        out.print(f"{printable(one.name)}: {_about(one)}", markup=False, soft_wrap=True)


def _about(one: Compared) -> str:
    from dkgzsl.report.wording import printable

    result = one.content.result
    warning = ", chosen on the test images" if one.content.on_test else ""
    return printable(
        f"{result['dataset']}, method {result['method']}, semantics {result['semantics']}, "
        f"features of {result['backbone'] or 'an unknown backbone'}, protocol {result['protocol']}{warning}, "
        f"seeds {', '.join(map(str, result['seeds']))}, split {one.content.environment['split_sha256'][:12]}, "
        f"{result['seconds']:.0f} s"
    )
