"""The model of peers whose scores are linear in a view of the features: a scale, a projection, lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.cache import InputCache
from dkgzsl.methods.base import SavedModel
from dkgzsl.methods.shared.scaling import Scaling


class FeatureRegression:
    """Solves (X^T X + p I) B = X^T T for many penalties p and targets T.

    One eigendecomposition of the smaller of X^T X and X X^T serves them all.

    Args:
        features: X.
    """

    def __init__(self, features: Float[Tensor, "images visual"]) -> None:
        self.features = features
        self.images_first = len(features) < features.shape[1]
        gram = features @ features.T if self.images_first else features.T @ features
        self.scale = float((features**2).sum() / features.shape[1])
        values, self.vectors = torch.linalg.eigh(gram)
        self.values = values.clamp(min=0.0)  # below it is rounding

    def coordinates(self, targets: Float[Tensor, "images targets"]) -> Float[Tensor, "rank targets"]:
        """Targets as `solve` takes them: what does not depend on the penalty."""
        found: Tensor = self.vectors.T @ (targets if self.images_first else self.features.T @ targets)
        return found

    def solve(
        self,
        coordinates: Float[Tensor, "rank targets"],
        penalties: Float[Tensor, " targets"] | float,
    ) -> Float[Tensor, "visual targets"]:
        """B, with one penalty for all targets, or one each; above 0, on the scale of X^T X.

        The mean diagonal of X^T X, by which penalties may be measured, is `scale`.
        """
        each = torch.as_tensor(penalties, dtype=self.values.dtype, device=self.values.device)
        solved: Tensor = self.vectors @ (coordinates / (self.values[:, None] + each))
        return self.features.T @ solved if self.images_first else solved


Unit = Literal["never", "before", "after"]
"""Whether images are scaled to length 1, before or after the projection: what a cosine needs."""


@dataclass(frozen=True)
class View:
    """What a peer sees of an image: scaled features, projected where it has a projection.

    Models that share a view compute it once for the images that a selector shows them.

    Attributes:
        scaling: of the features.
        projection: from scaled features to fewer numbers; None: none.
        unit: where lengths are set to 1.
    """

    scaling: Scaling
    projection: Float[Tensor, "visual inner"] | None = None
    unit: Unit = "never"
    _results: InputCache = field(default_factory=InputCache, repr=False, compare=False)

    def __call__(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images inner"]:
        """The view of unscaled features."""
        return self._results(features, self._compute)

    def _compute(self, features: Tensor) -> Tensor:
        seen = self.scaling(features)
        if self.unit == "before":
            seen = normalize(seen, dim=1)
        if self.projection is not None:
            seen = seen @ self.projection
        return normalize(seen, dim=1) if self.unit == "after" else seen


_TENSORS: Final = ("weights", "bias", "seen", "unseen")


@dataclass(frozen=True)
class LinearModel:
    """Scores v(x) W + b.

    Attributes:
        method: whose model this is.
        view: v.
        weights: W, a column for each of all K classes.
        bias: b.
        seen: class numbers of seen classes.
        unseen: class numbers of unseen classes.
    """

    method: str
    view: View
    weights: Float[Tensor, "inner classes"]
    bias: Float[Tensor, " classes"]
    seen: Int[Tensor, " seen"]
    unseen: Int[Tensor, " unseen"]

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Scores of every class of the task; -inf for others."""
        return self._scores(features, torch.cat([self.seen, self.unseen]))

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """The same scores, among unseen classes."""
        return self._scores(features, self.unseen)

    def _scores(self, features: Tensor, classes: Tensor) -> Tensor:
        known = self.view(features) @ self.weights[:, classes] + self.bias[classes]
        return known.new_full((len(known), len(self.bias)), -torch.inf).index_copy_(1, classes, known)

    def save(self) -> SavedModel:
        """Scale, projection and weights, and which classes are which."""
        tensors = {name: getattr(self, name) for name in _TENSORS} | self.view.scaling.tensors()
        if self.view.projection is not None:
            tensors["projection"] = self.view.projection
        return SavedModel(self.method, tensors, {"scaling": self.view.scaling.name, "unit": self.view.unit})

    @classmethod
    def load(cls, saved: SavedModel) -> LinearModel:
        """The model that `saved` was made from."""
        scaling = Scaling.load(saved.values["scaling"], saved.tensors)
        view = View(scaling, saved.tensors.get("projection"), saved.values["unit"])
        return cls(method=saved.method, view=view, **{name: saved.tensors[name] for name in _TENSORS})
