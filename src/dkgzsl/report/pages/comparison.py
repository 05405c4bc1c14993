"""The page that compares several runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dkgzsl import __version__
from dkgzsl.report.charts.accuracy import curve_chart
from dkgzsl.report.charts.drawing import MARKERS, Line
from dkgzsl.report.charts.svg import COLOUR, SERIES, Chart, draw, one_axes
from dkgzsl.report.pages import provenance
from dkgzsl.report.pages.compare import Compared
from dkgzsl.report.pages.headline import interval_text
from dkgzsl.report.pages.run import templates
from dkgzsl.report.wording import DASH, FIGURES, mean_percent, printable, short, signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_FACTS = ("data set", "protocol", "test images", "semantics", "backbone", "features", "method", "split", "seeds",
          "date", "versions", "time")  # fmt: skip


def render_comparison(compared: Sequence[Compared]) -> str:
    """One self-contained page that compares runs with the first of them.

    Args:
        compared: what `compare` returned.
    """
    first = compared[0]
    several = any(one.content.several for one in compared)
    facts = [dict(provenance.provenance(one.content)) for one in compared]
    names = [printable(one.name) for one in compared]
    differing = [key for key in _FACTS if len({fact[key] for fact in facts}) > 1]
    context = {
        "names": names,
        "reference": names[0],
        "figures": [label for label, _ in FIGURES.values()],
        "meanings": list(FIGURES.values()),
        "rows": [
            [name, *(mean_percent(one.content.result["metrics"].get(key), several=several) for key in FIGURES)]
            for name, one in zip(names, compared, strict=True)
        ],
        "several": several,
        "differences": [
            (name, one.seeds, [_difference(one, key) for key in FIGURES])
            for name, one in zip(names, compared, strict=True)
            if one.differences
        ],
        "reasons": [(n, one.reason) for n, one in zip(names, compared, strict=True) if one.reason],
        "curves": _curves(compared),
        "forest": _forest(compared),
        "differing": [(key, [fact[key] for fact in facts]) for key in differing],
        "common": [(key, facts[0][key]) for key in _FACTS if key not in differing],
        "on_test": [name for name, one in zip(names, compared, strict=True) if one.content.on_test],
        "mixed": len({(c.content.result["dataset"], c.content.environment["split_sha256"]) for c in compared}) > 1,
        "dataset": printable(str(first.content.result["dataset"]).rsplit("/", 1)[-1]),
        "version": __version__,
    }
    return templates().get_template("comparison.html.j2").render(context)


def _difference(one: Compared, key: str) -> tuple[str, str, bool]:
    found = one.differences.get(key)
    return (DASH, "", False) if found is None else (signed(found.value), interval_text(found), found.clear)


def _curves(compared: Sequence[Compared]) -> Chart | None:
    """Seen-unseen curves of the runs that have the same test images as the first."""
    lines = []
    for number, one in enumerate(compared):
        scored = one.content.scored
        if scored is None or (number and not one.differences):
            continue
        figures, area = one.content.detail["figures"], one.content.result["metrics"]["ausuc"]
        raw = None if figures["u"] is None or figures["s"] is None else (figures["u"], figures["s"])
        lines.append(Line(printable(one.name), scored.curve(), None if area is None else area["mean"], raw, None))
    return curve_chart("curves", lines, name_points=False) if lines else None


def _forest(compared: Sequence[Compared]) -> Chart | None:
    """Differences to the first run, with their intervals."""
    shown = [one for one in compared if one.differences]
    if not shown:
        return None
    labels = [label for label, _ in FIGURES.values()]
    first = printable(compared[0].name)

    def paint(figure: Figure) -> None:
        axes = one_axes(figure)
        axes.axvline(0, color=COLOUR["ink"], linewidth=1)
        for number, one in enumerate(shown):
            shift = (number - (len(shown) - 1) / 2) * min(0.25, 0.8 / len(shown))
            colour = SERIES[(number + 1) % len(SERIES)]
            keys = [key for key in FIGURES if key in one.differences]
            values = np.array([100 * one.differences[key].value for key in keys])
            ends = np.array([[100 * one.differences[k].low, 100 * one.differences[k].high] for k in keys])
            axes.errorbar(
                values,
                [list(FIGURES).index(key) + shift for key in keys],
                xerr=np.abs(ends.T - values),
                fmt=MARKERS[number % len(MARKERS)],
                color=colour,
                markersize=6,
                elinewidth=1.8,
                label=short(printable(one.name), 32),
            )
        axes.set_yticks(range(len(labels)), labels, color=COLOUR["ink"])
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set_xlabel(f"difference to {short(first, 20)}, points")
        figure.legend(loc="outside lower left", labelspacing=0.35)

    title = f"Difference to {first}, with 95 % intervals"
    rows = tuple(
        (printable(one.name), label, " ".join(_difference(one, key)[:2]))
        for one in shown
        for key, (label, _) in FIGURES.items()
    )
    words = "; ".join(f"{run}, {label}: {text}" for run, label, text in rows)
    height = 80 + 6 * max(30, 16 * len(shown)) + 17 * len(shown)
    return Chart(
        draw("forest", title=title, description=words, height=height, paint=paint),
        title,
        ("run", "figure", "difference"),
        rows,
    )
