"""Neighbours of each class by description and by features, and the outstanding attributes of its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.data.names import spoken_attribute
from dkgzsl.data.problem import Problem

NEAREST = 4
ATTRIBUTES = 6
_SOURCES = ("attributes", "att")


@dataclass(frozen=True)
class ClassNeighbours:
    """Nearest classes and outstanding attributes of each class.

    Attributes:
        by_description: classes with the most similar descriptions, the nearest first.
        similarities: cosine of the two descriptions after the mean of all classes is subtracted, -1 to 1.
        by_prototype: classes with the nearest feature means, the nearest first; None without feature means.
        distances: between feature means, in standard deviations within a class.
        attributes: positions of the outstanding attributes, the strongest first; None where the attributes have no
            names. An attribute stands out when its value is far above the mean of all classes, in standard
            deviations and in the unit of the table.
        values: values of these attributes in the table of descriptions.
        strengths: standard deviations above the mean of all classes.
        names: names of all attributes, in plain words.
        source: name of the table that the attributes come from.
    """

    by_description: Int[Tensor, "classes near"]
    similarities: Float[Tensor, "classes near"]
    by_prototype: Int[Tensor, "classes near"] | None
    distances: Float[Tensor, "classes near"] | None
    attributes: Int[Tensor, "classes outstanding"] | None
    values: Float[Tensor, "classes outstanding"] | None
    strengths: Float[Tensor, "classes outstanding"] | None
    names: tuple[str, ...]
    source: str | None

    def tensors(self) -> dict[str, Tensor]:
        """As tensors of a file; `names` and `source` are stored apart from them."""
        found = {name: getattr(self, name) for name in _TENSORS}
        return {name: t.int() if name in _NUMBERS else t for name, t in found.items() if t is not None}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], names: Sequence[str], source: str | None
    ) -> ClassNeighbours:
        """Class neighbours from what `tensors` returned."""
        found = {
            name: tensors[name].long() if name in _NUMBERS and name in tensors else tensors.get(name)
            for name in _TENSORS
        }
        return cls(**found, names=tuple(names), source=source)  # type: ignore[arg-type]


_NUMBERS = ("by_description", "by_prototype", "attributes")
_TENSORS = (*_NUMBERS, "similarities", "distances", "values", "strengths")


def _has_real_names(names: Sequence[str] | None) -> bool:
    """Whether columns have real names; the columns of embeddings have one word with running numbers."""
    return bool(names) and len({name.rstrip("0123456789") for name in names or ()}) > 1


def class_neighbours(problem: Problem, prototypes: Float[Tensor, "classes axes"] | None) -> ClassNeighbours:
    """Find the neighbours and the outstanding attributes of each class.

    Args:
        problem: gives names, descriptions and attributes.
        prototypes: mean of each class's features in a `VisualSpace`: of training images for a seen class, of
            synthesized features for an unseen one; NaN for a class without features.
    """
    described = torch.from_numpy(problem.semantics.copy()).float()
    centred = torch.nn.functional.normalize(described - described.mean(0), dim=1)
    similarity = (centred @ centred.T).fill_diagonal_(-torch.inf)
    near = min(NEAREST, len(described) - 1)
    similarities, by_description = similarity.topk(near, dim=1)
    by_prototype = distances = None
    if prototypes is not None:
        apart = torch.cdist(prototypes, prototypes).nan_to_num(nan=torch.inf).fill_diagonal_(torch.inf)
        distances, by_prototype = apart.topk(near, dim=1, largest=False)
    source = next(
        (
            name
            for name in (problem.semantics_name, *_SOURCES)
            if _has_real_names(problem.attribute_names.get(name))
        ),
        None,
    )
    attributes = values = strengths = None
    names: tuple[str, ...] = ()
    if source is not None:
        names = tuple(spoken_attribute(name) for name in problem.attribute_names[source])
        table = torch.from_numpy(problem.semantic_sources[source].copy()).float()
        deviation = table.std(0, correction=0)
        beyond = table - table.mean(0)
        standing = beyond / torch.where(deviation > 0, deviation, torch.inf)
        # Deviations alone would pick rare attributes of which this class has little, too.
        attributes = (standing * beyond.clamp(min=0)).topk(min(ATTRIBUTES, table.shape[1]), dim=1).indices
        strengths, values = standing.gather(1, attributes), table.gather(1, attributes)
    return ClassNeighbours(
        by_description=by_description,
        similarities=similarities,
        by_prototype=by_prototype,
        distances=distances,
        attributes=attributes,
        values=values,
        strengths=strengths,
        names=names,
        source=source,
    )
