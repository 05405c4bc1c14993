"""The map of the features: real and synthesized features on two axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from dkgzsl.report import wording
from dkgzsl.report.charts.svg import COLOUR, MARKERS, SERIES, Chart, draw, label, plain
from dkgzsl.report.record.feature_map import FeatureMap

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_REACH = 1.6  # room around the middle nine tenths of the points
_SIDE = 290.0  # of the axes, about, in the chart's units
_LETTER = 0.62  # width of a letter over the size of its font


def map_chart(name: str, drawn: FeatureMap, class_names: Sequence[str]) -> Chart:
    """Real and synthesized features of some unseen classes, and training images of the nearest seen classes.

    Args:
        name: name of the chart.
        drawn: the points.
        class_names: names of all classes.
    """
    unseen = _ordered(drawn.synthesized_labels)
    seen = _ordered(drawn.seen_labels)

    def paint(figure: Figure) -> None:
        axes = plain(figure.add_subplot())
        axes.set(xticklabels=[], yticklabels=[], xlabel="first axis", ylabel="second axis")
        axes.plot(
            *drawn.seen.T.numpy(), "x", color=COLOUR["muted"], markersize=3.5, alpha=0.55, linestyle="none",
            label="nearest seen classes, training images",
        )  # fmt: skip
        for number, c in enumerate(unseen):
            colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
            synthesized, real = (
                drawn.synthesized[drawn.synthesized_labels == c],
                drawn.real[drawn.real_labels == c],
            )
            axes.plot(
                *synthesized.T.numpy(), marker, color=colour, markersize=5.5, markerfacecolor="none", alpha=0.8,
                linestyle="none", markeredgewidth=1, label="unseen classes, synthesized" if number == 0 else None,
            )  # fmt: skip
            axes.plot(
                *real.T.numpy(), marker, color=colour, markersize=4.5, markeredgewidth=0, alpha=0.75,
                linestyle="none", label="unseen classes, real test images" if number == 0 else None,
            )  # fmt: skip
        points = torch.cat([drawn.real, drawn.synthesized, drawn.seen])
        low, high = points.quantile(0.02, dim=0), points.quantile(0.98, dim=0)
        middle, reach = (low + high) / 2, (_REACH * (high - low) / 2).clamp(min=1)
        axes.set_xlim(float(middle[0] - reach[0]), float(middle[0] + reach[0]))
        axes.set_ylim(float(middle[1] - reach[1]), float(middle[1] + reach[1]))
        names = [
            _Name(drawn.synthesized[drawn.synthesized_labels == c].mean(0), class_names[c], 11.0) for c in unseen
        ]
        names += [_Name(drawn.seen[drawn.seen_labels == c].mean(0), class_names[c], 10.0) for c in seen]
        for number, (text, x, y) in enumerate(_placed(names, 2 * reach / _SIDE)):
            bold = number < len(unseen)
            label(
                axes, x, y, text, ha="center", va="center", fontsize=names[number].size,
                fontweight="bold" if bold else "normal", color=COLOUR["ink" if bold else "muted"],
            )  # fmt: skip
        figure.legend(loc="outside lower left", labelspacing=0.35)

    title = "Real and synthesized features of unseen classes"
    rows = tuple(_row(drawn, c, class_names) for c in unseen)
    words = "; ".join(
        f"{row[0]}: mean of the real ones {row[3]}, of the synthesized ones {row[4]}" for row in rows
    )
    return Chart(
        draw(name, title=title, description=words, height=400, paint=paint),
        title,
        ("class", "real", "synthesized", "mean of the real", "mean of the synthesized"),
        rows,
    )


class _Name:
    """A class name, the point at which it is to stand, and the size of its font."""

    def __init__(self, place: torch.Tensor, name: str, size: float) -> None:
        self.place, self.text, self.size = place, wording.short(wording.name(name), 16), size


def _placed(names: Sequence[_Name], unit: torch.Tensor) -> list[tuple[str, float, float]]:
    """Names moved up or down until none covers another; earlier names are placed first.

    Args:
        names: the names.
        unit: one unit of the chart along each axis, in coordinates of the map.

    Returns:
        Text and place of each name, in coordinates of the map.
    """
    # Middle, half width and half height of the names so far, in units of the chart.
    taken: list[tuple[float, float, float, float]] = []
    placed = []
    for name in names:
        x, wanted = (name.place / unit).tolist()
        width, height = _LETTER * name.size * len(name.text) / 2, 0.62 * name.size
        steps = [0.0, *(sign * step * height for step in range(1, 12) for sign in (-1, 1))]
        free = (
            wanted + step
            for step in steps
            if all(abs(x - a) > width + w or abs(wanted + step - b) > height + h for a, b, w, h in taken)
        )
        y = next(free, wanted)
        taken.append((x, y, width, height))
        placed.append((name.text, x * float(unit[0]), y * float(unit[1])))
    return placed


def _ordered(labels: torch.Tensor) -> list[int]:
    return list(dict.fromkeys(labels.tolist()))


def _row(drawn: FeatureMap, c: int, class_names: Sequence[str]) -> tuple[str, ...]:
    real, synthesized = drawn.real[drawn.real_labels == c], drawn.synthesized[drawn.synthesized_labels == c]

    def mean(points: torch.Tensor) -> str:
        return "({:.1f}, {:.1f})".format(*points.mean(0).tolist()) if len(points) else wording.DASH

    return wording.name(class_names[c]), str(len(real)), str(len(synthesized)), mean(real), mean(synthesized)
