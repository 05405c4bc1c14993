"""Ridge regression from class descriptions to class means, then the nearest prototype.

The plainest form of predicting visual exemplars: descriptions a and class means m of the seen classes, both about
their means, p(a) = m_0 + (M - m_0)^T (A A^T + l I)^-1 A a. An image goes to the nearest prototype by Euclidean
distance or by cosine.

Deviations: the paper regresses principal components by kernel support vectors and divides each dimension by
its within-class deviation. A seen class is scored by its own mean or by its predicted prototype; the selector
chooses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.config import check_ranges
from dkgzsl.methods.base import MethodInfo, SavedModel, Selector, Setting, Setup, Task
from dkgzsl.methods.peers.linear_model import Columns, LinearModel, View, check_described
from dkgzsl.methods.shared.class_statistics import class_means
from dkgzsl.methods.shared.few_shot import PhotoMeans, error_variances, posterior_by_dimension
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, check_names, fitting_scalings

METRICS: Final = ("euclidean", "cosine")
SEEN: Final = ("own", "predicted")
"""What stands for a seen class: the mean of its images, or what its description predicts."""


@dataclass(frozen=True)
class RidgeSettings:
    """Ridge regression from class descriptions to class means. Every combination is tried, with both distances.

    Raises:
        ConfigError: a value is out of its range.
    """

    powers: tuple[int, ...] = tuple(range(-4, 3))
    """Exponents of ten to try for the ridge, relative to the kernel's mean diagonal."""
    scalings: tuple[str, ...] = SCALINGS
    """Scales of the features to try: none, min-max, unit, square-root, standard."""

    def __post_init__(self) -> None:
        check_ranges(self, "ridge.", at_least={"powers": -12})
        check_names(self.scalings, SCALINGS, "ridge.scalings")


@dataclass(frozen=True)
class RidgeModel(LinearModel):
    """Nearest prototype. The view's projection holds the seen means about their mean m_0, and m_0 itself.

    Every class has the pooled variance s_j^2 of the seen ones in dimension j. Features of a class are drawn from
    N(p(a), diag(s^2)); photos move its prototype as `few_shot` says, with the kernel A A^T and means about m_0.
    Both are derived here.

    Attributes:
        photos: of some of the described classes, if there are any.
    """

    kind = "ridge"

    photos: PhotoMeans | None = None

    def columns(self, semantics: Float[Tensor, "described semantic"]) -> Columns:
        """Of further classes, from their descriptions."""
        basis = self._basis
        coefficients = _coefficients(self._described(semantics), self._known, self.values["power"])
        return _columns(coefficients, basis @ basis.T, self.values["metric"])

    @property
    def _basis(self) -> Float[Tensor, "inner visual"]:
        assert self.view.projection is not None, "means are projected on"
        return self.view.projection.T

    def _described(self, semantics: Tensor) -> Tensor:
        known = normalize(self.semantics[self.seen].to(semantics), dim=1)
        return normalize(semantics, dim=1) - known.mean(dim=0)

    @property
    def _known(self) -> Float[Tensor, "seen semantic"]:
        return self._described(self.semantics[self.seen].to(self.weights))

    def prototypes(self, semantics: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes visual"]:
        """p(a) of descriptions, as scaled features."""
        described = self._described(semantics.to(self.weights))
        return _coefficients(described, self._known, self.values["power"]) @ self._basis

    def synthesize(
        self, semantics: Float[Tensor, "classes semantic"], number: int, generator: torch.Generator
    ) -> Float[Tensor, "classes number visual"]:
        """`number` features for each description, drawn from N(p(a), diag(s^2)), on the scale of the features.

        Args:
            semantics: of the classes, which need not be those of the task.
            number: features a class.
            generator: source of the noise.

        Raises:
            RunError: the model was saved by dkgzsl 0.1.
        """
        check_described(self.semantics)
        means = self.prototypes(semantics)
        drawn = torch.randn((len(means), number, means.shape[1]), generator=generator, device=generator.device)
        made = means[:, None] + drawn.to(means) * self.parameters["within"].sqrt()
        return self.view.scaling.restore(made, self.values["length"])

    def with_photos(self, number: int, features: Float[Tensor, "images visual"]) -> RidgeModel:
        """The same model, the prototype of a described class moved towards the mean of its photos.

        Args:
            number: of the described class; photos that it had before are replaced.
            features: of the photos, unscaled.

        Raises:
            DataError: there is no photo, or the class is not a described one.
            RunError: the model was saved by dkgzsl 0.1.
        """
        check_described(self.semantics)
        scaled = self.view.scaling(features)
        return replace(self, photos=PhotoMeans.added(self.photos, number, scaled, self.unseen))

    def with_classes(
        self, semantics: Float[Tensor, "classes semantic"], unseen: Int[Tensor, " unseen"]
    ) -> LinearModel:
        """The same over other described classes; photos of classes that stay described are kept."""
        kept = self.photos.of(unseen.to(self.unseen)) if self.photos else None
        return super(RidgeModel, replace(self, photos=kept)).with_classes(semantics, unseen)

    @cached_property
    def _moved(self) -> tuple[Tensor, Columns]:
        """Classes with photos, and their columns as weights of scaled features."""
        assert self.photos is not None, "there are photos"
        described, known = self._described(self.semantics[self.photos.classes].to(self.weights)), self._known
        kernel, targets = known @ known.T, self._basis[:-1]
        noise = 10.0 ** self.values["power"] * float(kernel.diagonal().mean())
        unknown = error_variances(kernel, noise, described @ known.T, described.square().sum(1), targets)
        prior = _coefficients(described, known, self.values["power"]) @ self._basis
        moved = posterior_by_dimension(prior, unknown, self.photos, self.parameters["within"].expand_as(prior))
        return self.photos.classes, _nearest(moved, moved.square().sum(1).clamp(min=1e-24), self.values["metric"])

    def _scores(self, features: Tensor, classes: Tensor) -> Tensor:
        scores = super()._scores(features, classes)
        if self.photos is not None:
            moved, columns = self._moved
            scored = self.view.scaled(features) @ columns.weights + columns.bias
            shown = torch.isin(moved, classes)
            scores[:, moved[shown]] = scored[:, shown]
        return scores

    def visual_columns(self) -> Columns:
        """The columns of all K classes as weights of scaled features, in float64."""
        weights, bias = super().visual_columns()
        bias = bias.clone()  # it may be the model's own
        if self.photos is not None:
            moved, columns = self._moved
            weights[:, moved], bias[moved] = columns.weights.double(), columns.bias.double()
        return Columns(weights, bias)

    def save(self) -> SavedModel:
        """As every linear model, with the photos."""
        saved, photos = super().save(), self.photos.tensors() if self.photos else {}
        return SavedModel(saved.kind, {**saved.tensors, **photos}, saved.values)

    @classmethod
    def load(cls, saved: SavedModel) -> RidgeModel:
        """The model that `saved` was made from."""
        model = super().load(saved)
        assert isinstance(model, RidgeModel), "made by this class"
        return replace(model, photos=PhotoMeans.load(saved.tensors))


def _coefficients(
    described: Float[Tensor, "classes semantic"], known: Float[Tensor, "seen semantic"], power: int
) -> Float[Tensor, "classes inner"]:
    """Of the prototypes of prepared descriptions: combinations of the seen means about m_0, and of m_0, once."""
    kernel = known @ known.T
    kernel.diagonal().add_(10.0**power * float(kernel.diagonal().mean()))
    predicted = torch.linalg.solve(kernel, known @ described.T).T
    return torch.cat([predicted, torch.ones_like(predicted[:, :1])], dim=1)


def _columns(
    coefficients: Float[Tensor, "classes inner"], products: Float[Tensor, "inner inner"], metric: str
) -> Columns:
    squares = ((coefficients @ products) * coefficients).sum(dim=1).clamp(min=1e-24)
    return _nearest(coefficients, squares, metric)


def _nearest(points: Float[Tensor, "classes inner"], squares: Float[Tensor, " classes"], metric: str) -> Columns:
    """Scores that rank classes by their distance to an image: points of the classes, and their squared lengths."""
    if metric == "cosine":
        return Columns((points / squares.sqrt()[:, None]).T, torch.zeros_like(squares))
    return Columns(2 * points.T, -squares)  # minus the squared distance, but for the image's own square


class RidgePrototype:
    """Penalty, scale, distance, and what stands for seen classes are chosen by the selector.

    Args:
        settings: what to try.
        setup: nothing is drawn, and nothing needs a cap on the minutes.
    """

    name = "ridge"

    def __init__(self, settings: RidgeSettings | None = None, setup: Setup | None = None) -> None:
        self.settings = settings or RidgeSettings()
        self.device = torch.device((setup or Setup()).device)

    def explore(self, task: Task, selector: Selector) -> None:
        """Every combination; images are projected once for each scale and distance."""
        for scaling in fitting_scalings(self.settings.scalings, task.features):
            fitting = _Fitting(task, scaling, self.device)
            for metric in METRICS:
                view = fitting.view(metric)
                for power in self.settings.powers:
                    for seen in SEEN:
                        setting = {"scaling": scaling, "metric": metric, "power": power, "seen": seen}
                        selector(setting, fitting.model(view, metric, power, seen))

    def fit(self, task: Task, setting: Setting) -> RidgeModel:
        """Fit with one setting."""
        fitting = _Fitting(task, setting["scaling"], self.device)
        metric = setting["metric"]
        return fitting.model(fitting.view(metric), metric, setting["power"], setting["seen"])


class _Fitting:
    """Prototypes as combinations of class means: an image needs no more than its products with these."""

    def __init__(self, task: Task, scaling: str, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.semantics = task.semantics.to(features)
        self.scaling = Scaling.fit(scaling, features)
        scaled, positions = self.scaling(features), torch.searchsorted(self.seen, task.labels.to(device))
        means = class_means(scaled, positions, len(self.seen))
        center = means.mean(dim=0)
        self.basis = torch.cat([means - center, center[None]])  # the last coefficient of a prototype is 1
        self.products = self.basis @ self.basis.T
        described = normalize(self.semantics, dim=1)
        self.described = described - described[self.seen].mean(dim=0)
        degrees = max(1, len(scaled) - len(means))
        self.within = (scaled - means[positions]).square().sum(dim=0) / degrees
        self.length = float(features.norm(dim=1).mean())

    def view(self, metric: str) -> View:
        return View(self.scaling, self.basis.T, "before" if metric == "cosine" else "never")

    def model(self, view: View, metric: str, power: int, seen: str) -> RidgeModel:
        coefficients = _coefficients(self.described, self.described[self.seen], power)
        if seen == "own":
            coefficients[self.seen, :-1] = torch.eye(len(self.seen)).to(coefficients)
        weights, bias = _columns(coefficients, self.products, metric)
        values = {"metric": metric, "power": power, "length": self.length}
        parameters = {"within": self.within}
        return RidgeModel(view, weights, bias, self.seen, self.unseen, self.semantics, values, parameters)


INFO = MethodInfo(
    name="ridge",
    title="Ridge to class means",
    paper="after Changpinyo, Chao and Sha, Predicting visual exemplars of unseen classes for zero-shot learning, "
    "ICCV 2017",
    settings=RidgeSettings,
    make=RidgePrototype,
    models={"ridge": RidgeModel},
)
