"""Figures and plans as people read them on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dkgzsl.benchmark.table import FURTHER, cells_of_row, column_title, notes_of
from dkgzsl.display import FIGURE_NAMES, counted, in_100, mean_percent, percent
from dkgzsl.methods.registry import method_title
from dkgzsl.report.estimate import Estimate, headline, leaning, what_it_is

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
    """The run's figures, those of chance and of the baseline, and what they depend on.

    Where no described class has test photos, the figures are those on held-out seen classes.
    """
    seeds = result["seeds"]
    estimate = headline(result["metrics"], details["seeds_detail"])
    if estimate is not None:
        _print_estimate(estimate, result, details)
        return
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
    lines = [found(result, details), leaning(*_compared(result, details)), *_provenance(result, details)]
    _print_lines(out, lines)


def found(result: Mapping[str, Any], details: Mapping[str, Any]) -> str | None:
    """What the calibrated decision can do, in one sentence; None where no unseen class has test images."""
    metrics, chance = result["metrics"], details.get("chance") or {}
    u, s = (metrics.get(f"{key}_calibrated") or metrics.get(key) for key in ("u", "s"))
    if u is None or "t1" not in chance:
        return None
    unseen, every = round(1 / chance["t1"]), round(1 / chance["u"])
    classes = counted(unseen, "class", "classes")
    method = result["method"]
    sentence = f"{method} correctly names {in_100(u['mean'])} images of the {classes} without training images"
    if s is not None:
        sentence += f", and {in_100(s['mean'])} images of the other {counted(every - unseen, 'class', 'classes')}"
    other = (details.get("baseline") or {}).get("figures", {})
    theirs = [other.get(f"{key}_calibrated") or other.get(key) for key in ("u", "s")]
    if None not in theirs and theirs[0]:
        shares = " and ".join(in_100(share).removesuffix(" of 100") for share in theirs)
        sentence += f"; {details['baseline']['method']} names {shares}"
    return f"{sentence}; a guess among all {every} classes is right for {in_100(chance['u'])}"


def _print_estimate(estimate: Estimate, result: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("estimated, %")
    for name in FIGURE_NAMES.values():
        table.add_column(name, justify="right")
    table.add_row(result["method"], *map(estimate.text, FIGURE_NAMES))
    for other in (details.get("baseline"), details.get("default")):
        found = Estimate.of([other]) if other else None
        if other and found is not None:
            title = other["method"] if found.cuts == estimate.cuts else f"{other['method']} ({found.cuts} cut)"
            table.add_row(title, *map(found.text, FIGURE_NAMES))
    out, metrics = console(), result["metrics"]
    out.print(table)
    out.print()
    tested = "" if metrics["s"] is None else f"on test photos of seen classes: S {mean_percent(metrics['s'])} raw"
    if metrics.get("s_calibrated") is not None:
        tested += f", {mean_percent(metrics['s_calibrated'])} calibrated (all classes can be predicted)"
    lines = [*what_it_is(estimate, result["method"]), tested, leaning(*_compared(result, details))]
    _print_lines(out, [*lines, *_provenance(result, details, spread=False)])


def _compared(result: Mapping[str, Any], details: Mapping[str, Any]) -> tuple[Any, ...]:
    return result["method"], result["metrics"], details.get("baseline"), details["seeds_detail"]


def _print_lines(out: Console, lines: Sequence[str | None]) -> None:
    for line in lines:
        if line:
            out.print(line, markup=False, soft_wrap=True)


def _provenance(result: Mapping[str, Any], details: Mapping[str, Any], *, spread: bool = True) -> list[str]:
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
    if len(seeds) == 1 and spread:
        found = details["seeds_detail"][0]["spread_over_classes"]
        parts = [f"{FIGURE_NAMES[key]} {percent(found[key])}" for key in FIGURE_NAMES if key in found]
        if parts:
            lines.append(f"spread over classes (bootstrap): {', '.join(parts)}")
    if "version" in result:
        lines += _of_version(result, details)
    if result.get("adapted_to_pools"):
        lines.append(
            "adapted to photos without labels: where these were test images, the figures are transductive"
        )
    page = Path(result["run"]) / "report.html"
    lines.append(f"run folder: {result['run']}")
    if page.is_file():
        lines.append(f"report: {page}")
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
    title = method_title(run.method)
    rows = [
        ("data set", f"{run.dataset}, {run.classes} classes"),
        ("features", run.features),
        ("semantics", f"{run.semantics}{size}"),
        ("training images", f"{run.training:,} of {run.classes - run.unseen} seen classes"),
        ("test images", f"{run.test_seen:,} of seen classes, {run.test_unseen:,} of {run.unseen} unseen classes"),
        ("method", run.method if title.lower() == run.method.replace("-", " ") else f"{run.method}, {title}"),
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
