"""Charts of accuracy: the seen-unseen curve, shares of correct and wrong predictions, each class, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float

from dkgzsl.evaluation.metrics import SeenUnseenCurve
from dkgzsl.report.charts.svg import COLOUR, MARKERS, SERIES, Chart, draw, one_axes, plain
from dkgzsl.report.record.predictions import PredictionShares
from dkgzsl.report.wording import percent, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_POINTS: Final = 400
_ROWS: Final = 21
_COLOURS: Final = (COLOUR["ours"], COLOUR["peer"], *SERIES[2:], *SERIES[:2])
_DASHES: Final = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Line:
    """One curve of the seen-unseen chart; accuracies are fractions of 1.

    Attributes:
        name: in the legend; empty for a line without an entry.
        curve: its points.
        area: AUSUC, as the results have it.
        raw: U and S without a constant.
        calibrated: U and S with the calibration constant from validation; None without validation.
    """

    name: str
    curve: SeenUnseenCurve
    area: float | None
    raw: tuple[float, float] | None = None
    calibrated: tuple[float, float] | None = None


def curve_chart(
    name: str, lines: Sequence[Line], *, further_seeds: Sequence[SeenUnseenCurve] = (), name_points: bool = True
) -> Chart:
    """Accuracy on seen classes over accuracy on unseen classes, for all calibration constants.

    Args:
        name: name of the chart.
        lines: the curves; the first is the run, the others are compared with it.
        further_seeds: curves of further seeds of the first line, drawn thin.
        name_points: whether the legend names the points of the first line.
    """

    def paint(figure: Figure) -> None:
        axes = one_axes(figure)
        axes.fill_between(*_thinned(lines[0].curve), 0, color=COLOUR["ours"], alpha=0.10, linewidth=0)
        for curve in further_seeds:
            axes.plot(*_thinned(curve), color=COLOUR["ours"], linewidth=0.8, alpha=0.6)
        numbered = list(enumerate(lines))[::-1]  # the first is drawn last, on top of the others
        for number, line in numbered:
            text = f"{short(line.name, 30)}, AUSUC {percent(line.area)}" if line.name else None
            colour, style = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
            axes.plot(*_thinned(line.curve), style, color=colour, label=text, solid_joinstyle="round")
        for number, line in numbered:
            colour = _COLOURS[number % len(_COLOURS)]
            _point(axes, "raw", line.raw, colour, named=name_points and number == 0)
            _point(axes, "calibrated", line.calibrated, colour, named=name_points and number == 0)
        axes.set(xlim=(0, 101), ylim=(0, 101), xlabel="U: accuracy on unseen classes, %")
        axes.set_ylabel("S: accuracy on seen classes, %")
        axes.set_aspect("equal")
        _legend(figure, axes, sum(bool(line.name) for line in lines))

    title = "Accuracy on seen over accuracy on unseen classes"
    height = 310 + 17 * (len(lines) + 2 * name_points)
    return Chart(
        draw(name, title=title, description="; ".join(map(_line_in_words, lines)), height=height, paint=paint),
        title,
        ("U, %", *(f"S, %: {line.name or 'this model'}" for line in lines)),
        _curve_rows(lines),
    )


def _point(axes: Axes, kind: str, point: tuple[float, float] | None, colour: str, *, named: bool) -> None:
    """The raw decision (a circle) or the calibrated one (a diamond) on a curve."""
    if point is None:
        return
    u, s = point
    axes.plot(
        100 * u, 100 * s, "o" if kind == "raw" else "D", color=colour, markersize=7, markeredgewidth=2,
        markerfacecolor=COLOUR["paper"] if kind == "raw" else colour, linestyle="none", zorder=5,
        label=f"{kind}: U {percent(u)}, S {percent(s)}" if named else None,
    )  # fmt: skip


def _legend(figure: Figure, axes: Axes, named: int) -> None:
    """The legend, the lines in their own order although they were drawn in reverse, then the points."""
    handles, labels = axes.get_legend_handles_labels()
    order = [*reversed(range(named)), *range(named, len(handles))]
    figure.legend(
        [handles[n] for n in order], [labels[n] for n in order], loc="outside lower left", labelspacing=0.35,
        borderpad=0.9,
    )  # fmt: skip


def _line_in_words(line: Line) -> str:
    words = f"{line.name or 'this model'}: AUSUC {percent(line.area)} %"
    for kind, point in (("raw", line.raw), ("calibrated", line.calibrated)):
        if point is not None:
            words += f", {kind} U {percent(point[0])} % and S {percent(point[1])} %"
    return words


def _thinned(curve: SeenUnseenCurve) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Some points of the curve, in percent, both ends among them, evenly spaced along its length."""
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


def shares_chart(name: str, bars: Sequence[tuple[str, PredictionShares]], *, kinds: tuple[str, str, str]) -> Chart:
    """Shares of correct predictions, of errors within a kind of classes, and of errors between the kinds.

    Args:
        name: name of the chart.
        bars: what the images of a bar are, and their shares.
        kinds: words for the three shares.
    """
    colours = (COLOUR["good"], COLOUR["near"], COLOUR["far"])
    hatches = ("", "", "////")
    values = [(shares.correct, shares.same_kind, shares.other_kind) for _, shares in bars]

    def paint(figure: Figure) -> None:
        axes = plain(figure.add_subplot())
        axes.grid(False)
        for side in axes.spines.values():
            side.set_visible(False)
        left = np.zeros(len(bars))
        places = np.arange(len(bars))[::-1]
        for kind in range(3):
            widths = np.array([100 * row[kind] for row in values])
            axes.barh(
                places, widths, 0.62, left=left, color=colours[kind], label=kinds[kind], hatch=hatches[kind],
                edgecolor=COLOUR["paper"], linewidth=1,
            )  # fmt: skip
            for place, start, width in zip(places, left, widths, strict=True):
                if width >= 11:
                    box = {"facecolor": COLOUR["paper"], "edgecolor": "none", "pad": 1.5} if kind else None
                    axes.text(
                        start + width / 2, place, percent(width / 100), ha="center", va="center", fontsize=11,
                        color=COLOUR["ink" if kind else "paper"], fontweight="bold", bbox=box,
                    )  # fmt: skip
            left += widths
        axes.set(xlim=(0, 100), xticks=[], yticks=places)
        axes.set_yticklabels([text for text, _ in bars], color=COLOUR["ink"])
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", labelspacing=0.35)

    title = "Correct and wrong predictions"
    words = "; ".join(
        f"{text}: {', '.join(f'{percent(value)} % {kind}' for kind, value in zip(kinds, row, strict=True))}"
        for (text, _), row in zip(bars, values, strict=True)
    )
    return Chart(
        draw(name, title=title, description=words, height=24 + 36 * len(bars) + 3 * 18, paint=paint),
        title,
        ("%", *kinds),
        tuple((text, *map(percent, row)) for (text, _), row in zip(bars, values, strict=True)),
    )


def class_chart(
    name: str,
    accuracies: Float[np.ndarray, " classes"],
    is_unseen: Bool[np.ndarray, " classes"],
) -> Chart:
    """Accuracy of each class, sorted; unseen and seen classes are two lines.

    The table of this chart has quartiles only, because the page has a table of all classes.

    Args:
        name: name of the chart.
        accuracies: fractions of 1; NaN for a class without test images.
        is_unseen: whether a class is unseen.
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
                label=f"{text}, mean {percent(float(values.mean()))}",
            )  # fmt: skip
        axes.set(xlim=(0, 100), ylim=(-2, 102), xlabel="classes, best to worst, %", ylabel="accuracy, %")
        figure.legend(loc="outside lower left", labelspacing=0.35)

    title = "Accuracy of each class, best to worst"
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


def reliability_chart(name: str, found: Mapping[str, Any] | None) -> Chart | None:
    """Accuracy over probability, one point for each bin of probabilities; a larger point has more images.

    Args:
        name: name of the chart.
        found: mean probability (`confidence`), accuracy and share of the images (`weight`) of each bin, and the
            expected calibration error (`ece`), all fractions of 1.

    Returns:
        None where the reliability was not measured.
    """
    if not found or not found["confidence"]:
        return None
    bins = list(zip(found["confidence"], found["accuracy"], found["weight"], strict=True))
    confidence, accuracy, weight = (100 * np.array(values) for values in zip(*bins, strict=True))

    def paint(figure: Figure) -> None:
        axes = one_axes(figure)
        axes.plot([0, 100], [0, 100], "--", color=COLOUR["muted"], linewidth=1.2)
        axes.scatter(confidence, accuracy, s=16 + 3 * weight, color=COLOUR["ours"], zorder=3, clip_on=False)
        axes.set(xlim=(0, 102), ylim=(0, 102), xlabel="probability of the predicted class, %")
        axes.set_ylabel("accuracy, %")
        axes.set_aspect("equal")

    title = "Accuracy over probability"
    words = f"Expected calibration error {percent(found['ece'])} points. " + "; ".join(
        f"probability {percent(sure, 0)} %: accuracy {percent(correct, 0)} % ({percent(share, 0)} % of the images)"
        for sure, correct, share in bins
    )
    return Chart(
        draw(name, title=title, description=words, height=320, paint=paint),
        title,
        ("probability, %", "accuracy, %", "share of the images, %"),
        tuple((percent(sure), percent(correct), percent(share)) for sure, correct, share in bins),
    )
