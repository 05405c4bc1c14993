"""Plots of a run or of arrays: matplotlib axes in, axes out.

    from dkgzsl import plots
    axes = plots.seen_unseen_curve("runs/numbers")
    axes.figure.savefig("curve.pdf")

Every function draws on `ax`, or makes a figure where that is None, and returns the axes. The report draws with the
same code. A run is the path of a run folder; of several seeds, the first is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

from dkgzsl.errors import InputError, RunError
from dkgzsl.evaluation.calibration import Reliability
from dkgzsl.evaluation.metrics import Decisions, SeenUnseenCurve
from dkgzsl.evaluation.protocols import Outcome
from dkgzsl.report.charts.drawing import (
    Line,
    MapPoints,
    class_groups,
    draw_classes,
    draw_curves,
    draw_map,
    draw_reliability,
    legend_entries,
    plain,
)
from dkgzsl.report.charts.feature_map import map_points
from dkgzsl.report.pages.content import RunContent
from dkgzsl.report.record.feature_map import FeatureMap, VisualSpace
from dkgzsl.report.record.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes


__all__ = ["COLOURS", "attention", "feature_map", "per_class_bars", "reliability_diagram", "seen_unseen_curve"]

COLOURS: Final[Mapping[str, str]] = {
    "ink": "#1b1d21", "muted": "#595f68", "line": "#dcdfe3", "paper": "#ffffff", "ours": "#0069a8",
    "peer": "#b84c00", "c1": "#0069a8", "c2": "#c65200", "c3": "#00805c", "c4": "#a8478a", "c5": "#a87800",
    "c6": "#2a8ac4", "c7": "#44484e", "c8": "#6a55c0",
}  # fmt: skip
"""Colour of each role; those of the report on white."""
Run: TypeAlias = str | Path
Curve: TypeAlias = Run | Record | Outcome | Decisions | SeenUnseenCurve
"""What has a seen-unseen curve."""
_SIZE: Final = (4.8, 4.2)


def seen_unseen_curve(source: Curve | Mapping[str, Curve], *, ax: Axes | None = None) -> Axes:
    """Accuracy on seen classes (S) over accuracy on unseen classes (U), for every calibration constant.

    Both are in percent. The circle is the decision without a constant, the diamond the one with the constant from
    validation. Each is drawn where `source` knows it.

    Args:
        source: a run folder, its record, an `Outcome`, `Decisions` or a `SeenUnseenCurve`; or several by name. The
            area below the first one is filled.
        ax: axes to draw on; None makes a figure.

    Returns:
        The axes. Each curve is a line, in the order of `source` reversed.

    Raises:
        InputError: there is nothing to draw, or seen or unseen classes have no test images.
        RunError: the folder is no finished run, or has no predictions.
    """
    named = source if isinstance(source, Mapping) else {"this model": source}
    if not named:
        raise InputError("there is no curve to draw", where="source", fix="give a run or an outcome")
    lines = [_line(name, one) for name, one in named.items()]
    axes = _axes(ax)
    draw_curves(axes, lines, COLOURS)
    axes.legend(*legend_entries(axes, len(lines)), loc="lower left", frameon=False, fontsize="small")
    return axes


def reliability_diagram(
    source: Run | Outcome | Reliability | tuple[Float[np.ndarray, " images"], Bool[np.ndarray, " _"]],
    *,
    bins: int = 10,
    ax: Axes | None = None,
) -> Axes:
    """Accuracy over the probability of the predicted class, in percent: on the diagonal, probabilities are right.

    Each point is a bin of probabilities; a larger point has more images.

    Args:
        source: a run folder, an `Outcome`, a `Reliability`, or two arrays: the probability of each image's
            predicted class [images], and whether that class is correct [images]. The arrays give every image the
            same weight; a run gives it to seen and unseen classes.
        bins: number of bins of equal width for two arrays; a run has its own bins.
        ax: axes to draw on; None makes a figure.

    Raises:
        InputError: there are no images, or the arrays do not fit; `bins` is below 1.
        RunError: the folder is no finished run, or its reliability was not measured.
    """
    confidence, accuracy, weight = _bins(source, bins)
    axes = _axes(ax)
    draw_reliability(axes, confidence, accuracy, weight, COLOURS)
    return axes


def per_class_bars(
    source: Run | Record | Outcome | tuple[Float[np.ndarray, " classes"], Bool[np.ndarray, " classes"]],
    *,
    calibrated: bool = True,
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Accuracy of each class in percent: unseen classes first, each kind from best to worst, with its mean.

    Args:
        source: a run folder, its record, an `Outcome`, or two arrays: the accuracy of each class as a fraction of
            1 (NaN for a class without images) [classes], and whether the class is unseen [classes].
        calibrated: whether a run's or outcome's calibration constant is used, where there is one.
        class_names: names below the bars, where there are at most 30 (default: those of the run).
        ax: axes to draw on; None makes a figure.

    Raises:
        InputError: no class has images, or the arrays do not fit.
        RunError: the folder is no finished run, or has no predictions.
    """
    if isinstance(source, tuple):
        accuracies, is_unseen = np.asarray(source[0], float), np.asarray(source[1], bool)
        if accuracies.ndim != 1 or accuracies.shape != is_unseen.shape:
            raise _mismatch("accuracies", accuracies, "is_unseen", is_unseen)
    else:
        found = _record(source) if isinstance(source, str | Path) else source
        if isinstance(found, Record):
            class_names = class_names or found.class_names
        decisions, constant = _decided(found)
        accuracies = decisions.class_accuracies((constant or 0.0) if calibrated else 0.0)
        is_unseen = decisions.is_unseen
    if class_names is not None and len(class_names) != len(accuracies):
        raise InputError(
            f"{len(class_names)} class names for {len(accuracies)} classes",
            where="class_names",
            fix="name each class",
        )
    groups = class_groups(accuracies, is_unseen)
    if not groups:
        raise InputError("no class has test images", where="source", fix="draw a run that was tested")
    axes = _axes(ax)
    draw_classes(axes, groups, COLOURS, class_names=class_names)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize="small")
    return axes


def feature_map(
    source: Run | Record | FeatureMap | None = None,
    *,
    real: tuple[Float[np.ndarray, "real visual"], Integer[np.ndarray, " _"]] | None = None,
    synthesized: tuple[Float[np.ndarray, "synthesized visual"], Integer[np.ndarray, " _"]] | None = None,
    seen: tuple[Float[np.ndarray, "seen visual"], Integer[np.ndarray, " _"]] | None = None,
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Real (filled) and synthesized (hollow) features of unseen classes, and of seen classes (crosses), in 2-D.

    Features with more than two numbers are placed on the two axes along which the means of the classes of `seen`
    differ most (Fisher's linear discriminants of the principal components).

    Args:
        source: a run folder, its record or its map; or None, and the arrays below.
        real: features of test images [real, visual], and the class of each.
        synthesized: features that a model has synthesized [synthesized, visual], and the class of each.
        seen: features of training images [seen, visual], and the class of each: at least two classes.
        class_names: names of all classes (default: those of the run; without a run, no names).
        ax: axes to draw on; None makes a figure.

    Raises:
        InputError: an array is missing or does not fit.
        RunError: the folder is no finished run, or its model synthesizes no features.
    """
    from matplotlib import patheffects

    if source is None:
        points = _points(real, synthesized, seen)
    else:
        found = _record(source) if isinstance(source, str | Path) else source
        if isinstance(found, Record):
            class_names = class_names or found.class_names
            if found.feature_map is None:
                raise RunError(
                    "the run has no feature map", fix="draw a run of a method that synthesizes features"
                )
            found = found.feature_map
        points = map_points(found)
    axes = _axes(ax)
    draw_map(axes, points, COLOURS, class_names=class_names)
    for text in axes.texts:
        text.set_path_effects([patheffects.withStroke(linewidth=3, foreground=COLOURS["paper"])])
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False, fontsize="small")
    return axes


def attention(
    photo: Run | np.ndarray,
    weights: Float[np.ndarray, "*regions"],
    *,
    grid: tuple[int, int] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Attention over the regions of a photo: the largest weight is bright and opaque, the smallest is clear.

    Args:
        photo: the part of the photo that the backbone saw, as a file or as pixels [height, width, 3].
        weights: a weight for each region: [rows, columns], or [rows x columns], row by row from the top left.
        grid: rows and columns of the regions (default: the shape of `weights`, or a square).
        title: above the photo.
        ax: axes to draw on; None makes a figure.

    Raises:
        InputError: the weights do not fill the grid, or are not finite; the pixels are not [height, width, 3] of
            0 to 255.
        UnreadableImageError: the file is no photo that can be read.
    """
    from dkgzsl.representation.overlay import overlay

    weights = np.asarray(weights, np.float32)
    if grid is None:
        side = round(weights.size**0.5)
        grid = (weights.shape[0], weights.shape[1]) if weights.ndim == 2 else (side, side)
    if grid[0] * grid[1] != weights.size or not weights.size:
        raise InputError(
            f"{weights.size} weights do not fill {grid[0]} x {grid[1]} regions", where="weights",
            fix="give grid=(rows, columns)",
        )  # fmt: skip
    if not np.isfinite(weights).all():
        raise InputError("a weight is not finite", where="weights", fix="leave out the regions without attention")
    axes = _axes(ax, grid=False)
    axes.imshow(overlay(_pixels(photo), weights.ravel(), grid))
    axes.set(xticks=[], yticks=[], title=title)
    axes.set_axis_off()
    return axes


def _pixels(photo: Run | np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    if isinstance(photo, str | Path):
        from dkgzsl.features.images import read_image

        return np.asarray(read_image(Path(photo))[0])
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise InputError(
            f"pixels of shape {photo.shape} and type {photo.dtype}", where="photo",
            fix="give an array [height, width, 3] of uint8, or the path of a photo",
        )  # fmt: skip
    return photo


def _axes(ax: Axes | None, *, grid: bool = True) -> Axes:
    """The given axes, or those of a new figure."""
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=_SIZE, layout="constrained")[1]
    if grid:
        plain(ax).grid(True, color=COLOURS["line"])
    return ax


def _content(run: Run) -> RunContent:
    from dkgzsl.runs.pages import read_run

    return read_run(Path(run))


def _record(run: Run) -> Record:
    record = _content(run).first
    if record is None:
        raise RunError(
            "the run has no predictions for the test images", where=str(run),
            fix="train again without --report off",
        )  # fmt: skip
    return record


def _decided(source: Record | Outcome) -> tuple[Decisions, float | None]:
    if isinstance(source, Record):
        return source.predictions.decisions(), source.constant
    return source.scored, source.constant


def _line(name: str, source: Curve) -> Line:
    """A curve with its points."""
    if isinstance(source, SeenUnseenCurve):
        return Line(name, source, source.area)
    found = _record(source) if isinstance(source, str | Path) else source
    decisions, constant = (found, None) if isinstance(found, Decisions) else _decided(found)
    figures = decisions.figures(constant)
    if figures.u is None or figures.s is None:
        lacking = "unseen" if figures.u is None else "seen"
        raise InputError(
            f"there are no test images of {lacking} classes, so there is no curve", where=f"source, {name}",
            fix="draw per_class_bars",
        )  # fmt: skip
    calibrated = None
    if figures.u_calibrated is not None and figures.s_calibrated is not None:
        calibrated = figures.u_calibrated, figures.s_calibrated
    return Line(name, decisions.curve(), figures.ausuc, (figures.u, figures.s), calibrated)


_Bins: TypeAlias = tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]


def _bins(source: Run | Outcome | Reliability | tuple[np.ndarray, np.ndarray], bins: int) -> _Bins:
    """Mean probability, accuracy and share of the images of each bin."""
    if isinstance(source, tuple):
        return _binned(np.asarray(source[0], float), np.asarray(source[1], float), bins)
    if isinstance(source, str | Path):
        kept = _content(source).detail.get("reliability")
        values = None if not kept else (kept["confidence"], kept["accuracy"], kept["weight"])
    else:
        found = source.reliability if isinstance(source, Outcome) else source
        values = None if found is None else (found.confidence, found.accuracy, found.weight)
    if values is None or not values[0]:
        raise RunError(
            "the reliability was not measured", where="source",
            fix="draw a run of the protocol validated that has test images",
        )  # fmt: skip
    confidence, accuracy, weight = (np.asarray(value, float) for value in values)
    return confidence, accuracy, weight


def _binned(probability: np.ndarray, correct: np.ndarray, bins: int) -> _Bins:
    if probability.ndim != 1 or probability.shape != correct.shape or not len(probability):
        raise _mismatch("probability", probability, "correct", correct)
    if bins < 1:
        raise InputError("bins is below 1", where=f"bins={bins}", fix="give a whole number above 0")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise InputError("a probability lies outside 0 to 1", where="source", fix="give fractions of 1")
    which = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    kept = count > 0
    mean, share = (
        np.bincount(which, weights=v, minlength=bins)[kept] / count[kept] for v in (probability, correct)
    )
    return mean, share, count[kept] / len(probability)


def _points(*parts: tuple[np.ndarray, np.ndarray] | None) -> MapPoints:
    """Real, synthesized and seen features on two axes."""
    names = ("real", "synthesized", "seen")
    given = {
        name: (np.asarray(part[0], np.float32), np.asarray(part[1], np.int64))
        for name, part in zip(names, parts, strict=True)
        if part is not None
    }
    if "real" not in given and "synthesized" not in given:
        raise InputError("there are no features to draw", where="source", fix="give real=, synthesized= or a run")
    for name, (features, labels) in given.items():
        if features.ndim != 2 or labels.shape != features.shape[:1]:
            raise _mismatch(name, features, f"classes of {name}", labels)
    widths = {features.shape[1] for features, _ in given.values()}
    if len(widths) > 1 or min(widths) < 2:
        raise InputError(
            f"the features have {', '.join(map(str, sorted(widths)))} numbers", where=", ".join(given),
            fix="give all parts the same number of columns, at least 2",
        )  # fmt: skip
    if widths != {2}:
        given = _placed(given)
    nothing = (np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    return MapPoints(*(array for name in names for array in given.get(name, nothing)))


def _placed(given: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The parts on the axes of seen classes."""
    import torch

    if "seen" not in given or len(np.unique(given["seen"][1])) < 2:
        raise InputError(
            "the axes are computed from images of at least two seen classes", where="seen",
            fix="give seen=(features, classes), or features with two columns",
        )  # fmt: skip
    features, labels = given["seen"]
    space = VisualSpace.fit(torch.from_numpy(features), torch.from_numpy(labels))
    if space.basis.shape[1] < 2:
        raise InputError("the images of seen classes differ along one axis alone", where="seen", fix="give more")
    return {
        name: (space(torch.from_numpy(part))[:, :2].numpy(), classes) for name, (part, classes) in given.items()
    }


def _mismatch(name: str, array: np.ndarray, other_name: str, other: np.ndarray) -> InputError:
    return InputError(
        f"{name} has shape {array.shape}, {other_name} has shape {other.shape}", where="source",
        fix="give arrays of the same length, with at least one entry",
    )  # fmt: skip
