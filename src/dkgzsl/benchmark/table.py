"""From the cells' records to rows, and from rows to a table for people, spreadsheets and machines."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any, Final

import numpy as np

from dkgzsl.benchmark.cells import DRAWN, Cell
from dkgzsl.benchmark.transductive import POOLS, transductive_row
from dkgzsl.display import DASH, FIGURE_NAMES, latex_table, mean_percent, signed
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.methods.registry import DEFAULT
from dkgzsl.runs.summary import over_seeds

"""The method that all others are compared with."""
_INTERVAL = (0.025, 0.975)
FURTHER: Final = ("balance", "epochs", "seeds", "s", "lead in H cal. [95 %]")
"""Heads of what stands in a row behind the figures."""

Record = Mapping[str, Any]
Row = dict[str, Any]


def rows_of(cells: Sequence[Cell], records: Sequence[Record]) -> tuple[list[Row], list[Row]]:
    """One row for each method of each column, and one for each cell that failed.

    A column is a data set with its features, semantics and representation. Within it, our default is compared
    with the best other method, and every other method with ours: `compared_with` names it, and `lead` is the
    difference of h, h_calibrated and ausuc, averaged over the seeds that both have, with the interval that holds
    95 % of the draws of classes (the same draws for both methods). Transductive rows (`adapted` is not None) come
    after the inductive ones of their column; nothing is compared with them.

    Args:
        cells: the benchmark's cells.
        records: theirs, in the same order.
    """
    failed = [_failure(cell, record) for cell, record in zip(cells, records, strict=True) if "error" in record]
    whole = [(cell, record) for cell, record in zip(cells, records, strict=True) if "error" not in record]
    rows = []
    for column in dict.fromkeys(cell.column for cell, _ in whole):
        here = [(cell, record) for cell, record in whole if cell.column == column]
        by_method = {
            name: {cell.seed: (cell, record) for cell, record in here if cell.method == name}
            for name in dict.fromkeys(cell.method for cell, _ in here)
        }
        made = [_row(list(found.values())) for found in by_method.values()]
        peers = [row for row in made if row["method"] != DEFAULT]
        best = max(peers, key=_rank)["method"] if peers else None
        for row in made:
            other = best if row["method"] == DEFAULT else DEFAULT
            row["compared_with"] = other if other in by_method else None
            row["lead"] = None
            if other in by_method:
                row["lead"] = _lead(by_method[row["method"]], by_method[other])
        made.sort(key=_rank, reverse=True)
        transductive = (
            transductive_row(row, [one for _, one in by_method[row["method"]].values()]) for row in made
        )
        rows += [*made, *(row for row in transductive if row is not None)]
    return rows, failed


def _row(found: Sequence[tuple[Cell, Record]]) -> Row:
    cell, record = found[0]
    return {
        "method": cell.method,
        "adapted": None,
        "title": record["title"],
        "paper": record["paper"],
        "dataset": record["name"],
        "features": cell.features,
        "backbone": record["backbone"],
        "semantics": cell.semantics,
        "representation": cell.representation,
        "protocol": cell.protocol,
        "seeds": [one.seed for one, _ in found],
        "minutes": cell.minutes,
        "clock": cell.clock,
        "balance": record["balance"],
        "chosen_by": record["chosen_by"],
        "epoch": _by_seed(found, "epoch"),
        "epochs_trained": _by_seed(found, "epochs_trained"),
        "schedule": record["schedule"],
        "metrics": over_seeds([Figures(**record["figures"]) for _, record in found]),
        "seconds": round(float(np.mean([record["seconds"] for _, record in found])), 2),
        "split_sha256": [record["split_sha256"] for _, record in found],
    }


def _by_seed(found: Sequence[tuple[Cell, Record]], name: str) -> list[int] | None:
    """A whole number for each seed; None for a method that does not train by epochs."""
    numbers = [record[name] for _, record in found]
    return None if None in numbers else numbers


def _rank(row: Row) -> float:
    figures = row["metrics"]
    value = figures["h_calibrated"] or figures["h"]
    return float(value["mean"]) if value else float("-inf")


def _lead(
    own: Mapping[int, tuple[Cell, Record]], other: Mapping[int, tuple[Cell, Record]]
) -> dict[str, dict[str, float]] | None:
    seeds = sorted(set(own) & set(other))
    lead = {}
    for name in DRAWN:
        if not all(name in found[seed][1]["draws"] for found in (own, other) for seed in seeds) or not seeds:
            continue
        figures = [own[s][1]["figures"][name] - other[s][1]["figures"][name] for s in seeds]
        drawn = np.mean([own[s][1]["draws"][name] - other[s][1]["draws"][name] for s in seeds], axis=0)
        low, high = np.quantile(drawn, _INTERVAL)
        lead[name] = {"mean": float(np.mean(figures)), "low": float(low), "high": float(high)}
    return lead or None


def _failure(cell: Cell, record: Record) -> Row:
    return {
        "method": cell.method,
        "dataset": cell.dataset,
        "semantics": cell.semantics,
        "representation": cell.representation,
        "seed": cell.seed,
        "error": record["error"],
    }


def as_markdown(rows: Sequence[Row], failed: Sequence[Row]) -> str:
    """A table for each column, best calibrated H first; percent, mean ± deviation over seeds."""
    lines = []
    for _, group in _columns(rows):
        first = group[0]
        lines += [f"### {column_title(first)}", ""]
        lines.append("| % | " + " | ".join([*FIGURE_NAMES.values(), *FURTHER]) + " |")
        lines.append("|---|" + "---|" * (len(FIGURE_NAMES) + len(FURTHER)))
        lines += ["| " + " | ".join(cells_of_row(row)) + " |" for row in group]
        lines += ["", *notes_of(group), ""] if notes_of(group) else [""]
    for one in failed:
        where = f"{one['dataset']}, {one['semantics']}, {one['representation']}, seed {one['seed']}"
        lines.append(f"- failed: {one['method']} ({where}): {one['error']}")
    return "\n".join(lines).rstrip() + "\n"


def as_latex(rows: Sequence[Row]) -> str:
    """A booktabs table for each column, best calibrated H first; percent, mean ± deviation over seeds."""
    heads = ["%", *FIGURE_NAMES.values(), *FURTHER]
    groups = (group for _, group in _columns(rows))
    return "\n".join(
        latex_table(heads, map(cells_of_row, group), caption=column_title(group[0])) for group in groups
    )


def _columns(rows: Sequence[Row]) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    def column(row: Row) -> tuple[Any, ...]:
        return row["dataset"], row["features"], row["semantics"], row["representation"], row["adapted"]

    for key in dict.fromkeys(map(column, rows)):
        yield key, [row for row in rows if column(row) == key]


def column_title(row: Row) -> str:
    """What all methods of a column share, in one line."""
    backbone = row["backbone"] or "an unknown backbone"
    kind = "" if row["adapted"] is None else f"; transductive: {POOLS[row['adapted']]}"
    return (
        f"{row['dataset']}, features of {backbone} ({row['representation']}), semantics {row['semantics']}, "
        f"protocol {row['protocol']}{kind}"
    )


def cells_of_row(row: Row) -> list[str]:
    """A row as people read it: method, figures, and a cell for each of `FURTHER`."""
    name = row["title"] if row["minutes"] is None else f"{row['title']} ({row['minutes']:g} min)"
    figures = [mean_percent(row["metrics"][key], several=len(row["seeds"]) > 1) for key in FIGURE_NAMES]
    lead = (row["lead"] or {}).get("h_calibrated")
    shown = DASH
    if lead:
        shown = f"{signed(lead['mean'])} [{signed(lead['low'])}, {signed(lead['high'])}]"
        shown += f" on {row['compared_with']}"
    return [name, *figures, row["balance"], _epochs(row), str(len(row["seeds"])), f"{row['seconds']:.0f}", shown]


def _epochs(row: Row) -> str:
    if row["epoch"] is None:
        return DASH
    return "/".join([_span(row["epoch"]), _span(row["epochs_trained"]), str(row["schedule"])])


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


_UNBALANCED = (
    "Balance: a method with balance `none` does not balance seen and unseen classes by itself. Raw U, S and H of "
    "such a row are not comparable with those of other rows; calibrated H and AUSUC are."
)
_EPOCHS = "Epochs: taken / trained / those of the method's own schedule, in the exploration of each seed."
_CLOCKS = {
    "processor": "min: minutes of processor time, of all threads together, for each exploration.",
    "wall": "min: minutes of wall time for each exploration; other work on the machine uses them up.",
}


def notes_of(rows: Sequence[Row]) -> list[str]:
    """What a reader of a column's rows has to know: what may be compared, and whose budget ended early."""
    trained = [row for row in rows if row["epoch"] is not None]
    notes = [_UNBALANCED] if any(row["balance"] == "none" for row in rows) else []
    notes += [_EPOCHS] if trained else []
    notes += [
        f"{row['title']}: {row['refused']} of {row['pools']} pools were refused; there the model stayed as it was."
        for row in rows
        if row["adapted"] is not None and row["refused"]
    ]
    notes += [said for clock, said in _CLOCKS.items() if any(row["clock"] == clock for row in rows)]
    notes += [
        f"**{row['title']}: the budget ended after epoch {_span(row['epochs_trained'])}, before the method's own "
        f"schedule of {row['schedule']} epochs did.** More epochs may raise these figures."
        for row in trained
        if row["schedule"] is not None and min(row["epochs_trained"]) < row["schedule"]
    ]
    return [f"- {note}" for note in notes]


def as_csv(rows: Sequence[Row]) -> str:
    """A line for each row, fractions of 1."""
    text = StringIO(newline="")
    writer = csv.writer(text)
    plain = (
        *(
            "method",
            "adapted",
            "dataset",
            "features",
            "backbone",
            "semantics",
            "representation",
            "protocol",
            "minutes",
        ),
        *("clock", "balance", "epoch", "epochs_trained", "schedule"),
    )
    spread = [f"{name}_{kind}" for name in FIGURE_NAMES for kind in ("mean", "std")]
    writer.writerow([*plain, "seeds", *spread, "seconds"])
    for row in rows:
        figures = [
            "" if row["metrics"][name] is None else f"{row['metrics'][name][kind]:.6f}"
            for name in FIGURE_NAMES
            for kind in ("mean", "std")
        ]
        named = (_plain(row[name]) for name in plain)
        writer.writerow([*named, len(row["seeds"]), *figures, row["seconds"]])
    return text.getvalue()


def _plain(value: Any) -> Any:
    """A value as a field of a CSV file: nothing for None, the numbers of several seeds with spaces between."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else value
