"""What a model knows of a class: which classes it takes for near, and what stands out in its description."""

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
class Acquaintance:
    """Nearest classes and outstanding attributes of every class.

    Attributes:
        by_description: classes with the most similar descriptions, nearest first.
        similarities: cosine of the descriptions, centred on the mean of all classes.
        by_prototype: classes with the nearest prototypes, nearest first; none where nothing was synthesized.
        distances: between prototypes, in deviations within a class.
        attributes: outstanding attributes, by position, those first that are far above the mean of all classes
            both in deviations and in the table's own unit; none where no attribute has a name.
        values: what the class's table says of them.
        strengths: deviations above the mean of all classes.
        names: of all attributes, as one would say them.
        source: the table that the attributes come from.
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
        """As tensors of a file; the names and the source are for its values."""
        found = {name: getattr(self, name) for name in _TENSORS}
        return {name: t.int() if name in _NUMBERS else t for name, t in found.items() if t is not None}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], names: Sequence[str], source: str | None) -> Acquaintance:
        """What `tensors` made."""
        found = {
            name: tensors[name].long() if name in _NUMBERS and name in tensors else tensors.get(name)
            for name in _TENSORS
        }
        return cls(**found, names=tuple(names), source=source)  # type: ignore[arg-type]


_NUMBERS = ("by_description", "by_prototype", "attributes")
_TENSORS = (*_NUMBERS, "similarities", "distances", "values", "strengths")


def _spoken(names: Sequence[str] | None) -> bool:
    """Whether columns have names that say something, not one word with running numbers, as embeddings have."""
    return bool(names) and len({name.rstrip("0123456789") for name in names or ()}) > 1


def acquaintance(problem: Problem, prototypes: Float[Tensor, "classes axes"] | None) -> Acquaintance:
    """Compare all classes.

    Args:
        problem: names, descriptions, attributes.
        prototypes: mean of each class's features in a `VisualSpace`, of its training images or synthesized; NaN
            for a class that has none.
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
        (name for name in (problem.semantics_name, *_SOURCES) if _spoken(problem.attribute_names.get(name))), None
    )
    attributes = values = strengths = None
    names: tuple[str, ...] = ()
    if source is not None:
        names = tuple(spoken_attribute(name) for name in problem.attribute_names[source])
        table = torch.from_numpy(problem.semantic_sources[source].copy()).float()
        deviation = table.std(0, correction=0)
        beyond = table - table.mean(0)
        standing = beyond / torch.where(deviation > 0, deviation, torch.inf)
        # Deviations alone would pick attributes that hardly any class has, however little this one has of them.
        attributes = (standing * beyond.clamp(min=0)).topk(min(ATTRIBUTES, table.shape[1]), dim=1).indices
        strengths, values = standing.gather(1, attributes), table.gather(1, attributes)
    return Acquaintance(
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
