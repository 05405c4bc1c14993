"""The named attributes that speak for a class: what its description stresses, and what a photo shows of it.

What a photo shows is read by an `AttributeMap`, whose accuracy is known, and by ARA where there is ARA.

ARA's raw scores of two attributes have no common scale, since each attribute has its own random start. What counts
is how far a photo's score lies above the usual scores, those of training images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dkgzsl.config import RefinementConfig
from dkgzsl.data.names import spoken_attribute
from dkgzsl.data.problem import Problem
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.representation.attribute_map import AttributeMap, fit_attribute_map
from dkgzsl.representation.attributes import attributes_for
from dkgzsl.representation.blocks import read_store
from dkgzsl.representation.representation import Fitted, FittedBlocks

SAMPLE: Final = 512
"""Training images, evenly taken, that say which score of an attribute is usual."""
SHOWN: Final = 0.5
"""Deviations above the usual reading from which on a photo shows an attribute; as far below, it lacks it."""
APART: Final = 0.25
"""Deviations from the mean of the classes from which on a class has an attribute, or has less of it."""
_WITHOUT_VECTORS: Final = RefinementConfig(vectors="random")  # names and table are all that is asked for

Side = Literal["for", "against", "rival"]
"""What a reason speaks for: the class; none of it, although it is the most probable one; the second class."""


class Evidence(NamedTuple):
    """An attribute that speaks for a class.

    Attributes:
        attribute: its position.
        typical: deviations of the class's value above the mean of the classes.
        shown: deviations of the photo's score above the training images' mean; None without ARA.
    """

    attribute: int
    typical: float
    shown: float | None


class Reason(NamedTuple):
    """An attribute, readable from photos, in which a photo agrees or disagrees with a class.

    Attributes:
        side: what it speaks for.
        attribute: its position.
        typical: deviations of the value above the mean of the classes: the class's, of side `rival` the rival's.
        shown: deviations of the photo's reading above the usual one.
        accuracy: of the reading on held-out classes, AUROC: above 0.5 (chance), at most 1.
    """

    side: Side
    attribute: int
    typical: float
    shown: float
    accuracy: float


def attribute_names(problem: Problem) -> tuple[str, ...]:
    """Names of ARA's attributes, as people say them; `attribute N` where they have none."""
    found = attributes_for(problem, _WITHOUT_VECTORS, seed=0)
    names = found.names or tuple(f"attribute {number}" for number in range(found.table.shape[1]))
    return tuple(map(spoken_attribute, names))


def usual_scores(problem: Problem, fitted: Fitted) -> Float[Tensor, "2 attributes"] | None:
    """Mean and deviation of ARA's attribute scores over training images; None without ARA.

    Args:
        problem: with the region features that the representation was fitted on.
        fitted: the representation; scores that it has read already are not computed again.
    """
    refiner = fitted.visual.refiner if isinstance(fitted, FittedBlocks) else None
    if refiner is None or refiner.attention_layer is None:
        return None
    assert isinstance(fitted, FittedBlocks), "it has a refiner"
    training = np.sort(problem.parts.trainval)
    sample = training[np.linspace(0, len(training) - 1, min(SAMPLE, len(training))).astype(int)]
    if fitted.blocks is not None and fitted.known is problem.features and "scores" in fitted.blocks:
        scores = fitted.blocks["scores"][torch.from_numpy(sample)]
    else:
        scores = read_store(problem.features, sample, ["scores"], refiner)["scores"]
    return torch.stack([scores.mean(0), scores.std(0, correction=0)])


def strengths(
    scores: Float[np.ndarray, "*images attributes"], usual: Float[Tensor, "2 attributes"]
) -> Float[np.ndarray, "*images attributes"]:
    """Deviations of attribute scores above the training images' mean; 0 for an attribute that never varies.

    Args:
        scores: ARA's, of one image or several.
        usual: as `usual_scores` gives it.
    """
    mean, deviation = usual.numpy()
    return np.asarray((scores - mean) / np.where(deviation > 0, deviation, np.inf))


@dataclass(frozen=True, eq=False)
class AttributeEvidence:
    """Named attributes of all classes, and what scores of them are usual.

    Attributes:
        names: of the attributes, as people say them.
        source: which semantics they are.
        table: value of every attribute in every class; NaN where a class was described otherwise.
        usual: as `usual_scores` gives it; None without ARA.
        reader: reads attributes from photos; None where attributes have no names, there are too few seen classes
            to measure its accuracy, and in runs of earlier versions.
    """

    names: tuple[str, ...]
    source: str
    table: Float[Tensor, "classes attributes"]
    usual: Float[Tensor, "2 attributes"] | None
    reader: AttributeMap | None = None

    @classmethod
    def of(cls, problem: Problem, fitted: Fitted, *, seed: int = 0) -> AttributeEvidence | None:
        """What a run records of a problem; None where no attribute has a name and there is no ARA.

        Args:
            problem: the run's; of its images, those for training are read.
            fitted: the run's representation.
            seed: divides the seen classes, where the accuracy of reading attributes is measured.
        """
        found, usual = attributes_for(problem, _WITHOUT_VECTORS, seed=0), usual_scores(problem, fitted)
        if found.names is None and usual is None:
            return None
        reader = None if found.names is None else fit_attribute_map(problem, found.table, seed=seed)
        return cls(attribute_names(problem), found.source, torch.from_numpy(found.table), usual, reader)

    def reasons(
        self, number: int, rival: int | None, shown: Float[np.ndarray, " attributes"], *, top: int
    ) -> list[Reason]:
        """In which readable attributes a photo agrees with a class, disagrees with it, and agrees with its rival.

        For the class speaks what the photo shows and the class has; against it what the photo shows and the class
        has less of than most, or what the class has and the photo lacks; for the rival what the photo shows and
        the rival has more of than the class. The weight of a reason is both deviations times the accuracy above
        chance. A class that is described otherwise has no reasons.

        Args:
            number: of the class.
            rival: number of the second class, where there is one.
            shown: readings of the photo, as `AttributeMap.read` gives them.
            top: at most so many for the class, and half as many, rounded up, against it and for the rival.

        Returns:
            The reasons of each side, the strongest of a side first.
        """
        assert self.reader is not None, "it gave the readings"
        table, accuracy = self.typical(), self.reader.accuracy.double().numpy()
        own = table[number]
        trust = np.where(self.reader.readable, 2 * accuracy - 1, 0.0)
        shows, lacks = shown >= SHOWN, shown <= -SHOWN
        against = (shows & (own <= -APART)) | (lacks & (own >= APART))
        found = self._side("for", own, shown, trust * (shows & (own >= APART)) * shown * own, top)
        found += self._side("against", own, shown, trust * against * np.abs(shown * own), -(-top // 2))
        if rival is not None:
            more = table[rival] - own
            weight = trust * (shows & (more >= SHOWN) & (table[rival] >= APART)) * shown * more
            found += self._side("rival", table[rival], shown, weight, -(-top // 2))
        return found

    def _side(
        self, side: Side, typical: np.ndarray, shown: np.ndarray, weight: np.ndarray, top: int
    ) -> list[Reason]:
        assert self.reader is not None, "it gave the readings"
        weight = np.nan_to_num(weight)  # of a class that is described otherwise
        order = [int(k) for k in np.argsort(-weight, kind="stable")[:top] if weight[k] > 0]
        accuracy = self.reader.accuracy
        return [Reason(side, k, float(typical[k]), float(shown[k]), float(accuracy[k])) for k in order]

    def of_class(
        self, number: int, scores: Float[np.ndarray, " attributes"] | None, *, top: int
    ) -> list[Evidence]:
        """The attributes that speak most for a class, the strongest first.

        With ARA's scores of a photo: those that are typical of the class and show in the photo, by the product of
        both. Without: those that are most typical. The list is shorter where fewer do either.

        Args:
            number: of the class.
            scores: ARA's attribute scores of a photo, where there is ARA.
            top: at most so many.
        """
        typical = self.typical()[number]
        if np.isnan(typical).any():  # described otherwise: what the photo shows is all there is
            typical = np.ones_like(typical) if scores is not None else np.zeros_like(typical)
        shown = None if scores is None or self.usual is None else strengths(scores, self.usual)
        weight = np.clip(typical, 0, None) * (1.0 if shown is None else np.clip(shown, 0, None))
        order = np.argsort(-weight, kind="stable")[:top]
        return [
            Evidence(int(k), float(typical[k]), None if shown is None else float(shown[k]))
            for k in order
            if weight[k] > 0
        ]

    def typical(self) -> Float[np.ndarray, "classes attributes"]:
        """Deviations of values above the mean of the classes; NaN where a class was described otherwise."""
        table = self.table.double().numpy()
        described = ~np.isnan(table).any(1)
        deviation = table[described].std(0)
        return np.asarray((table - table[described].mean(0)) / np.where(deviation > 0, deviation, np.inf))

    def with_classes(self, rows: Float[np.ndarray, "classes attributes"] | None, number: int) -> AttributeEvidence:
        """The evidence with `number` more classes; `rows` is None where their attributes are not known."""
        width = self.table.shape[1]
        new = torch.full((number, width), torch.nan) if rows is None else torch.from_numpy(rows)
        return replace(self, table=torch.cat([self.table, new.to(self.table)]))

    def write(self, path: Path) -> None:
        """Write it as one safetensors file.

        Raises:
            RunError: it cannot be written.
        """
        tensors = {"table": self.table} | ({} if self.usual is None else {"usual": self.usual})
        tensors |= {} if self.reader is None else self.reader.tensors()
        write_checkpoint(path, tensors, {"names": list(self.names), "source": self.source})

    @classmethod
    def read(cls, path: Path) -> AttributeEvidence | None:
        """What `write` wrote; None where there is no file.

        Raises:
            RunError: the file cannot be read.
        """
        found = read_checkpoint(path)
        if found is None:
            return None
        tensors, values = found
        reader = AttributeMap.load(tensors)
        return cls(tuple(values["names"]), values["source"], tensors["table"], tensors.get("usual"), reader)
