"""Real against synthesized features on two axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from dkgzsl.report import wording
from dkgzsl.report.canvas import COLOUR, MARKERS, SERIES, Chart, draw, label, plain
from dkgzsl.report.feature_map import FeatureMap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BELOW = 0.055
_CLOSE = 0.11  # of the width: names as near as that would lie on each other
_REACH = 1.6  # room around the middle nine tenths of the points


def map_chart(name: str, drawn: FeatureMap, class_names: Sequence[str]) -> Chart:
    """Test images of some unseen classes, what was synthesized of them, and the seen classes nearest to them."""
    unseen = _ordered(drawn.made_labels)
    seen = _ordered(drawn.seen_labels)

    def paint(figure: Figure) -> None:
        axes = plain(figure.add_subplot())
        axes.set(xticklabels=[], yticklabels=[], xlabel="first axis", ylabel="second axis")
        axes.plot(
            *drawn.seen.T.numpy(), "x", color=COLOUR["muted"], markersize=3.5, alpha=0.55, linestyle="none",
            label="seen classes nearby, training images",
        )  # fmt: skip
        for number, c in enumerate(unseen):
            colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
            made, real = drawn.made[drawn.made_labels == c], drawn.real[drawn.real_labels == c]
            axes.plot(
                *made.T.numpy(), marker, color=colour, markersize=5.5, markerfacecolor="none", alpha=0.8,
                linestyle="none", markeredgewidth=1, label="unseen classes, synthesized" if number == 0 else None,
            )  # fmt: skip
            axes.plot(
                *real.T.numpy(), marker, color=colour, markersize=4.5, markeredgewidth=0, alpha=0.75,
                linestyle="none", label="unseen classes, real test images" if number == 0 else None,
            )  # fmt: skip
        points = torch.cat([drawn.real, drawn.made, drawn.seen])
        low, high = points.quantile(0.02, dim=0), points.quantile(0.98, dim=0)
        middles = torch.stack([drawn.made[drawn.made_labels == c].mean(0) for c in unseen])
        for c in seen:
            place = drawn.seen[drawn.seen_labels == c].mean(0)
            apart = ((middles - place) / (high - low)).abs().amax(1)
            if apart.min() < _CLOSE:  # below the name that stands there
                place = middles[apart.argmin()] - torch.tensor([0, _BELOW]) * (high - low)
            x, y = place.tolist()
            text = wording.short(wording.name(class_names[c]), 15)
            label(axes, x, y, text, ha="center", va="center", fontsize=9, color=COLOUR["muted"])
        for c in unseen:
            x, y = drawn.made[drawn.made_labels == c].mean(0).tolist()
            text = wording.short(wording.name(class_names[c]), 15)
            label(
                axes, x, y, text, ha="center", va="center", fontsize=10.5, fontweight="bold", color=COLOUR["ink"]
            )
        middle, reach = (low + high) / 2, _REACH * (high - low) / 2
        axes.set_xlim(float(middle[0] - reach[0]), float(middle[0] + reach[0]))
        axes.set_ylim(float(middle[1] - reach[1]), float(middle[1] + reach[1]))
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


def _ordered(labels: torch.Tensor) -> list[int]:
    return list(dict.fromkeys(labels.tolist()))


def _row(drawn: FeatureMap, c: int, class_names: Sequence[str]) -> tuple[str, ...]:
    real, made = drawn.real[drawn.real_labels == c], drawn.made[drawn.made_labels == c]

    def mean(points: torch.Tensor) -> str:
        return "({:.1f}, {:.1f})".format(*points.mean(0).tolist()) if len(points) else wording.DASH

    return wording.name(class_names[c]), str(len(real)), str(len(made)), mean(real), mean(made)
