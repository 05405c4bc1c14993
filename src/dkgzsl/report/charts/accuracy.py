"""Charts of accuracy: the seen-unseen curve, shares of correct and wrong predictions, each class, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float

from dkgzsl.evaluation.metrics import SeenUnseenCurve
from dkgzsl.report.charts.drawing import (
    Line,
    class_groups,
    draw_classes,
    draw_curves,
    draw_reliability,
    legend_entries,
    plain,
)
from dkgzsl.report.charts.svg import COLOUR, Chart, draw, one_axes
from dkgzsl.report.record.predictions import PredictionShares
from dkgzsl.report.wording import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_ROWS: Final = 21


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
        draw_curves(axes, lines, COLOUR, further_seeds=further_seeds, name_points=name_points)
        figure.legend(
            *legend_entries(axes, sum(bool(line.name) for line in lines)), loc="outside lower left",
            labelspacing=0.35, borderpad=0.9,
        )  # fmt: skip

    title = "Accuracy on seen over accuracy on unseen classes"
    height = 310 + 17 * (len(lines) + 2 * name_points)
    return Chart(
        draw(name, title=title, description="; ".join(map(_line_in_words, lines)), height=height, paint=paint),
        title,
        ("U, %", *(f"S, %: {line.name or 'this model'}" for line in lines)),
        _curve_rows(lines),
    )


def _line_in_words(line: Line) -> str:
    words = f"{line.name or 'this model'}: AUSUC {percent(line.area)} %"
    for kind, point in (("raw", line.raw), ("calibrated", line.calibrated)):
        if point is not None:
            words += f", {kind} U {percent(point[0])} % and S {percent(point[1])} %"
    return words


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
    """Accuracy of each class, sorted; the bars of unseen classes stand before those of seen ones.

    The table of this chart has quartiles only, because the page has a table of all classes.

    Args:
        name: name of the chart.
        accuracies: fractions of 1; NaN for a class without test images.
        is_unseen: whether a class is unseen.
    """
    groups = class_groups(accuracies, is_unseen)

    def paint(figure: Figure) -> None:
        axes = one_axes(figure)
        draw_classes(axes, groups, COLOUR)
        figure.legend(loc="outside lower left", labelspacing=0.35)

    title = "Accuracy of each class, best to worst"
    rows, words = [], []
    for group in groups:
        text, values = f"{group.kind} classes", group.accuracies
        cells = [float(values.mean()), *(float(q) for q in np.quantile(values, [1, 0.75, 0.5, 0.25, 0]))]
        rows.append((text, str(len(values)), *map(percent, cells)))
        words.append(f"{len(values)} {text}: mean {percent(cells[0])} %, worst {percent(cells[-1])} %")
    return Chart(
        draw(name, title=title, description="; ".join(words), height=250, paint=paint),
        title,
        ("kind", "classes", "mean, %", "best", "upper quartile", "median", "lower quartile", "worst"),
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
    confidence, accuracy, weight = (np.array(values) for values in zip(*bins, strict=True))

    def paint(figure: Figure) -> None:
        axes = one_axes(figure)
        draw_reliability(axes, confidence, accuracy, weight, COLOUR)

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
