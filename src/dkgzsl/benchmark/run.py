"""The whole benchmark: cells, their records, the table in three forms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dkgzsl.benchmark.cells import Cell
from dkgzsl.benchmark.grid import Done, cells_of, run_cells
from dkgzsl.benchmark.table import Row, as_csv, as_latex, as_markdown, column_title, rows_of
from dkgzsl.compatibility import FORMAT, check_format
from dkgzsl.config import BenchmarkConfig, read_yaml
from dkgzsl.device import fast_products
from dkgzsl.display import FIGURE_NAMES, counted, data_frame, html_card, html_table, mean_percent
from dkgzsl.errors import RunError
from dkgzsl.files import holds_something, sweep_inside, write_whole
from dkgzsl.methods.registry import method_info
from dkgzsl.methods.sections import settings_by_method
from dkgzsl.writing import locked


@dataclass(frozen=True)
class Benchmarked:
    """A finished benchmark.

    Attributes:
        folder: `table.md`, `table.csv`, `table.json`, `config.yaml` and the folder `cells`.
        rows: one for each method of each column; see `dkgzsl.benchmark.table.rows_of`.
        failed: cells that failed, each with its error.
    """

    folder: Path
    rows: list[Row]
    failed: list[Row]

    def __repr__(self) -> str:
        methods, problems = ({row[key] for row in self.rows} for key in ("method", "dataset"))
        failed = f", {counted(len(self.failed), 'failed cell')}" if self.failed else ""
        return (
            f"Benchmarked({counted(len(self.rows), 'row')}: {counted(len(methods), 'method')}, "
            f"{counted(len(problems), 'data set')}{failed}; folder {self.folder})"
        )

    def to_latex(self) -> str:
        """A booktabs table for each column of the benchmark, in percent."""
        return as_latex(self.rows)

    def to_csv(self) -> str:
        """Comma-separated values: a line for each row, fractions of 1."""
        return as_csv(self.rows)

    def _repr_html_(self) -> str:
        parts = []
        for title in dict.fromkeys(map(column_title, self.rows)):
            rows = [
                [row["title"], *(mean_percent(row["metrics"][key]) for key in FIGURE_NAMES), row["seconds"]]
                for row in self.rows
                if column_title(row) == title
            ]
            parts.append(html_card(title, (), html_table(["%", *FIGURE_NAMES.values(), "seconds"], rows)))
        errors = [(one["method"], one["dataset"], one["seed"], one["error"]) for one in self.failed]
        if errors:
            table = html_table(["method", "data set", "seed", "error"], errors, words=4)
            parts.append(html_card("Failed cells", (), table))
        return "".join(parts)

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` with a row for each of `rows`.

        Returns:
            What was run (`method`, `adapted` (None but for transductive rows), `title`, `dataset`, `features`,
            `backbone`, `semantics`, `representation`, `protocol`, `minutes`, `clock`, `seeds`), what to read it by
            (`balance`, and of methods that train by
            epochs `epoch`, `epochs_trained` and `schedule`; see `dkgzsl.benchmark.cells.epochs_of`), mean and
            sample standard deviation of each figure over the seeds
            (`t1_mean`, `t1_std`, ...: fractions of 1, NaN where undefined), and `seconds` of one seed.

        Raises:
            ConfigError: pandas is not installed.
        """
        columns: dict[str, list[Any]] = {key: [row[key] for row in self.rows] for key in _COLUMNS}
        for key in FIGURE_NAMES:
            for kind in ("mean", "std"):
                columns[f"{key}_{kind}"] = [(row["metrics"][key] or {}).get(kind) for row in self.rows]
        return data_frame({**columns, "seconds": [row["seconds"] for row in self.rows]})


_COLUMNS = (
    "method", "adapted", "title", "dataset", "features", "backbone", "semantics", "representation", "protocol",
    "minutes", "clock", "seeds", "balance", "epoch", "epochs_trained", "schedule",
)  # fmt: skip


@fast_products()
def benchmark(
    config: BenchmarkConfig, *, cells: Sequence[Cell] | None = None, on_cell: Done | None = None
) -> Benchmarked:
    """Do what is not done yet, write the table.

    Args:
        config: the settings; see `BenchmarkConfig`.
        cells: `cells_of(config)`, where they are at hand.
        on_cell: called with each cell.

    Raises:
        ConfigError: unknown methods, semantics or representations.
        DataError: data that is missing or unfit.
        RunError: a folder that cannot be written.
        InUseError: another command writes the folder.
    """
    cells = cells_of(config) if cells is None else cells
    folder = named(config.out)
    with locked(folder, what="this benchmark"):
        begin(folder, config)
        sweep_inside(folder)
        records = run_cells(config, cells, folder / "cells", on_cell or (lambda *_: None))
        rows, failed = rows_of(cells, records)
        content = json.dumps({"rows": rows, "failed": failed}, indent=1, ensure_ascii=False) + "\n"
        write(folder, "table.json", content)
        write(folder, "table.csv", as_csv(rows))
        write(folder, "table.md", as_markdown(rows, failed))
    return Benchmarked(folder, rows, failed)


def begin(folder: Path, config: BenchmarkConfig) -> None:
    """Make the folder and keep the settings; one that holds something else is left alone.

    Raises:
        RunError: it cannot be written, or is no benchmark.
    """
    import yaml

    if folder.exists() and not folder.is_dir():
        raise RunError("the benchmark's folder is a file", where=str(folder), fix="name another --out")
    if holds_something(folder) and not (folder / "config.yaml").is_file():
        raise RunError("the folder holds something else", where=str(folder), fix="name another --out")
    if (folder / "environment.json").is_file():
        raise RunError("the folder is a training run", where=str(folder), fix="name another --out")
    _check_format(folder)
    content: dict[str, Any] = {"format": FORMAT}
    content |= {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(config).items()
        if name not in ("out", "config", "json", "latex", "dry_run", "settings", "on")
    }
    settings = settings_by_method(config.settings)
    content |= {method_info(name).section: asdict(one) for name, one in settings.items()}
    write(folder, "config.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _check_format(folder: Path) -> None:
    """That cells of one format never stand among those of another."""
    file = folder / "config.yaml"
    if not file.is_file():
        return
    found = read_yaml(file)
    if check_format(found if isinstance(found, dict) else {}, where=str(file)) != FORMAT:
        raise RunError(
            "dkgzsl 0.1 (format 1) made this benchmark, and its cells are not mixed with new ones",
            where=str(folder),
            fix="name another --out; table.md and table.csv there stay as they are",
        )


def write(folder: Path, name: str, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, text)
    except OSError as error:
        raise RunError(
            f"cannot write {name}: {error.strerror or error}", where=str(folder), fix="name another --out"
        ) from error


def named(out: str | None) -> Path:
    """The benchmark's folder; without a name one of today's date in `runs`."""
    if out:
        return Path(out)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    taken = (Path("runs") / f"{stamp}-benchmark{'' if n == 1 else f'-{n}'}" for n in range(1, 1000))
    return next(folder for folder in taken if not folder.exists())
