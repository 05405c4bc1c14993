"""Predictions with their evidence, the attributes that speak for them, in words and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dkgzsl.inference.recognizer import Prediction, Recognizer
from dkgzsl.representation.overlay import map_panels

if TYPE_CHECKING:
    from PIL.Image import Image


ATTRIBUTES = 4
"""Attributes named as evidence, unless another number is asked for."""


@dataclass(frozen=True)
class Attribute:
    """An attribute that speaks for the predicted class.

    Attributes:
        name: the attribute.
        typical: deviations of the class's value above the mean of the classes.
        shown: deviations of its score in the photo above the training images' mean; None without ARA.
        where: middle of the region with the largest attention, as shares of the width and the height of what the
            backbone saw, from the top left; None without ARA.
        attention: its weights over the regions, summing to 1; None without ARA.
    """

    name: str
    typical: float
    shown: float | None
    where: tuple[float, float] | None
    attention: Float[np.ndarray, " regions"] | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        where = None if self.where is None else {"x": round(self.where[0], 3), "y": round(self.where[1], 3)}
        shown = None if self.shown is None else round(self.shown, 2)
        return {"attribute": self.name, "typical": round(self.typical, 2), "shown": shown, "where": where}


@dataclass(frozen=True)
class ExplainedPrediction:
    """A prediction and its evidence.

    Attributes:
        prediction: the most probable classes.
        evidence: attributes that speak for the most probable one, the strongest first; empty where none is known.
    """

    prediction: Prediction
    evidence: tuple[Attribute, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values: `class`, `probability` and `seen` are null where the image is none of the classes."""
        nearest = [
            {"class": one.name, "probability": round(one.probability, 6), "seen": one.seen}
            for one in self.prediction.ranked
        ]
        none = {"class": None, "probability": None, "seen": None}
        return {
            **(none if self.prediction.name is None else nearest[0]),
            "nearest": nearest,
            "in_distribution": round(self.prediction.in_distribution, 4),
            "evidence": [one.to_json() for one in self.evidence],
        }


def explained_predictions(
    recognizer: Recognizer,
    features: np.ndarray | Tensor,
    *,
    grid: tuple[int, int] | None = None,
    top: int = 1,
    attributes: int = ATTRIBUTES,
) -> list[ExplainedPrediction]:
    """Predictions with evidence.

    Args:
        recognizer: the model.
        features: as `Recognizer.vectors` takes them.
        grid: rows and columns of the regions, which say where an attribute lies.
        top: how many classes to name.
        attributes: how many attributes to name at most; 0 saves the work.
    """
    if not len(features):
        return []
    known = recognizer.evidence
    if not attributes or known is None:
        return [ExplainedPrediction(one, ()) for one in recognizer.predict(features, top=top)]
    vectors, maps = recognizer.with_attention(features)
    found = []
    for row, prediction in enumerate(recognizer.predictions(vectors, top=top)):
        number = recognizer.number_of(prediction.ranked[0].name)
        shown = None if maps is None else maps.scores[row].float().cpu().numpy()
        evidence = []
        for one in known.of_class(number, shown, top=attributes):
            weights = None if maps is None else maps.attention[row, one.attribute].float().cpu().numpy()
            where = None if weights is None or grid is None else _middle(int(weights.argmax()), grid)
            evidence.append(Attribute(known.names[one.attribute], one.typical, one.shown, where, weights))
        found.append(ExplainedPrediction(prediction, tuple(evidence)))
    return found


def evidence_picture(
    explained: ExplainedPrediction, pixels: UInt8[np.ndarray, "height width 3"], grid: tuple[int, int]
) -> Image:
    """The photo, and next to it where each attribute of the evidence lies.

    Args:
        explained: with evidence of ARA.
        pixels: what the backbone saw.
        grid: rows and columns of the regions.
    """
    maps = [
        (f"{one.name} ({one.shown or 0.0:+.1f})", one.attention)
        for one in explained.evidence
        if one.attention is not None
    ]
    return map_panels(pixels, maps, grid)


def saliency_picture(
    recognizer: Recognizer,
    tokens: Float[np.ndarray, "tokens channels"],
    pixels: UInt8[np.ndarray, "height width 3"],
    grid: tuple[int, int],
) -> Image | None:
    """The photo, and next to it FDE's saliency before training and after; None without FDE.

    Args:
        recognizer: the model.
        tokens: of the photo, the global one first.
        pixels: what the backbone saw.
        grid: rows and columns of the regions.
    """
    refiner = recognizer.refiner
    if refiner is None or refiner.denoising is None:
        return None
    one = torch.from_numpy(tokens[None]).float()
    before, after = (found[0].float().numpy() for found in (refiner.initial_saliency(one), refiner.saliency(one)))
    return map_panels(pixels, [("saliency, untrained", before), ("saliency, trained", after)], grid)


def in_words(explained: ExplainedPrediction) -> list[str]:
    """A prediction in lines of text: the class, the runners-up, the evidence."""
    prediction, ranked = explained.prediction, explained.prediction.ranked
    first = _ranked(ranked[0].name, ranked[0].probability, ranked[0].seen)
    lines = [first if prediction.name is not None else f"none of these (nearest: {first})"]
    lines += [f"  {_ranked(one.name, one.probability, one.seen)}" for one in ranked[1:]]
    if explained.evidence:
        named = "; ".join(_attribute(one) for one in explained.evidence)
        lines.append(f"  {'shows' if explained.evidence[0].shown is not None else 'typical'}: {named}")
    return lines


def _ranked(name: str, probability: float, seen: bool) -> str:
    return f"{name} {100 * probability:.0f} % ({'seen' if seen else 'unseen'})"


def _attribute(one: Attribute) -> str:
    if one.where is None:
        return one.name
    across = ("left", "middle", "right")[min(2, int(3 * one.where[0]))]
    down = ("upper", "", "lower")[min(2, int(3 * one.where[1]))]
    return f"{one.name} ({f'{down} {across}'.strip()})"


def _middle(region: int, grid: tuple[int, int]) -> tuple[float, float]:
    row, column = divmod(region, grid[1])
    return (column + 0.5) / grid[1], (row + 0.5) / grid[0]
