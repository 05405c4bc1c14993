"""How often the model is right when it says that it is sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dkgzsl.report.charts.svg import COLOUR, Chart, draw, one_axes
from dkgzsl.report.wording import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reliability_chart(name: str, found: Mapping[str, Any] | None) -> Chart | None:
    """Accuracy over confidence, a point a bin, the larger the more images; None where it was not measured.

    Args:
        name: of the chart.
        found: confidence, accuracy and weight of each bin, and the expected calibration error.
    """
    if not found or not found["confidence"]:
        return None
    bins = list(zip(found["confidence"], found["accuracy"], found["weight"], strict=True))
    confidence, accuracy, weight = (100 * np.array(values) for values in zip(*bins, strict=True))

    def paint(figure: Figure) -> None:
        axes = one_axes(figure)
        axes.plot([0, 100], [0, 100], "--", color=COLOUR["muted"], linewidth=1.2)
        axes.scatter(confidence, accuracy, s=16 + 3 * weight, color=COLOUR["ours"], zorder=3, clip_on=False)
        axes.set(
            xlim=(0, 102), ylim=(0, 102), xlabel="how sure it says it is, %", ylabel="how often it is right, %"
        )
        axes.set_aspect("equal")

    title = "How often it is right when it is so sure"
    words = f"Expected calibration error {percent(found['ece'])} points. " + "; ".join(
        f"{percent(sure, 0)} % sure: {percent(right, 0)} % right ({percent(share, 0)} % of the images)"
        for sure, right, share in bins
    )
    return Chart(
        draw(name, title=title, description=words, height=320, paint=paint),
        title,
        ("sure, %", "right, %", "share of the images, %"),
        tuple((percent(sure), percent(right), percent(share)) for sure, right, share in bins),
    )
