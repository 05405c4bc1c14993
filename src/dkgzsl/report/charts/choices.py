"""Charts of how the model was chosen and trained: the settings that were compared, and the log of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dkgzsl.report.charts.drawing import MARKERS, plain
from dkgzsl.report.charts.svg import COLOUR, SERIES, Chart, draw
from dkgzsl.report.wording import percent, short, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Evaluation = Mapping[str, Any]
"""A line of the log: `setting`, `figures`, `representation`."""
_PANEL = 112
_BEST_SHOWN = 15
_LINES_SHOWN = 40


def settings_chart(
    name: str, evaluations: Sequence[Evaluation], chosen: Mapping[str, Any], *, on_test: bool = False
) -> Chart | None:
    """AUSUC of each model that was compared, one small panel for each setting.

    A dot is a model. The line joins the best models of each value, whatever their other settings are.

    Args:
        name: name of the chart.
        evaluations: figures on validation images (or on test images, under the protocol `oracle`).
        chosen: the setting of the final model.
        on_test: whether the figures are of test images.

    Returns:
        None where no setting has two values.
    """
    usable = [one for one in evaluations if one["figures"]["ausuc"] is not None]
    varied = [key for key in _keys(usable) if len({_text(one, key) for one in usable}) > 1]
    if not varied:
        return None
    rows = -(-len(varied) // 2)

    def paint(figure: Figure) -> None:
        panels = figure.subplots(rows, 2, squeeze=False, sharey=True).ravel()
        best = max(one["figures"]["ausuc"] for one in usable)
        worst = min(one["figures"]["ausuc"] for one in usable)
        low = max(worst, best - 3 * (best - float(np.median([one["figures"]["ausuc"] for one in usable]))) - 0.01)
        for axes, key in zip(panels, varied, strict=False):
            _setting_panel(plain(axes), usable, key, value_text(chosen.get(key)))
            axes.set_ylim(100 * low - 0.3, 100 * best + 0.15 * 100 * (best - low) + 0.2)
        for axes in panels[len(varied) :]:
            axes.remove()
        figure.supylabel(
            f"AUSUC on {'test' if on_test else 'validation'} images, %", fontsize=11, color=COLOUR["muted"]
        )

    title = "AUSUC by setting"
    parts = [f"{_spoken(key)}: {_best_values(usable, key)}" for key in varied]
    words = "Best AUSUC for each value. " + "; ".join(parts)
    height = 24 + _PANEL * rows
    return Chart(
        draw(
            name,
            title=title,
            description=words,
            height=height,
            paint=paint,
        ),
        f"{title}, the best {min(_BEST_SHOWN, len(usable))} of {len(usable)} models",
        ("AUSUC, %", "H raw, %", "T1, %", *map(_spoken, varied)),
        tuple(
            (
                *(percent(one["figures"][figure]) for figure in ("ausuc", "h", "t1")),
                *(_text(one, key) for key in varied),
            )
            for one in sorted(usable, key=lambda one: -one["figures"]["ausuc"])[:_BEST_SHOWN]
        ),
    )


def _keys(evaluations: Sequence[Evaluation]) -> list[str]:
    keys = list(dict.fromkeys(key for one in evaluations for key in one["setting"]))
    return keys + (["representation"] if any("representation" in one for one in evaluations) else [])


def _text(one: Evaluation, key: str) -> str:
    value = one.get("representation") if key == "representation" else one["setting"].get(key)
    return value_text(value)


def _spoken(key: str) -> str:
    return key.replace("_", " ")


def _best_by_value(evaluations: Sequence[Evaluation], key: str) -> dict[str, float]:
    best: dict[str, float] = {}
    values = {}
    for one in evaluations:
        text = _text(one, key)
        values[text] = one["setting"].get(key)
        best[text] = max(best.get(text, 0.0), one["figures"]["ausuc"])
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values())
    order = sorted(best, key=lambda text: values[text]) if numeric else list(best)
    return {text: best[text] for text in order}


def _best_values(evaluations: Sequence[Evaluation], key: str) -> str:
    return ", ".join(f"{value} {percent(best)} %" for value, best in _best_by_value(evaluations, key).items())


def _setting_panel(axes: Axes, evaluations: Sequence[Evaluation], key: str, chosen: str) -> None:
    best = _best_by_value(evaluations, key)
    place = {text: number for number, text in enumerate(best)}
    spread = np.random.default_rng(0).uniform(-0.16, 0.16, len(evaluations))
    x = [place[_text(one, key)] for one in evaluations] + spread
    y = [100 * one["figures"]["ausuc"] for one in evaluations]
    axes.plot(x, y, "o", color=COLOUR["muted"], markersize=2.2, alpha=0.3, markeredgewidth=0)
    axes.plot(
        list(place.values()), [100 * value for value in best.values()], "-o", color=COLOUR["ours"], markersize=4
    )
    if chosen in place:
        axes.plot(
            place[chosen], 100 * best[chosen], "D", color=COLOUR["ours"], markersize=9, markerfacecolor="none",
            markeredgewidth=1.8,
        )  # fmt: skip
    axes.set_xticks(list(place.values()), [short(text, 12) for text in place], fontsize=10)
    if sum(len(short(text, 12)) for text in place) > 20:
        axes.tick_params(axis="x", labelrotation=40, labelsize=9)
    axes.set_xlim(-0.5, len(place) - 0.5)
    axes.grid(False, axis="x")
    axes.set_title(_spoken(key), loc="left", color=COLOUR["ink"], pad=4)


def training_chart(
    name: str, evaluations: Sequence[Evaluation], epochs: Sequence[Mapping[str, Any]], *, on_test: bool = False
) -> Chart | None:
    """Figures and losses over the epochs of a training.

    Args:
        name: name of the chart.
        evaluations: figures on validation images, with `epochs` in their settings; of several evaluations at one
            epoch the chart shows the one with the best AUSUC.
        epochs: `epoch` and the values that were logged at its end, in order. Where the count starts again, a
            second training on all training images begins.
        on_test: whether the figures are of test images.

    Returns:
        None where no epoch was logged.
    """
    runs = in_runs(epochs, "epoch")
    by_epoch: dict[int, Mapping[str, float | None]] = {}
    for one in evaluations:
        epoch, figures = one["setting"].get("epochs"), one["figures"]
        if epoch is not None and (figures["ausuc"] or 0) >= (by_epoch.get(epoch, {}).get("ausuc") or 0):
            by_epoch[epoch] = figures
    if not runs:
        return None
    losses = [key for key in runs[0][0] if key not in ("event", "seed", "epoch")]
    shown = {"t1": "T1", "u": "U", "s": "S", "ausuc": "AUSUC"}
    rows = 2 + -(-len(losses) // 2)

    def paint(figure: Figure) -> None:
        grid = figure.add_gridspec(rows, 2)
        top = plain(figure.add_subplot(grid[:2, :]))
        at = sorted(by_epoch)
        for number, (key, text) in enumerate(shown.items()):
            values = [100 * v if (v := by_epoch[e][key]) is not None else np.nan for e in at]
            top.plot(at, values, marker=MARKERS[number], markersize=5, color=SERIES[number], label=text)
        top.set(ylim=(-2, 102), ylabel=f"{'test' if on_test else 'validation'} images, %", xlabel="epoch")
        top.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.4, columnspacing=1.0)
        for number, key in enumerate(losses):
            axes = plain(figure.add_subplot(grid[2 + number // 2, number % 2]))
            _loss_lines(axes, runs, "epoch", key, title=_spoken(key))

    title = "Training"
    last = runs[0][-1]
    words = f"{len(runs[0])} epochs" + "".join(f", {_spoken(key)} at the end {last[key]:.3g}" for key in losses)
    table = _some(runs[0])
    return Chart(
        draw(name, title=title, description=words, height=200 + _PANEL * (rows - 2), paint=paint),
        "Training, epoch by epoch",
        ("epoch", *map(_spoken, losses), *(f"{text}, %" for text in shown.values())),
        tuple(
            (
                str(line["epoch"]),
                *(f"{line[key]:.4g}" for key in losses),
                *(percent(by_epoch[line["epoch"]][key]) if line["epoch"] in by_epoch else "" for key in shown),
            )
            for line in table
        ),
    )


def refinement_chart(name: str, steps: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Losses of the training of SOVR, step by step; None where none was logged.

    Args:
        name: name of the chart.
        steps: `step` and the losses that were logged at it, in order.
    """
    runs = in_runs(steps, "step")
    if not runs:
        return None
    losses = [key for key in runs[0][0] if key not in ("event", "seed", "step")]

    def paint(figure: Figure) -> None:
        panels = figure.subplots(-(-len(losses) // 2), min(2, len(losses)), squeeze=False).ravel()
        for axes, key in zip(panels, losses, strict=False):
            _loss_lines(plain(axes), runs, "step", key, title=f"loss, {_spoken(key)}")
            axes.set_xlabel("step")
        for axes in panels[len(losses) :]:
            axes.remove()

    title = "Training of the region refinement (SOVR)"
    words = ", ".join(f"{_spoken(key)} from {runs[0][0][key]:.3g} to {runs[0][-1][key]:.3g}" for key in losses)
    return Chart(
        draw(name, title=title, description=words, height=50 + 130 * -(-len(losses) // 2), paint=paint),
        title,
        ("step", *map(_spoken, losses)),
        tuple((str(line["step"]), *(f"{line[key]:.4g}" for key in losses)) for line in _some(runs[0])),
    )


def in_runs(lines: Sequence[Mapping[str, Any]], counter: str) -> list[list[Mapping[str, Any]]]:
    """Log lines, divided at each place where their counter starts again."""
    runs: list[list[Mapping[str, Any]]] = []
    for line in lines:
        if not runs or line[counter] <= runs[-1][-1][counter]:
            runs.append([])
        runs[-1].append(line)
    return runs


def _loss_lines(
    axes: Axes, runs: Sequence[Sequence[Mapping[str, Any]]], counter: str, key: str, *, title: str
) -> None:
    styles = ("-", "--", ":")
    for number, run in enumerate(runs[: len(styles)]):
        colour = COLOUR["ours"] if number == 0 else COLOUR["muted"]
        lines = [line for line in run if line.get(key) is not None]
        axes.plot(
            [line[counter] for line in lines], [line[key] for line in lines], styles[number], color=colour,
            linewidth=1.4,
        )  # fmt: skip
    axes.set_title(title, loc="left", color=COLOUR["ink"], pad=4)
    axes.tick_params(labelsize=10)


def _some(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    places = np.unique(np.linspace(0, len(lines) - 1, min(_LINES_SHOWN, len(lines))).astype(int))
    return [lines[place] for place in places]
