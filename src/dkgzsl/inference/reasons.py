"""Reasons about one photo: the attributes that it shows, next to those of the class and its rival, and where.

What decides, where the model takes pooled features: of an image with regions x_1 ... x_R, the features without
region r are those of the mean of the others, x + (mean_s x_s - x_r) / (R - 1), exactly so where the pooled feature
x is the mean of the regions, as of a network that ends in an average pool. The loss of region r is the fall of the
class's log-odds when it is left out (occlusion after Zeiler and Fergus, 2014, of features instead of pixels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import logsumexp
from torch import Tensor

from dkgzsl.inference.recognizer import Recognizer

REGIONS: Final = 3
"""Regions that are named at most."""
NO_REASONS: Final[Mapping[str, Any]] = {"against": [], "rival": None}
"""JSON values where no attribute can be read from photos."""


@dataclass(frozen=True)
class Attribute:
    """An attribute that speaks for a class, or against it.

    Attributes:
        name: the attribute.
        typical: deviations of the class's value above the mean of the classes.
        shown: deviations of what the photo shows of it above the usual; None where the photo was not asked.
        where: middle of the region that shows it most, as shares of the width and the height of what the backbone
            saw, from the top left; None without regions.
        attention: weights over the regions, at least 0, summing to 1 (of ARA), or what each region adds to the
            reading beyond their mean, scaled to sum to 1 (of an `AttributeMap`); None without regions.
        accuracy: of reading it from photos of held-out classes, AUROC, 0.5 is chance; None where it is not known.
    """

    name: str
    typical: float
    shown: float | None
    where: tuple[float, float] | None
    attention: Float[np.ndarray, " regions"] | None
    accuracy: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        where = None if self.where is None else {"x": round(self.where[0], 3), "y": round(self.where[1], 3)}
        shown = None if self.shown is None else round(self.shown, 2)
        accuracy = None if self.accuracy is None else round(self.accuracy, 3)
        return {
            "attribute": self.name,
            "typical": round(self.typical, 2),
            "shown": shown,
            "where": where,
            "accuracy": accuracy,
        }


@dataclass(frozen=True)
class RegionNamed:
    """A region that the decision rests on.

    Attributes:
        where: its middle, as shares of the width and the height of what the backbone saw, from the top left.
        loss: by how much the class's log-odds would fall without it.
    """

    where: tuple[float, float]
    loss: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"x": round(self.where[0], 3), "y": round(self.where[1], 3), "loss": round(self.loss, 3)}


@dataclass(frozen=True)
class Reasons:
    """What a photo shows, next to the most probable class and its rival.

    Attributes:
        agrees: attributes that the photo shows and the class has, the strongest first.
        disagrees: attributes that the photo shows and the class has less of than most, or that the class has and
            the photo lacks (`shown` is then below 0).
        rival: the second class; None where there is none.
        for_rival: attributes that the photo shows and the rival has more of; `typical` is the rival's value.
    """

    agrees: tuple[Attribute, ...]
    disagrees: tuple[Attribute, ...]
    rival: str | None
    for_rival: tuple[Attribute, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without `agrees`."""
        rival = {"class": self.rival, "evidence": [one.to_json() for one in self.for_rival]}
        return {
            "against": [one.to_json() for one in self.disagrees],
            "rival": None if self.rival is None else rival,
        }


@dataclass(frozen=True)
class PhotoReasons:
    """Reads attributes from photos by the map of a recognizer's evidence, whose accuracy is known.

    Attributes:
        recognizer: its evidence has a reader.
        features: of the photos.
        shown: readings of all attributes.
        grid: rows and columns of the regions; None where they are not known.
        top: most attributes that speak for a class.
    """

    recognizer: Recognizer
    features: Float[Tensor, "photos ..."]
    shown: Float[np.ndarray, "photos attributes"]
    grid: tuple[int, int] | None
    top: int

    @classmethod
    def of(
        cls, recognizer: Recognizer, features: np.ndarray | Tensor, *, grid: tuple[int, int] | None, top: int
    ) -> PhotoReasons | None:
        """None where attributes cannot be read from such features, or none of them accurately."""
        reader = None if recognizer.evidence is None else recognizer.evidence.reader
        if reader is None or not reader.takes(features) or not reader.readable.any():
            return None
        given = _tensor(features)
        return cls(recognizer, given, reader.read(given), grid, top)

    def of_photo(self, row: int, numbers: Sequence[int]) -> Reasons | None:
        """The reasons about a photo; None where the class was described without these attributes.

        Args:
            row: of the photo.
            numbers: of the most probable class and its rival, where there is one.
        """
        known = self.recognizer.evidence
        assert known is not None, "it has a reader"
        if bool(torch.isnan(known.table[numbers[0]]).any()):
            return None
        rival = numbers[1] if len(numbers) > 1 else None
        sides: dict[str, list[Attribute]] = {"for": [], "against": [], "rival": []}
        for one in known.reasons(numbers[0], rival, self.shown[row], top=self.top):
            weights = self._weights(row, one.attribute) if one.shown > 0 else None
            where = None if weights is None or self.grid is None else middle_of(int(weights.argmax()), self.grid)
            named = known.names[one.attribute]
            sides[one.side].append(Attribute(named, one.typical, one.shown, where, weights, one.accuracy))
        name = None if rival is None else self.recognizer.class_names[rival]
        return Reasons(tuple(sides["for"]), tuple(sides["against"]), name, tuple(sides["rival"]))

    def _weights(self, row: int, attribute: int) -> Float[np.ndarray, " regions"] | None:
        """What each region adds to a reading beyond the mean of the regions, scaled to sum to 1."""
        known = self.recognizer.evidence
        assert known is not None, "it has a reader"
        assert known.reader is not None, "it has read"
        if not known.reader.regions:
            return None
        each = known.reader.contributions(self.features[row], attribute)
        beyond = np.clip(each - each.mean(), 0, None)
        total = beyond.sum()
        return np.asarray(beyond / total) if total > 0 else np.full(len(each), 1 / len(each), np.float32)


def losses_without_regions(
    recognizer: Recognizer, features: np.ndarray | Tensor, numbers: Sequence[int]
) -> Float[np.ndarray, "photos regions"] | None:
    """By how much the log-odds of a photo's class fall without each region, at the calibrated temperature.

    Args:
        recognizer: its model takes pooled features.
        features: of the photos.
        numbers: the class of each photo.

    Returns:
        None where the photos have no regions, or the model takes more than the pooled features.
    """
    if features.ndim != 3 or recognizer.visual is not None or features.shape[1] < 3:
        return None
    found = []
    for tokens, number in zip(_tensor(features), numbers, strict=True):
        regions = tokens[1:]
        without = tokens[0] + (regions.mean(0) - regions) / (len(regions) - 1)
        odds = _log_odds(recognizer, torch.cat([tokens[:1], without]), number)
        found.append(odds[0] - odds[1:])
    return np.stack(found) if found else None


def _log_odds(
    recognizer: Recognizer, vectors: Float[Tensor, "vectors channels"], number: int
) -> Float[np.ndarray, " vectors"]:
    scores = recognizer.scores(vectors) / recognizer.calibration.temperature
    others = scores.copy()
    others[:, number] = -np.inf
    return np.asarray(scores[:, number] - logsumexp(others, axis=1))


def regions_named(
    losses: Float[np.ndarray, " regions"] | None, grid: tuple[int, int] | None
) -> tuple[RegionNamed, ...]:
    """The regions with the largest losses above 0, at most `REGIONS`; none where the grid is not known."""
    if losses is None or grid is None:
        return ()
    order = [int(region) for region in np.argsort(-losses, kind="stable")[:REGIONS] if losses[region] > 0]
    return tuple(RegionNamed(middle_of(region, grid), float(losses[region])) for region in order)


def middle_of(region: int, grid: tuple[int, int]) -> tuple[float, float]:
    """Middle of a region, as shares of width and height."""
    row, column = divmod(region, grid[1])
    return (column + 0.5) / grid[1], (row + 0.5) / grid[0]


def place_in_words(where: tuple[float, float]) -> str:
    """`upper left`, `middle`, `lower right`, ..., by thirds."""
    across = ("left", "middle", "right")[min(2, int(3 * where[0]))]
    down = ("upper", "", "lower")[min(2, int(3 * where[1]))]
    return f"{down} {across}".strip()


def _tensor(features: np.ndarray | Tensor) -> Float[Tensor, "photos ..."]:
    given = features if isinstance(features, Tensor) else torch.from_numpy(np.array(features, np.float32))
    return given.float()
