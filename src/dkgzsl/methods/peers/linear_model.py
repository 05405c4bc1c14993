"""Models whose scores are linear in a view of the features: a scale, a projection, lengths."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.linalg import LinAlgError  # type: ignore[attr-defined]
from torch.nn.functional import normalize

from dkgzsl.cache import InputCache
from dkgzsl.errors import RunError
from dkgzsl.methods.base import SavedModel
from dkgzsl.methods.peers.export import Projected, ScaledFeatures, centred_scores
from dkgzsl.methods.shared.scaling import Scaling


def smaller_gram(features: Float[Tensor, "images visual"]) -> tuple[Float[np.ndarray, "size size"], bool]:
    """The smaller of X^T X and X X^T, its upper triangle alone, and whether it is X X^T.

    Raises:
        LinAlgError: it is not finite, so that nothing can be solved with it.
    """
    array, images_first = np.ascontiguousarray(features.cpu().numpy()), len(features) < features.shape[1]
    multiply = scipy.linalg.get_blas_funcs("syrk", (array,))
    gram = multiply(1.0, array.T, trans=images_first)
    if not np.isfinite(gram.diagonal()).all():
        raise LinAlgError("the products of the scaled features are not finite")
    return gram, images_first


class FeatureRegression:
    """Solves (X^T X + p I) B = X^T T for penalties p above 0 and targets T.

    One Cholesky factorisation a penalty serves any number of targets (`solve`). Where every target has its own
    penalty, one eigendecomposition, which takes as long as ten factorisations or more, serves them all
    (`coordinates`, `solve_each`). Either is of the smaller of X^T X and X X^T. Products and factorisations are
    computed on the CPU: LAPACK needs half a second for 4,096 dimensions.

    Args:
        features: X.
    """

    def __init__(self, features: Float[Tensor, "images visual"]) -> None:
        self.features = features
        self._gram, self.images_first = smaller_gram(features)
        self.scale = float(np.trace(self._gram)) / features.shape[1]

    def solve(self, targets: Float[Tensor, "images targets"], penalty: float) -> Float[Tensor, "visual targets"]:
        """B for one penalty, on the scale of X^T X; `scale` is the mean of that matrix's diagonal."""
        right = targets if self.images_first else self.features.T @ targets
        regular = self._gram.copy(order="F")
        regular[np.diag_indices_from(regular)] += penalty
        try:
            factor = scipy.linalg.cho_factor(regular, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:  # by rounding: the penalty is too small for the precision of X
            return self.solve_each(self.coordinates(targets), penalty)
        array = scipy.linalg.cho_solve(factor, right.cpu().numpy(), check_finite=False)
        solved = torch.from_numpy(array).to(self.features)
        return self.features.T @ solved if self.images_first else solved

    @cached_property
    def _eigen(self) -> tuple[Float[Tensor, " rank"], Float[Tensor, "size rank"]]:
        values, vectors = scipy.linalg.eigh(self._gram, lower=False, driver="evd", check_finite=False)
        # negative values are rounding errors
        return torch.from_numpy(values).to(self.features).clamp(min=0.0), torch.from_numpy(vectors).to(
            self.features
        )

    def coordinates(self, targets: Float[Tensor, "images targets"]) -> Float[Tensor, "rank targets"]:
        """Targets as `solve_each` takes them: the part that does not depend on the penalties."""
        found: Tensor = self._eigen[1].T @ (targets if self.images_first else self.features.T @ targets)
        return found

    def solve_each(
        self,
        coordinates: Float[Tensor, "rank targets"],
        penalties: Float[Tensor, " targets"] | float,
    ) -> Float[Tensor, "visual targets"]:
        """B, with one penalty for all targets, or one each, on the scale of X^T X."""
        values, vectors = self._eigen
        each = torch.as_tensor(penalties, dtype=values.dtype, device=values.device)
        solved: Tensor = vectors @ (coordinates / (values[:, None] + each))
        return self.features.T @ solved if self.images_first else solved


Unit = Literal["never", "before", "after"]
"""Whether images are scaled to length 1, before or after the projection: what a cosine needs."""


@dataclass(frozen=True)
class View:
    """What a peer sees of an image: scaled features, projected where it has a projection.

    Models that share a view compute it once for the images that a selector scores them on.

    Attributes:
        scaling: of the features.
        projection: from scaled features to fewer numbers; None: none.
        unit: where lengths are set to 1.
        shared: scaled features of the images that were seen last, for views of one scale that share them.
    """

    scaling: Scaling
    projection: Float[Tensor, "visual inner"] | None = None
    unit: Unit = "never"
    shared: InputCache | None = field(default=None, repr=False, compare=False)
    _results: InputCache = field(default_factory=InputCache, repr=False, compare=False)

    def __call__(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images inner"]:
        """The view of unscaled features."""
        return self._results(features, self._compute)

    def scaled(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images visual"]:
        """Unscaled features as the projection takes them."""
        scaled = self.shared(features, self.scaling) if self.shared else self.scaling(features)
        return normalize(scaled, dim=1) if self.unit == "before" else scaled

    def _compute(self, features: Tensor) -> Tensor:
        seen = self.scaled(features)
        if self.projection is not None:
            seen = seen @ self.projection
        return normalize(seen, dim=1) if self.unit == "after" else seen


_TENSORS: Final = ("weights", "bias", "seen", "unseen", "semantics")
_PARAMETER: Final = "columns."


class Columns(NamedTuple):
    """A column of weights and a number for each of some classes."""

    weights: Float[Tensor, "inner classes"]
    bias: Float[Tensor, " classes"]


@dataclass(frozen=True)
class LinearModel(ABC):
    """Scores v(x) W + b. A class that joins later gets its column from its description alone.

    Attributes:
        view: v.
        weights: W, a column for each of all K classes.
        bias: b.
        seen: class numbers of seen classes.
        unseen: class numbers of unseen classes.
        semantics: descriptions of all K classes; empty ones where dkgzsl 0.1 saved the model.
        values: constants that `columns` needs, JSON values.
        parameters: tensors that `columns` needs.
    """

    kind: ClassVar[str]
    """Of the model, in its file."""

    view: View
    weights: Float[Tensor, "inner classes"]
    bias: Float[Tensor, " classes"]
    seen: Int[Tensor, " seen"]
    unseen: Int[Tensor, " unseen"]
    semantics: Float[Tensor, "classes semantic"]
    values: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    @abstractmethod
    def columns(self, semantics: Float[Tensor, "described semantic"]) -> Columns:
        """The columns of classes without images, as a fit with these classes in its task has them.

        Args:
            semantics: their descriptions, in the precision of the weights.
        """

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Scores of every class of the task; -inf for others."""
        return self._scores(features, torch.cat([self.seen, self.unseen]))

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """The same scores, among unseen classes."""
        return self._scores(features, self.unseen)

    def _scores(self, features: Tensor, classes: Tensor) -> Tensor:
        known = self.view(features) @ self.weights[:, classes] + self.bias[classes]
        return known.new_full((len(known), len(self.bias)), -torch.inf).index_copy_(1, classes, known)

    def with_classes(
        self, semantics: Float[Tensor, "classes semantic"], unseen: Int[Tensor, " unseen"]
    ) -> LinearModel:
        """The same model over other described classes; only columns of classes that are new are computed.

        Args:
            semantics: of all classes; known class numbers keep their description.
            unseen: numbers of the described classes.

        Raises:
            RunError: the model was saved by dkgzsl 0.1.
        """
        check_described(self.semantics)
        semantics = semantics.to(self.semantics)
        known = unchanged(self.semantics, semantics)
        numbers, bias = known.nonzero()[:, 0], self.bias.new_empty(len(semantics))
        weights = self.weights.new_empty(len(self.weights), len(semantics))
        weights[:, known], bias[known] = self.weights[:, numbers], self.bias[numbers]
        if not known.all():
            weights[:, ~known], bias[~known] = self.columns(semantics[~known].to(self.weights))
        unseen = unseen.to(self.unseen).sort().values
        return replace(self, weights=weights, bias=bias, semantics=semantics, unseen=unseen)

    def scores_module(self) -> nn.Module:
        """Scale, view and columns as fixed operations; products without a step between are folded in float64."""
        classes = torch.cat([self.seen, self.unseen]).sort().values
        stages: list[nn.Module] = [ScaledFeatures(self.view.scaling, unit=self.view.unit == "before")]
        if self.view.unit == "after":
            assert self.view.projection is not None, "without a projection lengths are set before"
            stages.append(Projected(self.view.projection))
            columns = Columns(self.weights, self.bias)
        else:
            columns = self.visual_columns()
        stages.append(centred_scores(columns.weights[:, classes], columns.bias[classes]))
        return nn.Sequential(*stages)

    def visual_columns(self) -> Columns:
        """The columns of all K classes as weights of scaled features, in float64."""
        weights, projection = self.weights.double(), self.view.projection
        return Columns(weights if projection is None else projection.double() @ weights, self.bias.double())

    def save(self) -> SavedModel:
        """Scale, projection and weights, which classes are which, and what further classes need."""
        tensors = {name: getattr(self, name) for name in _TENSORS} | self.view.scaling.tensors()
        if self.view.projection is not None:
            tensors["projection"] = self.view.projection
        tensors |= {_PARAMETER + name: tensor for name, tensor in self.parameters.items()}
        values = {"scaling": self.view.scaling.name, "unit": self.view.unit, "columns": dict(self.values)}
        return SavedModel(self.kind, tensors, values)

    @classmethod
    def load(cls, saved: SavedModel) -> LinearModel:
        """The model that `saved` was made from."""
        scaling = Scaling.load(saved.values["scaling"], saved.tensors)
        view = View(scaling, saved.tensors.get("projection"), saved.values["unit"])
        undescribed = {"semantics": saved.tensors["weights"].new_zeros(len(saved.tensors["bias"]), 0)}
        tensors = undescribed | dict(saved.tensors)
        return cls(
            view=view,
            values=saved.values.get("columns", {}),
            parameters={
                name.removeprefix(_PARAMETER): tensor
                for name, tensor in tensors.items()
                if name.startswith(_PARAMETER)
            },
            **{name: tensors[name] for name in _TENSORS},
        )


def check_described(semantics: Float[Tensor, "classes semantic"]) -> None:
    """Check that a model has kept the descriptions of its classes.

    Raises:
        RunError: dkgzsl 0.1 saved it, which did not keep them.
    """
    if not semantics.shape[1]:
        raise RunError(
            "dkgzsl 0.1 saved this model, without the descriptions of its classes",
            fix="train it again",
        )


def unchanged(
    before: Float[Tensor, "classes semantic"], after: Float[Tensor, "more semantic"]
) -> Bool[Tensor, " more"]:
    """Which class numbers of `after` have the same description in `before`; those beyond `before` have none."""
    shared = min(len(before), len(after))
    same = torch.zeros(len(after), dtype=torch.bool, device=after.device)
    same[:shared] = (after[:shared] == before[:shared]).all(dim=1)
    return same
