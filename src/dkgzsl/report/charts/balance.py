"""Charts of the balance between seen and unseen classes: the curve, where images went, accuracy class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from dkgzsl.evaluation.metrics import SeenUnseenCurve
from dkgzsl.report.charts.svg import COLOUR, MARKERS, SERIES, Chart, draw, one_axes, plain
from dkgzsl.report.record.predictions import Destinations
from dkgzsl.report.wording import percent, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_POINTS = 400
_ROWS = 21


@dataclass(frozen=True)
class Line:
    """One curve of the seen-unseen chart.

    Attributes:
        name: in the legend; empty for a line without an entry.
        curve: its points.
        area: AUSUC, as the results have it.
        raw: U and S without a constant.
        calibrated: U and S with validation's constant, where there is one.
    """

    name: str
    curve: SeenUnseenCurve
    area: float | None
    raw: tuple[float, float] | None = None
    calibrated: tuple[float, float] | None = None


def curve_chart(
    name: str, lines: Sequence[Line], *, beside: Sequence[SeenUnseenCurve] = (), name_points: bool = True
) -> Chart:
    """Seen over unseen accuracy as a constant favours the unseen classes more and more.

    Args:
        name: of the chart.
        lines: the curves; the first is the run, others are compared with it.
        beside: curves of further seeds of the first, drawn thin.
        name_points: whether the points of the first stand in the legend.
    """
    colours = (COLOUR["ours"], COLOUR["peer"], *SERIES[2:], *SERIES[:2])
    dashes = ("-", "--", "-.", ":")

    def paint(figure: Figure) -> None:
        axes = one_axes(figure)
        first = _thinned(lines[0].curve)
        axes.fill_between(*first, 0, color=COLOUR["ours"], alpha=0.10, linewidth=0)
        for curve in beside:
            axes.plot(*_thinned(curve), color=COLOUR["ours"], linewidth=0.8, alpha=0.6)
        for number, line in reversed(list(enumerate(lines))):
            colour = colours[number % len(colours)]
            text = f"{short(line.name, 30)}, AUSUC {percent(line.area)}" if line.name else None
            style = dashes[number % len(dashes)]
            axes.plot(*_thinned(line.curve), style, color=colour, label=text, solid_joinstyle="round")
        for number, line in reversed(list(enumerate(lines))):
            colour = colours[number % len(colours)]
            for kind, point, marker, fill in (
                ("raw", line.raw, "o", COLOUR["paper"]),
                ("calibrated", line.calibrated, "D", colour),
            ):
                if point is not None:
                    axes.plot(
                        100 * point[0],
                        100 * point[1],
                        marker,
                        color=colour,
                        markerfacecolor=fill,
                        markersize=7,
                        markeredgewidth=2,
                        linestyle="none",
                        zorder=5,
                        label=_point_name(kind, point) if number == 0 and name_points else None,
                    )
        axes.set(
            xlim=(0, 101), ylim=(0, 101), xlabel="unseen images told right, %", ylabel="seen images told right, %"
        )
        axes.set_aspect("equal")
        handles, labels = axes.get_legend_handles_labels()
        named = sum(bool(line.name) for line in lines)
        order = [*reversed(range(named)), *range(named, len(handles))]  # drawn last, named first
        figure.legend(
            [handles[n] for n in order],
            [labels[n] for n in order],
            loc="outside lower left",
            labelspacing=0.35,
            borderpad=0.9,
        )

    points = "; ".join(
        f"{line.name or 'this model'}: AUSUC {percent(line.area)} %"
        + (f", raw U {percent(line.raw[0])} % and S {percent(line.raw[1])} %" if line.raw else "")
        + (
            f", calibrated U {percent(line.calibrated[0])} % and S {percent(line.calibrated[1])} %"
            if line.calibrated
            else ""
        )
        for line in lines
    )
    title = "Accuracy on seen over accuracy on unseen classes"
    entries = len(lines) + 2 * name_points
    return Chart(
        draw(name, title=title, description=points, height=310 + 17 * entries, paint=paint),
        title,
        ("unseen right, %", *(f"seen right, %: {line.name or 'this model'}" for line in lines)),
        _curve_rows(lines),
    )


def _point_name(kind: str, point: tuple[float, float]) -> str:
    return f"{kind}: U {percent(point[0])}, S {percent(point[1])}"


def _thinned(curve: SeenUnseenCurve) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Some of the curve's points, in percent, both ends among them, evenly along its length."""
    x, y = 100 * curve.unseen, 100 * curve.seen
    if len(x) <= _POINTS:
        return x, y
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], _POINTS)))
    return x[kept], y[kept]


def _curve_rows(lines: Sequence[Line]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for level in np.linspace(0, 1, _ROWS):
        cells = []
        for line in lines:
            x, y = line.curve.unseen, line.curve.seen
            reached = np.flatnonzero(x >= level - 1e-9)  # the best S at which U is at least that
            cells.append(percent(float(y[reached].max())) if len(reached) else "not reached")
        rows.append((percent(float(level), 0), *cells))
    return tuple(rows)


def destinations_chart(
    name: str, found: Sequence[tuple[str, Destinations]], *, kinds: tuple[str, str, str]
) -> Chart:
    """Where images went: right, another class of their kind, the other kind.

    Args:
        name: of the chart.
        found: a bar each: what its images are, and their shares.
        kinds: words for the three.
    """
    colours = (COLOUR["good"], COLOUR["near"], COLOUR["far"])
    hatches = ("", "", "////")
    values = [(d.right, d.same_side, d.other_side) for _, d in found]

    def paint(figure: Figure) -> None:
        axes = plain(figure.add_subplot())
        axes.grid(False)
        for side in axes.spines.values():
            side.set_visible(False)
        left = np.zeros(len(found))
        places = np.arange(len(found))[::-1]
        for kind in range(3):
            widths = np.array([100 * row[kind] for row in values])
            axes.barh(
                places,
                widths,
                0.62,
                left=left,
                color=colours[kind],
                label=kinds[kind],
                hatch=hatches[kind],
                edgecolor=COLOUR["paper"],
                linewidth=1,
            )
            for place, start, width in zip(places, left, widths, strict=True):
                if width >= 11:
                    box = {"facecolor": COLOUR["paper"], "edgecolor": "none", "pad": 1.5} if kind else None
                    axes.text(
                        start + width / 2, place, percent(width / 100), ha="center", va="center", fontsize=11,
                        color=COLOUR["ink" if kind else "paper"], fontweight="bold", bbox=box,
                    )  # fmt: skip
            left += widths
        axes.set(xlim=(0, 100), xticks=[], yticks=places)
        axes.set_yticklabels([text for text, _ in found], color=COLOUR["ink"])
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", labelspacing=0.35)

    title = "Where the test images went"
    words = "; ".join(
        f"{text}: {percent(d.right)} % right, {percent(d.same_side)} % to another class of their kind, "
        f"{percent(d.other_side)} % to the other kind"
        for text, d in found
    )
    return Chart(
        draw(name, title=title, description=words, height=24 + 36 * len(found) + 3 * 18, paint=paint),
        title,
        ("%", *kinds),
        tuple((text, *map(percent, row)) for (text, _), row in zip(found, values, strict=True)),
    )


def class_chart(
    name: str,
    accuracies: Float[np.ndarray, " classes"],
    is_unseen: Bool[np.ndarray, " classes"],
) -> Chart:
    """Accuracy of each class, sorted within seen and unseen ones; NaN for classes without test images.

    The table here has only the quartiles: the page has one of every class.
    """
    groups = []
    for text, mask, colour, marker in (
        ("unseen classes", is_unseen, COLOUR["ours"], MARKERS[0]),
        ("seen classes", ~is_unseen, COLOUR["muted"], MARKERS[1]),
    ):
        values = np.sort(accuracies[mask & ~np.isnan(accuracies)])[::-1]
        if len(values):
            groups.append((text, values, colour, marker))

    def paint(figure: Figure) -> None:
        axes = one_axes(figure)
        for text, values, colour, marker in groups:
            place = (np.arange(len(values)) + 0.5) / len(values) * 100
            axes.plot(
                place, 100 * values, color=colour, linewidth=1.2 if len(values) < 60 else 2.4,
                marker=marker if len(values) < 60 else None, markersize=5.5,
                label=f"{text}: {percent(float(values.mean()))} on average",
            )  # fmt: skip
        axes.set(
            xlim=(0, 100),
            ylim=(-2, 102),
            xlabel="share of the classes, best to worst, %",
            ylabel="images told right, %",
        )
        figure.legend(loc="outside lower left", labelspacing=0.35)

    title = "Accuracy class by class, best to worst"
    rows, words = [], []
    for text, values, _, _ in groups:
        cells = [float(values.mean()), *(float(q) for q in np.quantile(values, [1, 0.75, 0.5, 0.25, 0]))]
        rows.append((text, str(len(values)), *map(percent, cells)))
        words.append(f"{len(values)} {text}: mean {percent(cells[0])} %, worst {percent(cells[-1])} %")
    return Chart(
        draw(name, title=title, description="; ".join(words), height=250, paint=paint),
        title,
        ("", "classes", "mean, %", "best", "upper quartile", "median", "lower quartile", "worst"),
        tuple(rows),
    )
