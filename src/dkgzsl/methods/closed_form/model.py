"""The default form's model: class densities whose unseen prototypes are solved for, not descended to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dkgzsl.cache import InputCache
from dkgzsl.methods.adaptation import Adaptation
from dkgzsl.methods.base import SavedModel, columns_of
from dkgzsl.methods.closed_form.adaptation import (
    ClassPrior,
    PoolMeans,
    adapt_to_pool,
    as_adaptation,
    prior_of,
    whole_space,
)
from dkgzsl.methods.closed_form.episodes import DescriptionWeights
from dkgzsl.methods.closed_form.experts import ClassDensities, Experts, led_by, linear_scores, minus_half_squares
from dkgzsl.methods.closed_form.export import DensityScores
from dkgzsl.methods.closed_form.kernel_components import KernelPrincipalSpace, load_principal_space
from dkgzsl.methods.closed_form.kernel_ridge import DescriptionSpace, KernelRidge
from dkgzsl.methods.closed_form.whitening import MeansSpace, SeenStatistics, WhitenedSpace
from dkgzsl.methods.shared.few_shot import PhotoMeans, posterior_means, posterior_shares


class ClosedFormModel:
    """Class densities over seen and described classes; classes are added by their description alone.

    Attributes:
        space: unscaled features -> coordinates.
        statistics: of the seen classes.
        seen: class numbers of the seen classes, in the order of the statistics.
        unseen: class numbers of the described classes.
        semantics: description of every class, unprepared.
        descriptions: how descriptions are prepared.
        weights: of the descriptions, where episodes learned them.
        regression: the solved kernel regression.
        setting: the chosen constants.
        solved_balance: of seen and described classes; 0: there is none.
        balance: added to the log densities of the described classes among all: the solved balance, times the mean
            share of what a pool has left open.
        experts: gate and experts; None: every class is scored by its density alone.
        photos: what a few photos say of some of the described classes, if there are any.
        pool: what the model was adapted to, if it was.
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
        weights: DescriptionWeights | None,
        regression: KernelRidge,
        setting: Mapping[str, Any],
        balance: float = 0.0,
        experts: Experts | None = None,
        photos: PhotoMeans | None = None,
        pool: PoolMeans | None = None,
    ) -> None:
        self.space, self.statistics = space, statistics
        self.seen, self.unseen = seen, unseen
        self.semantics, self.descriptions = semantics, descriptions
        self.weights, self.regression = weights, regression
        self.setting, self.experts, self.photos, self.pool = dict(setting), experts, photos, pool
        self.classes, self.solved_balance = len(semantics), balance
        self.densities = self._densities()
        self._offsets = self._solved_offsets()
        self.balance = balance if pool is None or not len(unseen) else balance * float(self.open.mean())
        self._last = InputCache()

    @property
    def means(self) -> Float[Tensor, "known dim"]:
        """Means of the seen classes, then of the unseen ones."""
        return self.densities.means

    @property
    def variance(self) -> float:
        """Variance of an axis, of every class."""
        return self.densities.variance

    def prototypes(self, semantics: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes dim"]:
        """Prototypes that the regression predicts for unprepared descriptions."""
        return self.regression(self._prepared(semantics))

    def _prepared(self, semantics: Tensor) -> Tensor:
        prepared = self.descriptions(semantics)
        return prepared if self.weights is None else self.weights(prepared)

    def described_densities(self, semantics: Float[Tensor, "classes semantic"]) -> ClassDensities:
        """Densities of classes known by their description alone."""
        return ClassDensities(self.prototypes(semantics), self.statistics.variance)

    @torch.no_grad()
    def _densities(self) -> ClassDensities:
        """Of all classes of the task: seen ones first, then unseen ones."""
        means, blend = self.statistics.means, self.setting["seen_blend"]
        if blend:
            means = torch.lerp(means, self.prototypes(self.semantics[self.seen]), blend)
        described = self.prototypes(self.semantics[self.unseen])
        # What is not known of a described class, as a share of what its description leaves open.
        self.open = described.new_ones(len(described))
        if self.pool is not None:
            described, self.open = self._prior().posterior(self.pool.means, self.pool.counts)
        if self.photos is not None:
            described = self._with_photos(described, self.photos)
        return ClassDensities(torch.cat([means, described]), self.statistics.variance)

    def _with_photos(self, prototypes: Float[Tensor, "unseen dim"], photos: PhotoMeans) -> Tensor:
        """Prototypes of the unseen classes after the photos."""
        rows = (self.unseen[None] == photos.classes[:, None]).int().argmax(1)
        unknown = self.regression.predictive_variance(self._prepared(self.semantics[photos.classes]))
        unknown = unknown * self.open[rows]
        error = self.regression.error_covariance()
        means, within = prototypes.clone(), self.statistics.within
        means[rows] = posterior_means(prototypes[rows], unknown, error, photos, within)
        self.open[rows] *= posterior_shares(unknown, error, photos, within)
        return means

    def offsets(self) -> Float[Tensor, " unseen"]:
        """o_c: what is added to the scores of each described class, in units of log density; 0 without experts.

        An uncertain prototype is farther from its own images than a certain one.
        """
        return self._offsets

    @torch.no_grad()
    def _solved_offsets(self) -> Float[Tensor, " unseen"]:
        if self.experts is None or not self.experts.offset:
            return self.means.new_zeros(len(self.unseen))
        unknown = self.regression.predictive_variance(self._prepared(self.semantics[self.unseen]))
        return self.experts.offset * unknown * self.open / self.variance

    @torch.no_grad()
    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log densities up to a constant an image, balanced; -inf for classes outside the task."""
        return self._last(features, self._scores)

    def _scores(self, features: Tensor) -> Tensor:
        known = self._known(features)
        known[:, len(self.seen) :] += self.balance
        scores = known.new_full((len(known), self.classes), -torch.inf)
        scores[:, torch.cat([self.seen, self.unseen])] = known
        return scores

    def _known(self, features: Tensor) -> Tensor:
        """Of the seen classes, then of the unseen ones, without the balance."""
        points, experts = self.space(features), self.experts
        if experts is None:
            return self.densities.scores(points)
        number, variance, lengths = len(self.seen), self.variance, self._lengths
        own, described = self.means[:number], self.means[number:]
        # In place: with thousands of classes a fresh matrix costs as much as the sum that it holds.
        if experts.seen is not None:
            seen = experts.seen.scores(features)
        else:
            seen = linear_scores(points, own, lengths["seen"]).div_(variance)
        seen = led_by(linear_scores(points, experts.gate, lengths["gate"]).div_(variance), seen)
        offsets = self.offsets()
        gated = linear_scores(points, described, lengths["described"]).div_(variance).add_(offsets)
        unseen = experts.described(points, described, lengths["expert"]).div_(variance).add_(offsets)
        unseen = led_by(gated, unseen)
        return torch.cat([seen, unseen], 1)

    @cached_property
    def _lengths(self) -> dict[str, Float[Tensor, " _"]]:
        """-|m|^2 / 2 of what `_known` compares with."""
        assert self.experts is not None, "without experts the densities score"
        own, described = self.means[: len(self.seen)], self.means[len(self.seen) :]
        means = {"seen": own, "gate": self.experts.gate, "described": described}
        lengths = {name: minus_half_squares(rows) for name, rows in means.items()}
        return {**lengths, "expert": self.experts.described_lengths(described)}

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
        """Draw from N(m_c, s2 I), brought back to the scale of the features.

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
        densities = ClassDensities(self.densities.means[rows], self.densities.variance)
        return self._drawn(densities, number, generator)

    def _drawn(self, densities: ClassDensities, number: int, generator: torch.Generator) -> Tensor:
        within = densities.draw(number, generator)
        axes = self.space.axes
        noise = torch.randn((*within.shape[:2], len(axes)), generator=generator).to(within)
        outside = noise - (noise @ axes) @ axes.T
        drawn: Tensor = self.space.origin + within @ axes.T + self.statistics.variance**0.5 * outside
        return drawn

    def scores_module(self) -> nn.Module:
        """Features to log densities, the balance included, without the spread that all classes share."""
        return DensityScores(self)

    def with_classes(
        self, semantics: Float[Tensor, "classes semantic"], unseen: Int[Tensor, " unseen"]
    ) -> ClosedFormModel:
        """The same regression over other described classes; nothing is fitted again.

        Photos of classes that stay described are kept, and so is what a pool said of them.
        """
        unseen = unseen.to(self.unseen)
        photos = self.photos.of(unseen) if self.photos else None
        pool = self.pool.of(unseen) if self.pool else None
        changed = {"semantics": semantics.to(self.semantics), "unseen": unseen, "photos": photos, "pool": pool}
        return ClosedFormModel(**{**self._parts(), **changed})

    def without_class(self, number: int) -> ClosedFormModel:
        """The same model without one of its described classes, whose score the others' would depend on."""
        return self.with_classes(self.semantics, self.unseen[self.unseen != number])

    @torch.no_grad()
    def with_photos(self, number: int, features: Float[Tensor, "images visual"]) -> ClosedFormModel:
        """The same model, a described class's prototype moved by a few photos (see `few_shot`).

        Args:
            number: of the described class; photos that it had before are replaced.
            features: of the photos, unscaled.

        Raises:
            DataError: there is no photo, or the class is not a described one.
        """
        photos = PhotoMeans.added(self.photos, number, self.space(features), self.unseen)
        return ClosedFormModel(**{**self._parts(), "photos": photos})

    def _parts(self) -> dict[str, Any]:
        names = "space statistics seen unseen semantics descriptions weights regression setting"
        parts = {name: getattr(self, name) for name in (*names.split(), "experts", "photos", "pool")}
        return {**parts, "balance": self.solved_balance}

    def _prior(self) -> ClassPrior:
        described = self._prepared(self.semantics[self.unseen])
        return prior_of(self.regression, described, self.statistics)

    @property
    def adaptation(self) -> Adaptation | None:
        """What the model was adapted to; None: it was not."""
        return None if self.pool is None else as_adaptation(self.pool, self._prior())

    @torch.no_grad()
    def adapted(self, features: Float[Tensor, "images visual"]) -> ClosedFormModel:
        """The same model, its described classes moved to what photos without labels show (see `adaptation`).

        The model goes over to the whole whitened space: photos show what the seen classes do not differ in, too.

        Raises:
            DataError: there is no photo, or no described class.
        """
        whole = self
        if self.pool is None:
            parts = whole_space(self.space, self.statistics, self.regression, self.experts, self.photos)
            whole = ClosedFormModel(**{**self._parts(), **parts})
        pool = adapt_to_pool(whole.space(features), whole._prior(), whole.unseen, whole.pool)
        return ClosedFormModel(**{**whole._parts(), "pool": pool})

    def save(self) -> SavedModel:
        """Everything, so that classes can be added and features synthesized later."""
        whitened, principal = self.space.whitened, self.space.whitened.principal
        tensors = {
            "principal.mean": principal.mean,
            "principal.basis": principal.basis[:, : len(whitened.scales)],
            **whitened.tensors("whitener."),
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
                "principal.back": principal.back[: len(whitened.scales)],
                "principal.centre": principal.centre,
            }
        if self.experts is not None:
            tensors |= self.experts.tensors(whitened)
        if self.photos is not None:
            tensors |= self.photos.tensors()
        if self.pool is not None:
            tensors |= self.pool.tensors()
        if self.weights is not None:
            tensors["description_map.log_weight"] = self.weights.log_weight
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
            "balance": self.solved_balance,
            "experts": None if self.experts is None else self.experts.values(),
        }
        return SavedModel("closed-form", tensors, values)

    @classmethod
    def load(cls, saved: SavedModel) -> ClosedFormModel:
        """The model that `saved` was made from."""
        tensors, values = saved.tensors, saved.values
        principal = load_principal_space(tensors, values)
        whitened = WhitenedSpace.load(tensors, "whitener.", principal, values["unit_length"])
        setting = values["setting"]
        weights = None
        if setting["episodes"] == "weights":
            weights = DescriptionWeights(tensors["semantics"].shape[1])
            weights.load_state_dict({"log_weight": tensors["description_map.log_weight"]})
            weights.to(tensors["semantics"].device)
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
            weights=weights,
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
            experts=Experts.load(tensors, values.get("experts"), whitened),
            photos=PhotoMeans.load(tensors),
            pool=PoolMeans.load(tensors),
        )
