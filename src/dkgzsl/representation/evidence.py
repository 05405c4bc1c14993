"""The named attributes that speak for a class: what its description stresses, and what a photo shows of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dkgzsl.config import RefinementConfig
from dkgzsl.data.names import spoken_attribute
from dkgzsl.data.problem import Problem
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.representation.attributes import attributes_for
from dkgzsl.representation.blocks import read_store
from dkgzsl.representation.sovr import Refiner

SAMPLE = 512
"""Training images that tell which score of an attribute is usual."""


class Spoken(NamedTuple):
    """An attribute that speaks for a class.

    Attributes:
        attribute: its position.
        typical: deviations of the class's value above the mean of the classes.
        shown: deviations of the photo's score above the training images' mean; None without ARA.
    """

    attribute: int
    typical: float
    shown: float | None


@dataclass(frozen=True, eq=False)
class AttributeEvidence:
    """Named attributes of all classes, and what scores of them are usual.

    Attributes:
        names: of the attributes, as one would say them.
        source: which semantics they are.
        table: value of every attribute in every class; NaN where a class was described otherwise.
        usual: mean and deviation of ARA's attribute scores over training images; None without ARA.
    """

    names: tuple[str, ...]
    source: str
    table: Float[Tensor, "classes attributes"]
    usual: Float[Tensor, "2 attributes"] | None

    @classmethod
    def of(cls, problem: Problem, refiner: Refiner | None) -> AttributeEvidence | None:
        """What a run on a problem records; None where no attribute has a name and no ARA attends to any."""
        found = attributes_for(problem, RefinementConfig(vectors="random"), seed=0)
        attends = refiner is not None and refiner.attention_layer is not None
        if found.names is None and not attends:
            return None
        names = found.names or tuple(f"attribute {number}" for number in range(found.table.shape[1]))
        usual = None
        if attends:
            training = np.sort(problem.parts.trainval)
            sample = training[np.linspace(0, len(training) - 1, min(SAMPLE, len(training))).astype(int)]
            scores = read_store(problem.features, sample, ["scores"], refiner)["scores"]
            usual = torch.stack([scores.mean(0), scores.std(0, correction=0)])
        return cls(tuple(map(spoken_attribute, names)), found.source, torch.from_numpy(found.table), usual)

    def of_class(self, number: int, scores: Float[np.ndarray, " attributes"] | None, *, top: int) -> list[Spoken]:
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
        shown = None if scores is None or self.usual is None else self.strengths(scores)
        weight = np.clip(typical, 0, None) * (1.0 if shown is None else np.clip(shown, 0, None))
        order = np.argsort(-weight, kind="stable")[:top]
        return [
            Spoken(int(k), float(typical[k]), None if shown is None else float(shown[k]))
            for k in order
            if weight[k] > 0
        ]

    def strengths(self, scores: Float[np.ndarray, " attributes"]) -> Float[np.ndarray, " attributes"]:
        """Deviations of a photo's scores above the training images' mean."""
        assert self.usual is not None, "only ARA gives scores"
        mean, deviation = self.usual.numpy()
        return np.asarray((scores - mean) / np.where(deviation > 0, deviation, np.inf))

    def typical(self) -> Float[np.ndarray, "classes attributes"]:
        """Deviations of values above the mean of the classes; NaN where a class was described otherwise."""
        table = self.table.double().numpy()
        described = ~np.isnan(table).any(1)
        deviation = table[described].std(0)
        return np.asarray((table - table[described].mean(0)) / np.where(deviation > 0, deviation, np.inf))

    def with_classes(self, rows: Float[np.ndarray, "classes attributes"] | None, number: int) -> AttributeEvidence:
        """With `number` more classes; `rows` is None where their attributes are not known."""
        width = self.table.shape[1]
        new = torch.full((number, width), torch.nan) if rows is None else torch.from_numpy(rows)
        return replace(self, table=torch.cat([self.table, new.to(self.table)]))

    def write(self, path: Any) -> None:
        """Write it as one safetensors file."""
        tensors = {"table": self.table} | ({} if self.usual is None else {"usual": self.usual})
        write_checkpoint(path, tensors, {"names": list(self.names), "source": self.source})

    @classmethod
    def read(cls, path: Any) -> AttributeEvidence | None:
        """What `write` wrote; None where there is none."""
        found = read_checkpoint(path)
        if found is None:
            return None
        tensors, values = found
        return cls(tuple(values["names"]), values["source"], tensors["table"], tensors.get("usual"))
