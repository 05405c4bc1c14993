"""Draw the pictures of docs/reading-the-report.md from a run of `numbers`.

dkgzsl train numbers --out RUN
python experiments/glossary_pictures.py RUN docs/images
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from dkgzsl import plots
from dkgzsl.report.record.record import Record

RANGE = 6.0
"""Constants are drawn from so far below the two of interest to so far above, in their distance (at least 1)."""


def main(run: Path, out: Path) -> None:
    """Draw every picture."""
    mpl.use("Agg")
    record = Record.read(run / "report.safetensors")
    if record is None:
        sys.exit(f"{run} has no predictions: train without --report off")
    decisions, unseen = record.predictions.decisions(), record.predictions.is_unseen
    generalized = decisions.class_accuracies()
    save(plots.per_class_bars((decisions.conventional_accuracies(), unseen)), out / "glossary-t1.png")
    save(plots.per_class_bars((np.where(unseen, generalized, np.nan), unseen)), out / "glossary-u.png")
    save(plots.per_class_bars((np.where(unseen, np.nan, generalized), unseen)), out / "glossary-s.png")
    save(plots.seen_unseen_curve({"closed form": decisions.curve()}), out / "glossary-ausuc.png")
    figures = decisions.figures(record.constant)
    save(three_bars(figures.u or 0.0, figures.s or 0.0, figures.h or 0.0), out / "glossary-h.png")
    if record.constant is None:
        sys.exit(f"{run} has no calibration constant: train with --protocol validated")
    best = decisions.curve().best_constant()
    save(
        by_constant(record, {"no constant": 0.0, "from validation": record.constant}),
        out / "glossary-calibration.png",
    )
    names = {"validated": record.constant, "oracle (best on test)": best}
    save(by_constant(record, names), out / "glossary-validated-oracle.png")


def three_bars(u: float, s: float, h: float) -> Axes:
    """U, S and H as bars."""
    axes = pyplot.subplots(figsize=(4.8, 3), layout="constrained")[1]
    bars = axes.bar(["U", "S", "H"], [100 * u, 100 * s, 100 * h], color=plots.COLOURS["ours"])
    axes.bar_label(bars, fmt="%.1f")
    axes.set(ylim=(0, 110), ylabel="%")
    return axes


def by_constant(record: Record, marked: dict[str, float]) -> Axes:
    """U, S and H over the calibration constant, with lines at some constants."""
    curve = record.predictions.decisions().curve()
    low, high = min(marked.values()), max(marked.values())
    reach = RANGE * max(1.0, high - low)
    constants = np.linspace(low - reach, high + reach, 400)
    place = np.searchsorted(curve.constants, constants, side="right")
    axes = pyplot.subplots(figsize=(4.8, 3.4), layout="constrained")[1]
    for name, values, colour in (("U", curve.unseen, "c1"), ("S", curve.seen, "c2"), ("H", curve.harmonic, "c3")):
        axes.plot(constants, 100 * values[place], color=plots.COLOURS[colour], label=name)
    for (name, constant), style in zip(marked.items(), ("--", ":"), strict=True):
        axes.axvline(constant, color=plots.COLOURS["ink"], linestyle=style, label=f"{name}: {constant:.3g}")
    lowest = min(float(values[place].min()) for values in (curve.unseen, curve.seen))
    axes.set(xlabel="constant added to the scores of unseen classes", ylabel="%", ylim=(100 * lowest - 0.5, 100.2))
    axes.legend(fontsize="small")
    return axes


def save(axes: Axes, file: Path) -> None:
    """Write a picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    axes.figure.savefig(file, dpi=90)
    pyplot.close("all")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
