"""What images are, and what speaks for it: a prediction with its evidence, as people and machines read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from dkgzsl.inference.recognizer import Prediction, Recognizer
from dkgzsl.representation.overlay import Strong, attribute_panels

if TYPE_CHECKING:
    from PIL.Image import Image


ATTRIBUTES = 4
"""Attributes named as evidence, where nothing is said."""


@dataclass(frozen=True)
class Attribute:
    """An attribute that speaks for the predicted class.

    Attributes:
        name: the attribute.
        typical: deviations of the class's value above the mean of the classes.
        shown: deviations of its score in the photo above the training images' mean; None without ARA.
        where: middle of the region that it attends to most, as shares of the width and the height of what the
            backbone saw, from the top left; None without ARA.
        attention: its weights over the regions; None without ARA.
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
class Answer:
    """A prediction and its evidence.

    Attributes:
        prediction: the classes.
        evidence: attributes that speak for the most probable one, the strongest first; empty where none is known.
    """

    prediction: Prediction
    evidence: tuple[Attribute, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values: `class` is null where the image is none of the classes."""
        best = self.prediction.ranked[0]
        return {
            "class": self.prediction.name,
            "probability": round(best.probability, 6),
            "seen": best.seen,
            "fit": round(self.prediction.fit, 4),
            "top": [
                {"class": one.name, "probability": round(one.probability, 6), "seen": one.seen}
                for one in self.prediction.ranked
            ],
            "evidence": [one.to_json() for one in self.evidence],
        }


def answers(
    recognizer: Recognizer,
    features: np.ndarray | Tensor,
    *,
    grid: tuple[int, int] | None = None,
    top: int = 1,
    attributes: int = ATTRIBUTES,
) -> list[Answer]:
    """Predictions with evidence.

    Args:
        recognizer: who predicts.
        features: as `Recognizer.vectors` takes them.
        grid: rows and columns of the regions, which say where an attribute lies.
        top: how many classes to name.
        attributes: how many attributes to name at most; 0 saves the work.
    """
    if not len(features):
        return []
    known = recognizer.evidence
    if not attributes or known is None:
        return [Answer(one, ()) for one in recognizer.predict(features, top=top)]
    scores, attended = recognizer.look(features)
    found = []
    for row, prediction in enumerate(recognizer.predictions(scores, top=top)):
        number = recognizer.number_of(prediction.ranked[0].name)
        shown = None if attended is None else attended.scores[row].float().cpu().numpy()
        evidence = []
        for spoken in known.of_class(number, shown, top=attributes):
            attention = None if attended is None else attended.attention[row, spoken.attribute]
            weights = None if attention is None else attention.float().cpu().numpy()
            where = None if weights is None or grid is None else _middle(int(weights.argmax()), grid)
            evidence.append(Attribute(known.names[spoken.attribute], spoken.typical, spoken.shown, where, weights))
        found.append(Answer(prediction, tuple(evidence)))
    return found


def evidence_picture(answer: Answer, pixels: UInt8[np.ndarray, "height width 3"], grid: tuple[int, int]) -> Image:
    """The photo, and beside it where each attribute of the evidence lies.

    Args:
        answer: with evidence of ARA.
        pixels: what the backbone saw.
        grid: rows and columns of the regions.
    """
    shown = [one for one in answer.evidence if one.attention is not None]
    maps = [one.attention for one in shown if one.attention is not None]
    attention = np.stack(maps) if maps else np.zeros((0, grid[0] * grid[1]), np.float32)
    strong = [Strong(k, one.shown or 0.0) for k, one in enumerate(shown)]
    return attribute_panels(pixels, attention, strong, [one.name for one in shown], grid)


def in_words(answer: Answer) -> list[str]:
    """A prediction in lines of text: the class, the runners-up, the evidence."""
    prediction, ranked = answer.prediction, answer.prediction.ranked
    first = _ranked(ranked[0].name, ranked[0].probability, ranked[0].seen)
    lines = [first if prediction.name is not None else f"none of these (nearest: {first})"]
    lines += [f"  {_ranked(one.name, one.probability, one.seen)}" for one in ranked[1:]]
    if answer.evidence:
        named = "; ".join(_attribute(one) for one in answer.evidence)
        lines.append(f"  {'shows' if answer.evidence[0].shown is not None else 'typical'}: {named}")
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
