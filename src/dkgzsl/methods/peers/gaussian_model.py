"""Normal densities of classes whose parameters kernel regressions predict from descriptions: GFZSL's model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from dkgzsl.cache import InputCache
from dkgzsl.methods.base import SavedModel
from dkgzsl.methods.peers.export import GaussianScores, ScaledFeatures
from dkgzsl.methods.peers.linear_model import check_described, unchanged
from dkgzsl.methods.shared.few_shot import PhotoMeans, error_variances, posterior_by_dimension
from dkgzsl.methods.shared.scaling import Scaling


class Regression(NamedTuple):
    """From descriptions of length 1 to values of the seen classes, by kernel regression.

    Attributes:
        width: of the Gaussian kernel, in distances of descriptions; 0: the linear kernel.
        power: exponent of ten of the ridge, relative to the mean diagonal of K.
    """

    width: float
    power: int

    def kernel(
        self, described: Float[Tensor, "classes semantic"], known: Float[Tensor, "seen semantic"]
    ) -> Float[Tensor, "classes seen"]:
        """k(a) of each description."""
        if self.width == 0:
            return described @ known.T
        return torch.exp(-0.5 * (torch.cdist(described, known) / self.width) ** 2)

    def noise(self, gram: Float[Tensor, "seen seen"]) -> float:
        """l."""
        return float(10.0**self.power * float(gram.diagonal().mean()))

    def coefficients(
        self, kernel: Float[Tensor, "classes seen"], gram: Float[Tensor, "seen seen"]
    ) -> Float[Tensor, "classes seen"]:
        """k(a)^T (K + l I)^-1."""
        regular = gram.clone()
        regular.diagonal().add_(self.noise(gram))
        solved: Tensor = torch.linalg.solve(regular, kernel.T).T
        return solved


_TENSORS: Final = ("means", "variances", "seen", "unseen", "semantics", "seen_means", "seen_variances")


def median_distance(described: Float[Tensor, "seen semantic"]) -> Float[Tensor, ""]:
    """The median of the distances between descriptions, by which widths of kernels are measured; above 0."""
    distances = torch.cdist(described, described)
    apart = distances[~torch.eye(len(described), dtype=torch.bool, device=distances.device)]
    return apart.quantile(0.5).clamp(min=1e-12)


@dataclass(frozen=True)
class GaussianModel:
    """Scores log N(x; mean, diag(variance)) of scaled features.

    A class that joins later gets mean and variance from its description. Photos move the mean of a described class
    as `few_shot` has it, with the kernel of the means and the class's own variances.

    Attributes:
        scaling: of the features.
        means: of all K classes; of described ones without their photos.
        variances: in each dimension.
        seen: class numbers of seen classes.
        unseen: class numbers of unseen classes.
        semantics: descriptions of all K classes; empty ones where dkgzsl 0.1 saved the model.
        seen_means: estimates of the seen classes, from which means are predicted.
        seen_variances: likewise.
        values: width and powers of the regressions, and the mean length of a feature.
        photos: of some of the described classes, if there are any.
    """

    scaling: Scaling
    means: Float[Tensor, "classes visual"]
    variances: Float[Tensor, "classes visual"]
    seen: Int[Tensor, " seen"]
    unseen: Int[Tensor, " unseen"]
    semantics: Float[Tensor, "classes semantic"]
    seen_means: Float[Tensor, "seen visual"]
    seen_variances: Float[Tensor, "seen visual"]
    values: Mapping[str, Any]
    photos: PhotoMeans | None = None
    scaled: InputCache = field(default_factory=InputCache, repr=False, compare=False, kw_only=True)

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log densities under every class of the task, but for a constant; -inf for others."""
        return self._scores(features, torch.cat([self.seen, self.unseen]))

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """The same log densities, among unseen classes."""
        return self._scores(features, self.unseen)

    def _scores(self, features: Tensor, classes: Tensor) -> Tensor:
        # About the mean of the seen classes, so that the squares below stay small: 32 bits are few.
        center = self._center
        seen = self.scaled(features, self.scaling) - center
        means, precision = self.located[classes] - center, 1 / self.variances[classes]
        constant = (means**2 * precision - precision.log()).sum(dim=1)
        known = -0.5 * (seen**2 @ precision.T - 2 * seen @ (means * precision).T + constant)
        return known.new_full((len(known), len(self.means)), -torch.inf).index_copy_(1, classes, known)

    @property
    def _center(self) -> Float[Tensor, " visual"]:
        return self.means[self.seen].mean(dim=0)

    @cached_property
    def located(self) -> Float[Tensor, "classes visual"]:
        """Means of all K classes, after the photos."""
        if self.photos is None:
            return self.means
        classes, regression = self.photos.classes, self._regression("power")
        known, described = self._unit(self.semantics[self.seen]), self._unit(self.semantics[classes])
        gram, kernel = regression.kernel(known, known), regression.kernel(described, known)
        own = described.square().sum(1) if regression.width == 0 else torch.ones_like(kernel[:, 0])
        unknown = error_variances(gram, regression.noise(gram), kernel, own, self.seen_means)
        means = self.means.clone()
        means[classes] = posterior_by_dimension(means[classes], unknown, self.photos, self.variances[classes])
        return means

    def _regression(self, power: str) -> Regression:
        return Regression(self.values["width"], self.values[power])

    def _unit(self, semantics: Tensor) -> Tensor:
        return normalize(semantics.to(self.means), dim=1)

    def described(
        self, semantics: Float[Tensor, "described semantic"]
    ) -> tuple[Float[Tensor, "described visual"], Float[Tensor, "described visual"]]:
        """Means and variances that descriptions predict."""
        known, described = self._unit(self.semantics[self.seen]), self._unit(semantics)
        predicted = []
        for power, targets in (("power", self.seen_means), ("variance_power", self.seen_variances.log())):
            regression = self._regression(power)
            gram, kernel = regression.kernel(known, known), regression.kernel(described, known)
            predicted.append(regression.coefficients(kernel, gram) @ targets)
        return predicted[0], predicted[1].exp()

    def synthesize(
        self, semantics: Float[Tensor, "classes semantic"], number: int, generator: torch.Generator
    ) -> Float[Tensor, "classes number visual"]:
        """`number` features for each description, drawn from its density, on the scale of unscaled features.

        Args:
            semantics: of the classes, which need not be those of the task.
            number: features a class.
            generator: source of the noise.

        Raises:
            RunError: the model was saved by dkgzsl 0.1.
        """
        check_described(self.semantics)
        means, variances = self.described(semantics)
        drawn = torch.randn((len(means), number, means.shape[1]), generator=generator, device=generator.device)
        made = means[:, None] + drawn.to(means) * variances.sqrt()[:, None]
        return self.scaling.restore(made, self.values["length"])

    def with_photos(self, number: int, features: Float[Tensor, "images visual"]) -> GaussianModel:
        """The same model, the mean of a described class moved towards that of its photos.

        Args:
            number: of the described class; photos that it had before are replaced.
            features: of the photos, unscaled.

        Raises:
            DataError: there is no photo, or the class is not a described one.
            RunError: the model was saved by dkgzsl 0.1.
        """
        check_described(self.semantics)
        return replace(self, photos=PhotoMeans.added(self.photos, number, self.scaling(features), self.unseen))

    def with_classes(
        self, semantics: Float[Tensor, "classes semantic"], unseen: Int[Tensor, " unseen"]
    ) -> GaussianModel:
        """The same model over other described classes; only means and variances of new classes are predicted.

        Args:
            semantics: of all classes; known class numbers keep their description.
            unseen: numbers of the described classes; photos of those that stay are kept.

        Raises:
            RunError: the model was saved by dkgzsl 0.1.
        """
        check_described(self.semantics)
        semantics, unseen = semantics.to(self.semantics), unseen.to(self.unseen).sort().values
        known = unchanged(self.semantics, semantics)
        rows, (means, variances) = known.nonzero()[:, 0], self.described(semantics[~known])
        shape = len(semantics), self.means.shape[1]
        all_means, all_variances = self.means.new_empty(shape), self.variances.new_empty(shape)
        all_means[known], all_variances[known] = self.means[rows], self.variances[rows]
        all_means[~known], all_variances[~known] = means, variances
        return replace(
            self,
            semantics=semantics,
            unseen=unseen,
            means=all_means,
            variances=all_variances,
            photos=self.photos.of(unseen) if self.photos else None,
        )

    def scores_module(self) -> nn.Module:
        """Scale and densities as fixed operations."""
        classes = torch.cat([self.seen, self.unseen]).sort().values
        densities = GaussianScores(self.located[classes], self.variances[classes], self._center)
        return nn.Sequential(ScaledFeatures(self.scaling), densities)

    def save(self) -> SavedModel:
        """Scale and parameters, and what further classes need."""
        tensors = {name: getattr(self, name) for name in _TENSORS} | self.scaling.tensors()
        if self.photos is not None:
            tensors |= self.photos.tensors()
        return SavedModel("gfzsl", tensors, {"scaling": self.scaling.name, "regression": dict(self.values)})

    @classmethod
    def load(cls, saved: SavedModel) -> GaussianModel:
        """The model that `saved` was made from."""
        tensors, scaling = dict(saved.tensors), Scaling.load(saved.values["scaling"], saved.tensors)
        if "semantics" not in tensors:  # of dkgzsl 0.1
            tensors["semantics"] = tensors["means"].new_zeros(len(tensors["means"]), 0)
            for name in ("means", "variances"):
                tensors[f"seen_{name}"] = tensors[name][tensors["seen"]]
        values, photos = saved.values.get("regression", {}), PhotoMeans.load(tensors)
        means, variances, seen, unseen, semantics, *of_seen = (tensors[name] for name in _TENSORS)
        return cls(scaling, means, variances, seen, unseen, semantics, of_seen[0], of_seen[1], values, photos)
