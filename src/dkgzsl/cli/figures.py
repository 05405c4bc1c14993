"""Figures and plans as people read them on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dkgzsl.benchmark.table import FURTHER, cells_of_row, column_title, notes_of
from dkgzsl.display import FIGURE_NAMES, mean_percent, percent
from dkgzsl.methods.registry import method_title

if TYPE_CHECKING:
    from dkgzsl.runs.outline import Outline


_SHORT = {**FIGURE_NAMES, "h_calibrated": "H cal."}
_HEADS = ("%", *_SHORT.values(), *FURTHER)


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
        for note in notes_of([dict(row) for row in rows if column_title(dict(row)) == title]):
            out.print(note.replace("**", "").replace("`", ""), markup=False, soft_wrap=True)
        out.print()
    for one in failed:
        out.print(f"failed: {one['method']} (seed {one['seed']}): {one['error']}", markup=False, soft_wrap=True)


def console(*, width: int = 120) -> Console:
    """Standard output; `width` characters wide where it is no terminal, so that nothing is cut."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else width)


def print_figures(result: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    """The run's figures, those of chance and of the baseline, and what they depend on."""
    seeds = result["seeds"]
    several = len(seeds) > 1
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("%")
    for name in FIGURE_NAMES.values():
        table.add_column(name, justify="right")
    metrics = [result["metrics"][key] for key in FIGURE_NAMES]
    table.add_row(result["method"], *(mean_percent(value, several=several) for value in metrics))
    baseline = details.get("baseline")
    if baseline:
        table.add_row(baseline["method"], *(percent(baseline["figures"].get(key)) for key in FIGURE_NAMES))
    default = details.get("default")
    if default:
        table.add_row(default["method"], *(percent(default["figures"].get(key)) for key in FIGURE_NAMES))
    chance = details.get("chance")
    if chance:
        table.add_row("chance", *(percent(chance.get(key)) for key in FIGURE_NAMES))
    out = console()
    out.print(table)
    out.print()
    for line in _provenance(result, details):
        out.print(line, markup=False, soft_wrap=True)


def _provenance(result: Mapping[str, Any], details: Mapping[str, Any]) -> list[str]:
    seeds, backbone = result["seeds"], result["backbone"] or "an unknown backbone"
    lines = [
        f"{result['dataset']}, semantics {result['semantics']}, features of {backbone}; "
        f"protocol {result['protocol']}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}; "
        f"{result['seconds']:.0f} s"
    ]
    if result["protocol"] == "oracle":
        evaluations = sum(seed["test_evaluations"] for seed in details["seeds_detail"])
        lines.append(
            f"chosen on the test images, which were scored {evaluations} times; for comparison with printed tables"
        )
    if len(seeds) == 1:
        spread = details["seeds_detail"][0]["spread_over_classes"]
        parts = [f"{FIGURE_NAMES[key]} {percent(spread[key])}" for key in FIGURE_NAMES if key in spread]
        lines.append(f"spread over classes (bootstrap): {', '.join(parts)}")
    if "version" in result:
        lines += _of_version(result, details)
    if result.get("adapted_to_pools"):
        lines.append(
            "adapted to photos without labels: where these were test images, the figures are transductive"
        )
    lines.append(f"run folder: {result['run']}")
    return lines


def _of_version(result: Mapping[str, Any], details: Mapping[str, Any]) -> list[str]:
    """Which version the figures are of, how it was made, and which of its classes nothing was tested on."""
    history = details["history"]
    names = ", ".join(history.get("classes", ()))
    made = {
        "add-class": f"added {names}",
        "remove-class": f"removed {names}",
        "adapt": f"adapted to {history.get('photos')} photos",
    }.get(str(history.get("action")), "changed")
    lines = [
        f"version {result['version']}: {made} (made from version {history.get('parent', '?')}); "
        f"{history['classes_now']} classes, over which chance and baseline are computed, too"
    ]
    if history["untested"]:
        few = ", ".join(history["untested"][:5]) + (", ..." if len(history["untested"]) > 5 else "")
        lines.append(f"no test image is of {few}: such a class only competes with the others")
    if details.get("baseline") is None:
        lines.append("no baseline: the run has none, or it takes no new classes")
    return lines


def print_outline(run: Outline) -> None:
    """What a run would do, with sizes and a rough time."""
    from dkgzsl.runs.outline import estimate

    expected = estimate(run)
    size = "" if run.dimensions is None else f", {run.dimensions} dimensions"
    rows = [
        ("data set", f"{run.dataset}, {run.classes} classes"),
        ("features", run.features),
        ("semantics", f"{run.semantics}{size}"),
        ("training images", f"{run.training} of {run.classes - run.unseen} seen classes"),
        ("test images", f"{run.test_seen} seen, {run.test_unseen} of {run.unseen} unseen"),
        ("method", f"{run.method}, {method_title(run.method)}"),
        ("protocol", run.protocol),
        ("seeds", ", ".join(map(str, run.seeds))),
        ("device", str(run.device)),
    ]
    if run.epochs is not None:
        rows.append(("epochs", str(run.epochs)))
    seconds, gigabytes = expected.seconds, expected.gigabytes
    of = "this method" if gigabytes is not None else "features of unknown size"
    rows.append(("memory", f"about {gigabytes:.1f} GB" if gigabytes is not None else f"not known for {of}"))
    rows.append(("time", f"about {_duration(seconds)}" if seconds is not None else f"not known for {of}"))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2))
    for name, value in rows:
        table.add_row(name, value)
    out = console()
    out.print(table)
    for note in run.notes:
        out.print(note, markup=False, soft_wrap=True)
    out.print("dry run: nothing was written")
    if run.missing is not None:
        out.print(f"before it can run: {run.missing}", markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
