"""The map of the features: real and synthesized features on two axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from dkgzsl.report import wording
from dkgzsl.report.charts.drawing import MapPoints, draw_map, plain
from dkgzsl.report.charts.svg import COLOUR, Chart, draw
from dkgzsl.report.record.feature_map import FeatureMap

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def map_chart(name: str, drawn: FeatureMap, class_names: Sequence[str]) -> Chart:
    """Real and synthesized features of some unseen classes, and training images of the nearest seen classes.

    Args:
        name: name of the chart.
        drawn: the points.
        class_names: names of all classes.
    """
    points = map_points(drawn)

    def paint(figure: Figure) -> None:
        draw_map(plain(figure.add_subplot()), points, COLOUR, class_names=class_names)
        figure.legend(loc="outside lower left", labelspacing=0.35)

    title = "Real and synthesized features of unseen classes"
    rows = tuple(_row(drawn, c, class_names) for c in points.unseen_classes())
    words = "; ".join(
        f"{row[0]}: mean of the real ones {row[3]}, of the synthesized ones {row[4]}" for row in rows
    )
    return Chart(
        draw(name, title=title, description=words, height=400, paint=paint),
        title,
        ("class", "real", "synthesized", "mean of the real", "mean of the synthesized"),
        rows,
    )


def map_points(drawn: FeatureMap) -> MapPoints:
    """The points of a record's map, as they are drawn."""
    names = ("real", "real_labels", "synthesized", "synthesized_labels", "seen", "seen_labels")
    return MapPoints(*(getattr(drawn, name).numpy() for name in names))


def _row(drawn: FeatureMap, c: int, class_names: Sequence[str]) -> tuple[str, ...]:
    real, synthesized = drawn.real[drawn.real_labels == c], drawn.synthesized[drawn.synthesized_labels == c]

    def mean(points: torch.Tensor) -> str:
        return "({:.1f}, {:.1f})".format(*points.mean(0).tolist()) if len(points) else wording.DASH

    return wording.name(class_names[c]), str(len(real)), str(len(synthesized)), mean(real), mean(synthesized)
