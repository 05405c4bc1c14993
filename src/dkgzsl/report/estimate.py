"""The headline where the described classes have no test photos: figures on seen classes that were held out.

Validation treats some seen classes as unseen, fits without them, and scores their images: what the model does with
classes that it knows by description alone is then estimated, by the cuts that its settings were chosen on. The
estimate leans a little upwards, since the best of the tried settings was taken, and a little downwards, since the
models of the cuts had fewer seen classes than the final one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dkgzsl.display import FIGURE_NAMES, counted, percent
from dkgzsl.errors import ConfigError
from dkgzsl.methods.registry import method_info, method_title

Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Estimate:
    """Figures on held-out seen classes.

    Attributes:
        figures: means over the cuts, and over the seeds where there are several; fractions of 1.
        spread: deviation from cut to cut, likewise; None where there was one cut.
        classes: seen classes that a cut holds out; None where the run did not record it.
        cuts: how many cuts.
    """

    figures: Figures
    spread: Figures | None
    classes: int | None
    cuts: int

    @classmethod
    def of(cls, seeds: Sequence[Mapping[str, Any]]) -> Estimate | None:
        """The estimate of a method from what each seed recorded (`seeds_detail`); None without validation."""
        found = [seed for seed in seeds if seed.get("validation")]
        if not found or found[0]["validation"].get("u") is None:
            return None
        spreads = [seed["validation_spread"] for seed in found if seed.get("validation_spread")]
        return cls(
            figures=_means([seed["validation"] for seed in found]),
            spread=_means(spreads) if spreads else None,
            classes=found[0].get("held_out_classes"),
            cuts=int(found[0].get("cuts") or 1),
        )

    def text(self, key: str) -> str:
        """`71.2 ± 4.0`: a figure in percent with its spread."""
        deviation = None if self.spread is None else self.spread.get(key)
        return percent(self.figures.get(key)) + ("" if deviation is None else f" ± {percent(deviation)}")

    def named(self) -> str:
        """What the figures are: `estimated on 7 held-out seen classes, 8 cuts`."""
        held = "held-out seen classes" if self.classes is None else f"{counted(self.classes, _HELD, _HELD + 'es')}"
        return f"estimated on {held}, {counted(self.cuts, 'cut')}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values: `mean` and `std` (over the cuts) of each figure, as `metrics` of a result has them."""
        table = {
            key: None
            if self.figures.get(key) is None
            else {"mean": self.figures[key], "std": None if self.spread is None else self.spread.get(key)}
            for key in (*FIGURE_NAMES, "u_calibrated", "s_calibrated")
        }
        return {"held_out_classes": self.classes, "cuts": self.cuts, "metrics": table}


_HELD = "held-out seen class"


def headline(metrics: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]]) -> Estimate | None:
    """The estimate, where it is the headline: no described class has test photos.

    Args:
        metrics: of the result.
        seeds: `seeds_detail` of the result.
    """
    return None if metrics.get("u") is not None else Estimate.of(seeds)


def what_it_is(estimate: Estimate, method: str) -> list[str]:
    """Sentences on what the headline is, for people who do not know the field."""
    spread = (
        "± is the deviation from cut to cut" if estimate.cuts > 1 else "one cut, so that its spread is not known"
    )
    return [
        f"{estimate.named()}; {spread}",
        f"{method} was fitted without these seen classes and knew them by their descriptions alone, since there "
        "are no test photos of the described classes",
    ]


def leaning(
    method: str, metrics: Mapping[str, Any], baseline: Mapping[str, Any] | None, seeds: Sequence[Mapping[str, Any]]
) -> str | None:
    """Why the baseline's S can be higher; None where it is not, its U is not lower, or it has a balance.

    Args:
        method: of the run.
        metrics: of the result.
        baseline: of the result.
        seeds: `seeds_detail` of the result.
    """
    if not baseline or metrics.get("s") is None or baseline["figures"].get("s") is None:
        return None
    theirs, other = baseline["figures"], Estimate.of([baseline])
    higher = theirs["s"] > metrics["s"]["mean"]
    own = Estimate.of(seeds)
    if metrics.get("u") is None and own is not None and other is not None:  # the estimates are the headline
        higher = higher or (other.figures.get("s") or 0.0) > (own.figures.get("s") or 0.0)
    try:
        balanced = method_info(baseline["method"]).balance is not None
    except ConfigError:  # a method of a package that is not installed here
        return None
    if not higher or balanced:
        return None
    title = method_title(baseline["method"])
    sentence = f"{title} leans to seen classes, because it does not balance seen and unseen ones: its S is higher"
    if metrics.get("u") is not None and theirs.get("u") is not None:
        where, u = "test images", (theirs["u"], metrics["u"]["mean"])
    elif own is not None and other is not None and other.figures.get("u") is not None:
        where, u = "held-out classes", (other.figures["u"], own.figures.get("u"))
    else:
        return sentence
    if u[1] is not None and u[0] >= u[1]:
        return None  # it is better on both kinds of classes, and does not lean
    return f"{sentence}, and its U is lower, {percent(u[0])} ({method}: {percent(u[1])}) on {where}"


def _means(figures: Sequence[Figures]) -> dict[str, float | None]:
    keys = dict.fromkeys(key for one in figures for key in one)
    columns = {key: [one.get(key) for one in figures] for key in keys}
    return {key: None if None in values else float(np.mean(np.array(values))) for key, values in columns.items()}
