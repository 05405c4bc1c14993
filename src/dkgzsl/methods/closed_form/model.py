"""The default form's model: class densities whose unseen prototypes are solved for, not descended to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.cache import InputCache
from dkgzsl.methods.base import SavedModel, columns_of
from dkgzsl.methods.closed_form.episodes import DescriptionResidual, DescriptionWeights, PrototypeFusion
from dkgzsl.methods.closed_form.few_shot import PhotoMeans, posterior
from dkgzsl.methods.closed_form.kernel_components import KernelPrincipalSpace
from dkgzsl.methods.closed_form.kernel_ridge import DescriptionSpace, KernelRidge
from dkgzsl.methods.closed_form.whitening import PrincipalSpace, WhitenedSpace, class_means


@dataclass(frozen=True)
class ClassDensities:
    """x | c ~ N(mean_c, diag(variance_c)), one row a class.

    Attributes:
        means: class means.
        variances: one for each class, or one for each class and axis.
    """

    means: Float[Tensor, "classes dim"]
    variances: Float[Tensor, "classes dim"] | Float[Tensor, "classes 1"]

    def scores(self, points: Float[Tensor, "images dim"]) -> Float[Tensor, "images classes"]:
        """Log density of every point in every class, less log(2 pi) dim / 2.

        -1/2 sum_j ((x_j - m_cj)^2 / v_cj + log v_cj), expanded so that it is matrix products.
        """
        dim = self.means.shape[1]
        precision = 1 / self.variances
        if self.variances.shape[1] == 1:  # the same on every axis: a point counts by its squared length alone
            logs = dim * self.variances[:, 0].log()
            own = points.square().sum(1, keepdim=True) @ precision.T
        else:
            logs = self.variances.log().sum(1)
            own = points.square() @ precision.T
        constant = (self.means.square() * precision).sum(1) + logs
        return points @ (self.means * precision).T - (own + constant) / 2

    def draw(self, number: int, generator: torch.Generator) -> Float[Tensor, "classes number dim"]:
        """`number` points from each class; the generator is on the CPU, so that devices agree."""
        shape = (len(self.means), number, self.means.shape[1])
        noise = torch.randn(shape, generator=generator, dtype=self.means.dtype).to(self.means.device)
        return self.means[:, None] + self.variances.sqrt()[:, None] * noise


DescriptionMap = DescriptionWeights | DescriptionResidual


class MeansSpace:
    """Whitened coordinates within the span of the seen class means, from their mean.

    Prototypes are affine combinations of seen means, so all that tells classes apart lies in this span of at most
    K_seen - 1 axes: what is orthogonal to it adds the same to every class's density. An exact saving, from
    thousands of axes to a hundred.

    Attributes:
        whitened: the space that the span lies in.
        origin: m_0, the mean of the seen class means.
        axes: orthonormal basis of the span.
    """

    def __init__(
        self, whitened: WhitenedSpace, origin: Float[Tensor, " components"], axes: Float[Tensor, "components dim"]
    ) -> None:
        self.whitened, self.origin, self.axes = whitened, origin, axes
        self._last = InputCache()

    @classmethod
    def fit(cls, whitened: WhitenedSpace, means: Float[Tensor, "seen components"]) -> MeansSpace:
        """The span of the given class means."""
        origin = means.mean(0)
        directions = torch.linalg.svd(means - origin, full_matrices=False)
        smallest = directions.S[0] * torch.finfo(means.dtype).eps * max(means.shape)
        kept = directions.S.gt(smallest)
        return cls(whitened, origin, directions.Vh[kept].T.contiguous())

    def __call__(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images dim"]:
        """Coordinates of unscaled features."""
        return self._last(features, lambda x: (self.whitened(x) - self.origin) @ self.axes)


@dataclass(frozen=True)
class SeenStatistics:
    """What the training images say of the seen classes, in a `MeansSpace`.

    Attributes:
        means: seen class means.
        counts: training images of each seen class.
        variance: s2, the pooled within-class variance an axis of the whitened space.
        length: mean length of whitened features before any scaling to unit length.
        within: W, the pooled covariance within classes in this space.
    """

    means: Float[Tensor, "seen dim"]
    counts: Int[Tensor, " seen"]
    variance: float
    length: float
    within: Float[Tensor, "dim dim"]


class ClosedFormModel:
    """Class densities over seen and described classes; classes are added by their description alone.

    Attributes:
        space: unscaled features -> coordinates.
        statistics: of the seen classes.
        seen: class numbers of the seen classes, in the order of the statistics.
        unseen: class numbers of the described classes.
        semantics: description of every class, unprepared.
        descriptions: how descriptions are prepared.
        description_map: what episodes learned on them, if anything.
        fusion: learned residual of the prototypes, if any.
        regression: the solved knowledge.
        setting: the chosen constants.
        balance: added to the log densities of the described classes among all; 0 adds nothing.
        photos: what a few photos say of some of the described classes, if there are any.
        classes: number K of all class numbers.
    """

    def __init__(
        self,
        *,
        space: MeansSpace,
        statistics: SeenStatistics,
        seen: Int[Tensor, " seen"],
        unseen: Int[Tensor, " unseen"],
        semantics: Float[Tensor, "classes semantic"],
        descriptions: DescriptionSpace,
        description_map: DescriptionMap | None,
        fusion: PrototypeFusion | None,
        regression: KernelRidge,
        setting: Mapping[str, Any],
        balance: float = 0.0,
        photos: PhotoMeans | None = None,
    ) -> None:
        self.space, self.statistics = space, statistics
        self.seen, self.unseen = seen, unseen
        self.semantics, self.descriptions = semantics, descriptions
        self.description_map, self.fusion = description_map, fusion
        self.regression, self.setting, self.balance = regression, dict(setting), balance
        self.photos = photos
        self.classes = len(semantics)
        self._rotation: Tensor | None = None
        self._spread: Tensor | None = None
        if self.setting["uncertainty"]:
            # On the axes of the error covariance every class density is diagonal.
            self._spread, self._rotation = self._error_axes()
        self.densities = self._densities()
        self._last = InputCache()

    def prototypes(self, semantics: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes dim"]:
        """Prototypes that the knowledge predicts for unprepared descriptions."""
        prepared = self.descriptions(semantics)
        solved = self.regression(self._mapped(prepared))
        return solved if self.fusion is None else self.fusion(solved, prepared)

    def _mapped(self, prepared: Tensor) -> Tensor:
        return prepared if self.description_map is None else self.description_map(prepared)

    def described_densities(self, semantics: Float[Tensor, "classes semantic"]) -> ClassDensities:
        """Densities of classes known by their description alone."""
        means = self.prototypes(semantics)
        variances = means.new_full((len(means), 1), self.statistics.variance)
        if self._spread is not None:
            unknown = self.regression.predictive_variance(self._mapped(self.descriptions(semantics)))
            variances = variances + unknown[:, None] * self._spread
        return ClassDensities(self._rotated(means), variances)

    @property
    def rotation(self) -> Float[Tensor, "dim dim"] | None:
        """Axes of the error covariance, where unseen classes spread by what is not known of them."""
        return self._rotation

    def _error_axes(self) -> tuple[Float[Tensor, " dim"], Float[Tensor, "dim dim"]]:
        """Eigenvalues and eigenvectors of the error covariance."""
        values, vectors = torch.linalg.eigh(self.regression.error_covariance())
        return values.clamp(min=0), vectors

    def _rotated(self, points: Tensor) -> Tensor:
        return points if self._rotation is None else points @ self._rotation

    @torch.no_grad()
    def _densities(self) -> ClassDensities:
        """Of all classes of the task: seen ones first, then unseen ones."""
        statistics, blend = self.statistics, self.setting["seen_blend"]
        means = statistics.means
        if blend:
            means = torch.lerp(means, self.prototypes(self.semantics[self.seen]), blend)
        variances = means.new_full((len(means), 1), statistics.variance)
        if self._spread is not None:
            variances = variances * (1 + 1 / statistics.counts[:, None])
        described = self._sharpened(self.described_densities(self.semantics[self.unseen]))
        variances = variances.expand(-1, described.variances.shape[1])
        return ClassDensities(
            torch.cat([self._rotated(means), described.means]), torch.cat([variances, described.variances])
        )

    def _sharpened(self, described: ClassDensities) -> ClassDensities:
        """Densities of the unseen classes after the photos; what is left unknown counts where uncertainty does."""
        if self.photos is None:
            return described
        photos, axes = self.photos, self._rotation
        rows = (self.unseen[None] == photos.classes[:, None]).int().argmax(1)
        unknown = self.regression.predictive_variance(
            self._mapped(self.descriptions(self.semantics[photos.classes]))
        )
        prior = described.means[rows] if axes is None else described.means[rows] @ axes.T
        error = self.regression.error_covariance()
        found = posterior(prior, unknown, error, photos, self.statistics.within)
        means, variances = described.means.clone(), described.variances.clone()
        means[rows] = self._rotated(found.means)
        if axes is not None:
            left = torch.einsum("ij,kil,lj->kj", axes, found.covariances, axes)
            variances[rows] = self.statistics.variance + left.clamp(min=0)
        return ClassDensities(means, variances)

    @torch.no_grad()
    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log densities up to a constant an image, balanced; -inf for classes outside the task."""
        return self._last(features, self._scores)

    def _scores(self, features: Tensor) -> Tensor:
        known = self.densities.scores(self._rotated(self.space(features)))
        known[:, len(self.seen) :] += self.balance
        scores = known.new_full((len(known), self.classes), -torch.inf)
        scores[:, torch.cat([self.seen, self.unseen])] = known
        return scores

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """The same densities, among unseen classes."""
        return columns_of(self.scores(features), self.unseen)

    @torch.no_grad()
    def synthesize(
        self,
        semantics: Float[Tensor, "classes semantic"],
        number: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "classes number visual"]:
        """Draw m_c + L_c z with L_c L_c^T = s2 I (+ v_c E), brought back to the scale of the features.

        What whitening cut off (components beyond the chosen ones, length where features are scaled to unit
        length) is set to its mean.
        """
        whitened = self.synthesize_whitened(semantics, number, generator)
        features = self.space.whitened.restore(whitened.flatten(0, 1), self.statistics.length)
        return features.reshape(*whitened.shape[:2], -1)

    @torch.no_grad()
    def synthesize_whitened(
        self,
        semantics: Float[Tensor, "classes semantic"],
        number: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "classes number components"]:
        """Draws in the whitened space, where the softmax classifier is trained."""
        return self._drawn(self.described_densities(semantics.to(self.semantics)), number, generator)

    @torch.no_grad()
    def draw_whitened(
        self, classes: Int[Tensor, " some"], number: int, generator: torch.Generator
    ) -> Float[Tensor, "some number components"]:
        """Draws from the densities of classes of the task, each as it is known: by images, photos or description.

        Args:
            classes: their numbers.
            number: draws a class.
            generator: of the noise, on the CPU.
        """
        rows = (torch.cat([self.seen, self.unseen])[None] == classes[:, None]).int().argmax(1)
        densities = ClassDensities(self.densities.means[rows], self.densities.variances[rows])
        return self._drawn(densities, number, generator)

    def _drawn(self, densities: ClassDensities, number: int, generator: torch.Generator) -> Tensor:
        within = densities.draw(number, generator)
        if self._rotation is not None:
            within = within @ self._rotation.T
        axes = self.space.axes
        noise = torch.randn((*within.shape[:2], len(axes)), generator=generator).to(within)
        outside = noise - (noise @ axes) @ axes.T
        drawn: Tensor = self.space.origin + within @ axes.T + self.statistics.variance**0.5 * outside
        return drawn

    def with_classes(
        self, semantics: Float[Tensor, "classes semantic"], unseen: Int[Tensor, " unseen"]
    ) -> ClosedFormModel:
        """The same knowledge over other described classes; nothing is fitted again.

        Photos of classes that stay described are kept.
        """
        unseen, photos = unseen.to(self.unseen), self.photos
        if photos is not None:
            kept = torch.isin(photos.classes, unseen)
            photos = PhotoMeans(photos.classes[kept], photos.means[kept], photos.counts[kept])
            photos = photos if len(photos.classes) else None
        changed = {"semantics": semantics.to(self.semantics), "unseen": unseen, "photos": photos}
        return ClosedFormModel(**{**self._parts(), **changed})

    @torch.no_grad()
    def with_photos(self, number: int, features: Float[Tensor, "images visual"]) -> ClosedFormModel:
        """The same knowledge, a described class sharpened by a few photos (`model/sharpening.py`).

        Args:
            number: of the described class; photos that it had before are replaced.
            features: of the photos, unscaled.
        """
        old = self.photos
        point = self.space(features).mean(0, keepdim=True)
        classes, count = self.unseen.new_tensor([number]), self.unseen.new_tensor([len(features)])
        if old is not None:
            others = old.classes != number
            classes = torch.cat([old.classes[others], classes])
            point, count = torch.cat([old.means[others], point]), torch.cat([old.counts[others], count])
        return ClosedFormModel(**{**self._parts(), "photos": PhotoMeans(classes, point, count)})

    def _parts(self) -> dict[str, Any]:
        names = "space statistics seen unseen semantics descriptions description_map fusion regression setting"
        return {name: getattr(self, name) for name in (*names.split(), "balance", "photos")}

    def save(self) -> SavedModel:
        """Everything, so that classes can be added and features synthesized later."""
        whitened, principal = self.space.whitened, self.space.whitened.principal
        tensors = {
            "principal.mean": principal.mean,
            "principal.basis": principal.basis[:, : len(whitened.whitener)],
            "whitener": whitened.whitener,
            "means.origin": self.space.origin,
            "means.axes": self.space.axes,
            "seen.means": self.statistics.means,
            "seen.counts": self.statistics.counts,
            "seen.within": self.statistics.within,
            "seen.classes": self.seen,
            "unseen.classes": self.unseen,
            "semantics": self.semantics,
            "descriptions.centre": self.descriptions.centre,
            "regression.seen": self.regression.seen,
            "regression.inverse": self.regression.inverse,
            "regression.mean": self.regression.mean,
            "regression.weights": self.regression.weights,
        }
        if isinstance(principal, KernelPrincipalSpace):
            tensors |= {
                "principal.landmarks": principal.landmarks,
                "principal.back": principal.back[: len(whitened.whitener)],
                "principal.centre": principal.centre,
            }
        if self.photos is not None:
            tensors |= {f"photos.{name}": getattr(self.photos, name) for name in _PHOTOS}
        for name, module in (("description_map", self.description_map), ("fusion", self.fusion)):
            if module is not None:
                tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        values = {
            "setting": self.setting,
            "square_root": principal.square_root,
            "feature_kernel": principal.width if isinstance(principal, KernelPrincipalSpace) else 0.0,
            "description_root": self.descriptions.root,
            "unit_length": whitened.unit_length,
            "variance": self.statistics.variance,
            "length": self.statistics.length,
            "width": self.regression.width,
            "noise": self.regression.noise,
            "balance": self.balance,
        }
        return SavedModel("dkgzsl", tensors, values)

    @classmethod
    def load(cls, saved: SavedModel) -> ClosedFormModel:
        """The model that `saved` was made from."""
        tensors, values = saved.tensors, saved.values
        whitened = WhitenedSpace(_principal_space(tensors, values), tensors["whitener"], values["unit_length"])
        setting = values["setting"]
        description_map: DescriptionMap | None = None
        semantic = tensors["semantics"].shape[1]
        if setting["episodes"] == "weights":
            description_map = DescriptionWeights(semantic)
        elif setting["episodes"] == "residual":
            description_map = DescriptionResidual(semantic)
        fusion = None
        if setting["fusion"]:
            fusion = PrototypeFusion(tensors["means.axes"].shape[1], semantic)
        for name, module in (("description_map", description_map), ("fusion", fusion)):
            if module is not None:
                prefix = f"{name}."
                module.load_state_dict(
                    {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                )
                module.eval().to(tensors["semantics"].device)
        return cls(
            space=MeansSpace(whitened, tensors["means.origin"], tensors["means.axes"]),
            statistics=SeenStatistics(
                tensors["seen.means"],
                tensors["seen.counts"],
                values["variance"],
                values["length"],
                tensors.get("seen.within", values["variance"] * torch.eye(tensors["seen.means"].shape[1])),
            ),
            seen=tensors["seen.classes"],
            unseen=tensors["unseen.classes"],
            semantics=tensors["semantics"],
            descriptions=DescriptionSpace(tensors["descriptions.centre"], values.get("description_root", False)),
            description_map=description_map,
            fusion=fusion,
            regression=KernelRidge(
                tensors["regression.seen"],
                values["width"],
                values["noise"],
                tensors["regression.inverse"],
                tensors["regression.mean"],
                tensors["regression.weights"],
            ),
            setting=setting,
            balance=values.get("balance", 0.0),
            photos=PhotoMeans(*(tensors[f"photos.{n}"] for n in _PHOTOS)) if "photos.means" in tensors else None,
        )


_PHOTOS = ("classes", "means", "counts")


def _principal_space(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> PrincipalSpace:
    mean, basis, square_root = tensors["principal.mean"], tensors["principal.basis"], values["square_root"]
    width = values.get("feature_kernel", 0.0)  # files from before there was a kernel between images have none
    if not width:
        return PrincipalSpace(mean, basis, square_root)
    return KernelPrincipalSpace(
        mean,
        basis,
        square_root,
        landmarks=tensors["principal.landmarks"],
        width=width,
        back=tensors["principal.back"],
        centre=tensors["principal.centre"],
    )


def seen_statistics(
    space: WhitenedSpace, features: Float[Tensor, "images visual"], positions: Int[Tensor, " images"], seen: int
) -> tuple[MeansSpace, SeenStatistics]:
    """Fit the span of the means, and the statistics in it, to training images.

    Args:
        space: the whitened space.
        features: unscaled training features.
        positions: their classes, counted from 0 among the seen ones.
        seen: number of seen classes.
    """
    whitened = space(features)
    means = class_means(whitened, positions, seen)
    span = MeansSpace.fit(space, means)
    deviations = whitened - means[positions]
    spread = deviations @ span.axes
    unscaled = whitened if not space.unit_length else _without_scaling(space)(features)
    return span, SeenStatistics(
        means=(means - span.origin) @ span.axes,
        counts=torch.bincount(positions, minlength=seen),
        variance=float(deviations.square().mean()),
        within=_covariance(spread, degrees=len(spread) - seen),
        length=float(unscaled.norm(dim=1).mean()),
    )


def _covariance(deviations: Float[Tensor, "images dim"], *, degrees: int) -> Float[Tensor, "dim dim"]:
    """Of deviations from their class means, a little regular where images are few."""
    covariance = deviations.T @ deviations / max(1, degrees)
    covariance.diagonal().add_(1e-6 * covariance.diagonal().mean() + torch.finfo(covariance.dtype).tiny)
    return covariance


def _without_scaling(space: WhitenedSpace) -> WhitenedSpace:
    return WhitenedSpace(space.principal, space.whitener, unit_length=False)
