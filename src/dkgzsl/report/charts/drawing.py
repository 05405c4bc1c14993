"""What the report's charts and `dkgzsl.plots` draw on axes, in colours by role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Bool, Float, Integer

from dkgzsl.evaluation.metrics import SeenUnseenCurve
from dkgzsl.report import wording
from dkgzsl.report.wording import percent, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Palette = Mapping[str, str]
"""Colour of each role: ink, muted, line, paper, ours, peer, and c1 to c8 for several lines or groups."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "p")

_POINTS: Final = 400
_DASHES: Final = ("-", "--", "-.", ":")
_FEW: Final = 30  # classes whose names stand below their bars
_GAP: Final = 1.0  # between the bars of unseen and of seen classes, in bars
_REACH: Final = 1.6  # room around the middle nine tenths of the points
_SIDE: Final = 290.0  # of the axes of a map, about, in points
_LETTER: Final = 0.62  # width of a letter over the size of its font


def series(colours: Palette) -> tuple[str, ...]:
    """Colours of several lines or groups; colour-blind people can distinguish them."""
    return tuple(colours[f"c{number}"] for number in range(1, 9))


def plain(axes: Axes) -> Axes:
    """Remove the frame and the ticks, add a light grid."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    return axes


def label(axes: Axes, x: float, y: float, text: str, **how: Any) -> None:
    """Write on top of lines and points; the page's style puts an outline around the letters."""
    axes.text(x, y, text, gid="outlined", zorder=9, in_layout=False, **how)


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


def draw_curves(
    axes: Axes,
    lines: Sequence[Line],
    colours: Palette,
    *,
    further_seeds: Sequence[SeenUnseenCurve] = (),
    name_points: bool = True,
) -> None:
    """Accuracy on seen classes over accuracy on unseen classes, in percent, for all calibration constants.

    Args:
        axes: to draw on.
        lines: the curves; the first is drawn on top, and the area under it is filled.
        colours: by role.
        further_seeds: curves of further seeds of the first line, drawn thin.
        name_points: whether the legend names the points of the first line.
    """
    several = series(colours)
    order = (colours["ours"], colours["peer"], *several[2:], *several[:2])
    axes.fill_between(*thinned(lines[0].curve), 0, color=order[0], alpha=0.10, linewidth=0)
    for curve in further_seeds:
        axes.plot(*thinned(curve), color=order[0], linewidth=0.8, alpha=0.6)
    numbered = list(enumerate(lines))[::-1]  # the first is drawn last, on top of the others
    for number, line in numbered:
        text = f"{short(line.name, 30)}, AUSUC {percent(line.area)}" if line.name else None
        style = _DASHES[number % len(_DASHES)]
        colour = order[number % len(order)]
        axes.plot(*thinned(line.curve), style, color=colour, label=text, solid_joinstyle="round")
    for number, line in numbered:
        for kind, point in (("raw", line.raw), ("calibrated", line.calibrated)):
            if point is not None:
                colour = order[number % len(order)]
                axes.plot(
                    100 * point[0], 100 * point[1], "o" if kind == "raw" else "D", color=colour, markersize=7,
                    markeredgewidth=2, linestyle="none", zorder=5,
                    markerfacecolor=colours["paper"] if kind == "raw" else colour,
                    label=_point_in_words(kind, point) if name_points and number == 0 else None,
                )  # fmt: skip
    axes.set(xlim=(0, 101), ylim=(0, 101), xlabel="U: accuracy on unseen classes, %")
    axes.set_ylabel("S: accuracy on seen classes, %")
    axes.set_aspect("equal")


def _point_in_words(kind: str, point: tuple[float, float]) -> str:
    return f"{kind}: U {percent(point[0])}, S {percent(point[1])}"


def legend_entries(axes: Axes, named: int) -> tuple[list[Any], list[str]]:
    """Handles and labels of `draw_curves`, the lines in their own order although they were drawn in reverse.

    Args:
        axes: with the curves.
        named: number of lines that have a name.
    """
    handles, labels = axes.get_legend_handles_labels()
    order = [*reversed(range(named)), *range(named, len(handles))]
    return [handles[n] for n in order], [labels[n] for n in order]


def thinned(curve: SeenUnseenCurve) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Some points of the curve, in percent, both ends among them, evenly spaced along its length."""
    x, y = 100 * curve.unseen, 100 * curve.seen
    if len(x) <= _POINTS:
        return x, y
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], _POINTS)))
    return x[kept], y[kept]


def draw_reliability(
    axes: Axes,
    confidence: Float[np.ndarray, " bins"],
    accuracy: Float[np.ndarray, " bins"],
    weight: Float[np.ndarray, " bins"],
    colours: Palette,
) -> None:
    """Accuracy over probability, a point for each bin; a larger point has more images; all fractions of 1."""
    axes.plot([0, 100], [0, 100], "--", color=colours["muted"], linewidth=1.2)
    size = 16 + 300 * weight
    axes.scatter(100 * confidence, 100 * accuracy, s=size, color=colours["ours"], zorder=3, clip_on=False)
    axes.set(xlim=(0, 102), ylim=(0, 102), xlabel="probability of the predicted class, %")
    axes.set_ylabel("accuracy, %")
    axes.set_aspect("equal")


@dataclass(frozen=True)
class ClassGroup:
    """The classes of one kind that have test images, from best to worst.

    Attributes:
        kind: `unseen` or `seen`.
        accuracies: of its classes, fractions of 1.
        classes: their numbers.
    """

    kind: str
    accuracies: Float[np.ndarray, " classes"]
    classes: Integer[np.ndarray, " classes"]


def class_groups(
    accuracies: Float[np.ndarray, " classes"], is_unseen: Bool[np.ndarray, " classes"]
) -> list[ClassGroup]:
    """Unseen, then seen classes; a kind without a class that has images (accuracy not NaN) is left out."""
    groups = []
    for kind, mask in (("unseen", is_unseen), ("seen", ~is_unseen)):
        found = np.flatnonzero(mask & ~np.isnan(accuracies))
        found = found[np.argsort(-accuracies[found], kind="stable")]
        if len(found):
            groups.append(ClassGroup(kind, accuracies[found], found))
    return groups


def draw_classes(
    axes: Axes, groups: Sequence[ClassGroup], colours: Palette, *, class_names: Sequence[str] | None = None
) -> None:
    """A bar for each class, unseen ones first, each kind from best to worst, with a line at the mean of the kind.

    Args:
        axes: to draw on.
        groups: of `class_groups`.
        colours: by role.
        class_names: of all classes; they stand below the bars of at most 30 classes.
    """
    start, places = 0.0, []
    for group in groups:
        colour = colours["ours" if group.kind == "unseen" else "muted"]
        number, mean = len(group.accuracies), float(group.accuracies.mean())
        edges = start + np.arange(number + 1.0)
        axes.stairs(
            100 * group.accuracies, edges, fill=True, color=colour, alpha=0.75, linewidth=0,
            label=f"{number} {group.kind} classes, mean {percent(mean)} %",
        )  # fmt: skip
        axes.plot(edges[[0, -1]], [100 * mean, 100 * mean], color=colours["ink"], linewidth=1.2)
        places += (edges[:-1] + 0.5).tolist()
        start += number + _GAP
    axes.set(xlim=(0, start - _GAP), ylim=(0, 102), xticks=[], ylabel="accuracy, %")
    axes.set_xlabel("classes of each kind, best to worst")
    axes.grid(False, axis="x")
    if class_names is not None and len(places) <= _FEW:
        names = [short(wording.name(class_names[c])) for group in groups for c in group.classes]
        axes.set_xticks(places, names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_xlabel("")


@dataclass(frozen=True)
class MapPoints:
    """Points of a feature map on two axes, with the class of each; any part may be empty."""

    real: Float[np.ndarray, "real 2"]
    real_labels: Integer[np.ndarray, " real"]
    synthesized: Float[np.ndarray, "synthesized 2"]
    synthesized_labels: Integer[np.ndarray, " synthesized"]
    seen: Float[np.ndarray, "seen 2"]
    seen_labels: Integer[np.ndarray, " seen"]

    def unseen_classes(self) -> list[int]:
        """In the order in which they first occur, the synthesized ones first."""
        return list(dict.fromkeys([*self.synthesized_labels.tolist(), *self.real_labels.tolist()]))

    def named(self, class_names: Sequence[str]) -> list[_Name]:
        """The names that the map shows, each at the mean of its class."""
        names = []
        for c in self.unseen_classes():
            made = self.synthesized[self.synthesized_labels == c]
            points = made if len(made) else self.real[self.real_labels == c]
            names.append(_Name(points.mean(0), class_names[c], 11.0, bold=True))
        return names + [
            _Name(self.seen[self.seen_labels == c].mean(0), class_names[c], 10.0, bold=False)
            for c in dict.fromkeys(self.seen_labels.tolist())
        ]


def draw_map(axes: Axes, points: MapPoints, colours: Palette, *, class_names: Sequence[str] | None) -> None:
    """Real and synthesized features of unseen classes, and images of seen classes, on two axes.

    Args:
        axes: to draw on.
        points: the features.
        colours: by role.
        class_names: of all classes; None writes no names.
    """
    axes.set(xticklabels=[], yticklabels=[], xlabel="first axis", ylabel="second axis")
    if len(points.seen):
        axes.plot(
            *points.seen.T, "x", color=colours["muted"], markersize=3.5, alpha=0.55, linestyle="none",
            label="seen classes, training images",
        )  # fmt: skip
    for number, c in enumerate(points.unseen_classes()):
        several = series(colours)
        colour, marker = several[number % len(several)], MARKERS[number % len(MARKERS)]
        axes.plot(
            *points.synthesized[points.synthesized_labels == c].T, marker, color=colour, markersize=5.5,
            markerfacecolor="none", alpha=0.8, linestyle="none", markeredgewidth=1,
            label="unseen classes, synthesized" if number == 0 else None,
        )  # fmt: skip
        axes.plot(
            *points.real[points.real_labels == c].T, marker, color=colour, markersize=4.5, markeredgewidth=0,
            alpha=0.75, linestyle="none", label="unseen classes, real test images" if number == 0 else None,
        )  # fmt: skip
    everything = np.concatenate([points.real, points.synthesized, points.seen])
    low, high = np.quantile(everything, 0.02, axis=0), np.quantile(everything, 0.98, axis=0)
    middle, reach = (low + high) / 2, np.maximum(_REACH * (high - low) / 2, 1)
    axes.set_xlim(float(middle[0] - reach[0]), float(middle[0] + reach[0]))
    axes.set_ylim(float(middle[1] - reach[1]), float(middle[1] + reach[1]))
    names = [] if class_names is None else points.named(class_names)
    for name, x, y in placed(names, 2 * reach / _SIDE, low=middle - reach, high=middle + reach):
        label(
            axes, x, y, name.text, ha="center", va="center", fontsize=name.size,
            fontweight="bold" if name.bold else "normal", color=colours["ink" if name.bold else "muted"],
        )  # fmt: skip


class _Name:
    """A class name, the point at which it is to stand, the size of its font, and whether it is bold."""

    def __init__(self, place: Float[np.ndarray, " axes"], name: str, size: float, *, bold: bool) -> None:
        self.place, self.text, self.size, self.bold = place, short(wording.name(name), 16), size, bold


def placed(
    names: Sequence[_Name],
    unit: Float[np.ndarray, " axes"],
    *,
    low: Float[np.ndarray, " axes"],
    high: Float[np.ndarray, " axes"],
) -> list[tuple[_Name, float, float]]:
    """Names moved until none covers another or leaves the axes; one that finds no room is left out.

    Args:
        names: the names; earlier ones are placed first.
        unit: one unit of the chart along each axis, in coordinates of the map.
        low: lower left corner of the axes.
        high: upper right corner of the axes.

    Returns:
        Each name that is shown, and its place in coordinates of the map.
    """
    # Middle, half width and half height of the names so far, in units of the chart.
    taken: list[tuple[float, float, float, float]] = []
    found = []
    left, bottom, right, top = (float(v) for v in (*(low / unit), *(high / unit)))
    for name in names:
        x, wanted = (float(v) for v in name.place / unit)
        width, height = _LETTER * name.size * len(name.text) / 2, 0.62 * name.size
        x = min(max(x, left + width), right - width)
        for step in (0.0, *(sign * step * height for step in range(1, 12) for sign in (-1, 1))):
            y = wanted + step
            inside = bottom + height <= y <= top - height
            if inside and all(abs(x - a) > width + w or abs(y - b) > height + h for a, b, w, h in taken):
                taken.append((x, y, width, height))
                found.append((name, x * float(unit[0]), y * float(unit[1])))
                break
    return found
