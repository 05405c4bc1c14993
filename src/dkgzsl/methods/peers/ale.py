"""ALE, attribute label embedding (arXiv 1503.08677).

Compatibility F(x, c) = x^T W a_c, trained by the weighted approximate ranking objective (eq. 8): sum over
images of beta_r / r * sum over classes c of max(0, 1 + F(x, c) - F(x, y)), c != y, where r counts the classes
that violate the margin and beta_r = 1 + 1/2 + ... + 1/r. Nothing but early stopping regularises; the selector
chooses the epoch.

W starts at 0 and each step adds x times a combination of seen descriptions, so W = C A with C [visual, seen]
and A the seen descriptions: C is what is trained, exactly as W would be.

Deviations: all violating classes are counted instead of sampled; steps are minibatches, their gradient a
mean; W starts at 0 instead of a small random matrix; descriptions have length 1. Learning rates are relative
to the images' mean square length, since the paper's are those of its features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.config import check_ranges
from dkgzsl.methods.base import MethodInfo, Setting, Setup, Task
from dkgzsl.methods.peers.epochwise import EpochwiseMethod
from dkgzsl.methods.peers.linear_model import Columns, LinearModel, View
from dkgzsl.methods.search import Choice, Range, Space
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, check_names, fitting_scalings
from dkgzsl.methods.shared.training import restore, seeded

MARGIN: Final = 1.0


@dataclass(frozen=True)
class ALESettings:
    """A bilinear map from features to descriptions, trained by ranking.

    Raises:
        ConfigError: a value is out of its range.
    """

    epochs: int = 32
    """Most passes over the training images; the epoch is chosen on validation classes."""
    rates: tuple[float, ...] = (10.0, 30.0)
    """Learning rates to try, relative to the mean square length of the features."""
    batch_size: int = 32
    """Images per step."""
    scalings: tuple[str, ...] = SCALINGS
    """Scales of the features to try: none, min-max, unit, square-root, standard."""

    def __post_init__(self) -> None:
        check_ranges(self, "ale.", at_least={"epochs": 1, "batch_size": 1}, above_zero=("rates",))
        check_names(self.scalings, SCALINGS, "ale.scalings")


@dataclass(frozen=True)
class ALEModel(LinearModel):
    """Scores x^T C A a_c; the columns are A a_c."""

    kind = "ale"

    def columns(self, semantics: Float[Tensor, "described semantic"]) -> Columns:
        """Of further classes, from their descriptions."""
        known = normalize(self.semantics[self.seen].to(semantics), dim=1)
        weights = (normalize(semantics, dim=1) @ known.T).T
        return Columns(weights, weights.new_zeros(len(semantics)))


def ranking_gradient(
    scores: Float[Tensor, "images seen"], positions: Int[Tensor, " images"]
) -> tuple[Float[Tensor, " images"], Float[Tensor, "images seen"]]:
    """Each image's weighted ranking loss, and its derivative by the scores.

    Args:
        scores: of every seen class.
        positions: column of each image's own class.
    """
    own = positions[:, None]
    hinges = (MARGIN + scores - scores.gather(1, own)).scatter(1, own, 0.0).clamp(min=0.0)
    violating = (hinges > 0).to(scores)
    number = violating.sum(dim=1)
    harmonic = torch.arange(1, scores.shape[1] + 1).to(scores).reciprocal().cumsum(0)
    weight = harmonic[(number.long() - 1).clamp(min=0)] / number.clamp(min=1)
    gradient = violating * weight[:, None]
    return weight * hinges.sum(dim=1), gradient.scatter(1, own, -gradient.sum(dim=1, keepdim=True))


class ALE(EpochwiseMethod):
    """Scale, learning rate and epoch are chosen by the selector.

    Args:
        settings: what to try.
        setup: the seed decides the order of the images.

    Raises:
        ConfigError: the minutes are out of range.
    """

    name = "ale"

    def __init__(self, settings: ALESettings | None = None, setup: Setup | None = None) -> None:
        self.settings = settings or ALESettings()
        tried = [(scaling, rate) for scaling in self.settings.scalings for rate in self.settings.rates]
        super().__init__(self.settings, setup, [{"scaling": scaling, "rate": rate} for scaling, rate in tried])

    def options_for(self, task: Task) -> Sequence[Setting]:
        """No square root of negative features."""
        kept = fitting_scalings(self.settings.scalings, task.features)
        return [option for option in self.options if option["scaling"] in kept]

    def begin(self, task: Task, option: Setting) -> _Training:
        """A training that has not begun."""
        return _Training(task, option, self)


class _Training:
    def __init__(self, task: Task, option: Setting, method: ALE) -> None:
        features = task.features.to(method.device)
        self.seen, self.unseen = task.seen.to(method.device), task.unseen.to(method.device)
        self.positions = torch.searchsorted(self.seen, task.labels.to(method.device))
        self.scaling = Scaling.fit(option["scaling"], features)
        self.features = self.scaling(features)
        self.semantics = task.semantics.to(features)
        described = normalize(self.semantics, dim=1)
        self.kernel = described @ described[self.seen].T
        self.known = self.kernel[self.seen]
        self.combinations = features.new_zeros(features.shape[1], len(self.seen))
        self.rate = option["rate"] / float((self.features**2).sum(dim=1).mean())
        self.batch_size, self.seed, self.epoch = method.settings.batch_size, method.seed, 0

    def train_epoch(self) -> Mapping[str, float]:
        """All images once."""
        random = seeded(self.seed, self.epoch, device=self.features.device)
        order = torch.randperm(len(self.features), generator=random, device=self.features.device)
        total = self.features.new_zeros(())
        for images in torch.split(order, self.batch_size):
            batch = self.features[images]
            losses, gradient = ranking_gradient(batch @ self.combinations @ self.known, self.positions[images])
            self.combinations.addmm_(batch.T, gradient, alpha=-self.rate / len(images))
            total += losses.sum()
        self.epoch += 1
        return {"loss": float(total) / len(self.features)}

    def state(self) -> Mapping[str, Tensor]:
        """C."""
        return {"combinations": self.combinations}

    def restore(self, tensors: Mapping[str, Tensor], *, epoch: int) -> None:
        """Go on from a `state` as it was after `epoch` epochs."""
        restore(tensors, {}, {"combinations": self.combinations})
        self.epoch = epoch

    def models(self) -> Iterator[tuple[Setting, ALEModel]]:
        """The model as it stands."""
        view, weights = View(self.scaling, self.combinations.clone()), self.kernel.T
        bias = weights.new_zeros(len(self.kernel))
        yield {}, ALEModel(view, weights, bias, self.seen, self.unseen, self.semantics)


def search(settings: ALESettings, images: int) -> Space:
    """What `tune` tries."""
    del images
    return {"rates": Range(1.0, 100.0, log=True), "scalings": Choice(settings.scalings)}


INFO = MethodInfo(
    name="ale",
    title="ALE",
    paper="Akata, Perronnin, Harchaoui and Schmid, Label-embedding for image classification, TPAMI 2016",
    settings=ALESettings,
    make=ALE,
    models={"ale": ALEModel},
    iterative=True,
    search=search,
)
