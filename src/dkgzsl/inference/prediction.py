"""Predictions with their evidence: the attributes that speak for them, against them, and for the second class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dkgzsl.display import percent
from dkgzsl.inference.reasons import (
    NO_REASONS,
    Attribute,
    PhotoReasons,
    Reasons,
    RegionNamed,
    losses_without_regions,
    middle_of,
    place_in_words,
    regions_named,
)
from dkgzsl.inference.recognizer import Prediction, Ranked, Recognizer
from dkgzsl.representation.attribute_attention import AttentionOutput
from dkgzsl.representation.evidence import AttributeEvidence
from dkgzsl.representation.overlay import map_panels

if TYPE_CHECKING:
    from PIL.Image import Image


_READABLE = 64  # narrower pictures are enlarged pixel by pixel
ATTRIBUTES = 4
"""Attributes named as evidence, unless another number is asked for."""


@dataclass(frozen=True)
class ExplainedPrediction:
    """A prediction and its evidence.

    Attributes:
        prediction: the most probable classes.
        evidence: attributes that speak for the most probable one, the strongest first; empty where none is known.
        reasons: attributes that were read from the photo; None where none can be read.
        losses: how much less likely that class would be without each region (`losses_without_regions`); None
            without regions.
        regions: those that it would lose most by, the most first; empty without regions.
    """

    prediction: Prediction
    evidence: tuple[Attribute, ...]
    reasons: Reasons | None = None
    losses: Float[np.ndarray, " regions"] | None = None
    regions: tuple[RegionNamed, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values: `class`, `probability` and `seen` are null where the image is none of the classes."""
        nearest = [
            {"class": one.name, "probability": round(one.probability, 6), "seen": one.seen}
            | ({"photos": one.photos} if one.photos else {})
            for one in self.prediction.ranked
        ]
        none = {"class": None, "probability": None, "seen": None}
        return {
            **(none if self.prediction.name is None else nearest[0]),
            "nearest": nearest,
            "in_distribution": round(self.prediction.in_distribution, 4),
            "evidence": [one.to_json() for one in self.evidence],
            **(NO_REASONS if self.reasons is None else self.reasons.to_json()),
            "regions": [one.to_json() for one in self.regions],
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
    predictions = recognizer.predictions(vectors, top=max(top, 2))  # the rival is asked for, named or not
    two = [[recognizer.number_of(one.name) for one in best.ranked[:2]] for best in predictions]
    reader, losses = PhotoReasons.of(recognizer, features, grid=grid, top=attributes), None
    if maps is None:
        losses = losses_without_regions(recognizer, features, [numbers[0] for numbers in two])
    found = []
    for row, best in enumerate(predictions):
        prediction = replace(best, ranked=best.ranked[:top])
        reasons = None if reader is None else reader.of_photo(row, two[row])
        if reasons is None or maps is not None:  # ARA says by itself what speaks for the class, and where
            named = tuple(_attended(known, two[row][0], maps, row, grid=grid, top=attributes))
        else:
            named = reasons.agrees
        lost = None if losses is None else losses[row]
        found.append(ExplainedPrediction(prediction, named, reasons, lost, regions_named(lost, grid)))
    return found


def _attended(
    known: AttributeEvidence,
    number: int,
    maps: AttentionOutput | None,
    row: int,
    *,
    grid: tuple[int, int] | None,
    top: int,
) -> Iterator[Attribute]:
    """The attributes that speak for a class: by ARA, or, without, by its description alone."""
    shown = None if maps is None else maps.scores[row].float().cpu().numpy()
    for one in known.of_class(number, shown, top=top):
        weights = None if maps is None else maps.attention[row, one.attribute].float().cpu().numpy()
        where = None if weights is None or grid is None else middle_of(int(weights.argmax()), grid)
        yield Attribute(known.names[one.attribute], one.typical, one.shown, where, weights)


def evidence_picture(
    explained: ExplainedPrediction, pixels: UInt8[np.ndarray, "height width 3"], grid: tuple[int, int]
) -> Image:
    """The photo, and next to it where each attribute of the evidence lies.

    Args:
        explained: with evidence that lies in regions.
        pixels: what the backbone saw.
        grid: rows and columns of the regions.
    """
    maps = [] if explained.losses is None else [("decides", explained.losses)]
    maps += [
        (f"{one.name} ({one.shown or 0.0:+.1f})", one.attention)
        for one in explained.evidence
        if one.attention is not None
    ]
    factor = -(-_READABLE // pixels.shape[1])  # under a small picture its caption could not be read
    return map_panels(pixels.repeat(factor, 0).repeat(factor, 1), maps, grid)


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
    first = _ranked(ranked[0])
    lines = [first if prediction.name is not None else f"none of these (nearest: {first})"]
    lines += [f"  {_ranked(one)}" for one in ranked[1:]]
    return lines + [f"  {line}" for line in reasons_in_words(explained)]


def reasons_in_words(explained: ExplainedPrediction) -> list[str]:
    """What speaks for the most probable class, against it, and for its rival: a line each, without the empty ones.

    Behind each attribute stands where the photo shows it, and how accurately it is read from photos of held-out
    classes: in so many percent of pairs the photo whose class has it reads higher (AUROC; 50 is chance).
    """
    first = explained.prediction.ranked[0].name
    named = "; ".join(map(_attribute, explained.evidence))
    if explained.reasons is not None:
        lines = _of_photo(explained, explained.reasons, named)
    elif not named:
        lines = []
    else:
        shown = explained.evidence[0].shown is not None
        lines = [f"{'shows' if shown else f'typical of {first} (not read from the photo)'}: {named}"]
    if explained.regions:
        places = dict.fromkeys(place_in_words(one.where) for one in explained.regions)
        lines.append(f"decided most by these parts: {', '.join(places)}")
    return lines


def _of_photo(explained: ExplainedPrediction, reasons: Reasons, named: str) -> list[str]:
    first = explained.prediction.ranked[0].name
    lines = [
        f"shows, typical of {first}: {named}" if named else f"shows no attribute that is typical of {first}",
    ]
    shows = "; ".join(_attribute(one) for one in reasons.disagrees if (one.shown or 0) > 0)
    lacks = "; ".join(_attribute(one) for one in reasons.disagrees if (one.shown or 0) < 0)
    both = [f"{verb} {what}" for verb, what in (("shows", shows), ("lacks", lacks)) if what]
    if both:
        lines.append(f"against {first}: {'; '.join(both)}")
    if reasons.for_rival:
        lines.append(f"for {reasons.rival} instead: shows {'; '.join(map(_attribute, reasons.for_rival))}")
    return lines


def _ranked(one: Ranked) -> str:
    return f"{one.name} {percent(one.probability, 0)} % ({one.kind})"


def _attribute(one: Attribute) -> str:
    facts = []
    if one.where is not None:
        facts.append(place_in_words(one.where))
    if one.accuracy is not None:
        facts.append(f"{percent(one.accuracy, 0)} % correct")
    return f"{one.name} ({'; '.join(facts)})" if facts else one.name
