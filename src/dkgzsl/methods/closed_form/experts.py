"""A gate between seen and described classes, and an expert within each.

A seen class knows its mean from its images, a described class has a predicted one. The gate places both alike: a
seen class where descriptions predict it, part of the way to what all *other* classes predict of it. Which of the
seen classes it is, the means of their images decide, in a space that is whitened further; which of the described
classes, a density that is the wider along an axis, the more images of one class vary there.

The score of a class is that of the gate's best class on its side, less what its expert's best class is ahead of
it:

    seen:       max_i g_i(z) / s2 + (e_i(z') - max_i e_i(z')) / s2'
    described:  max_c g_c(z) / s2 + (f_c(z) - max_c f_c(z)) / s2 + balance

g_i = z S_i - |S_i|^2 / 2, S = (1 - g) F + g L: F the fitted prototypes of seen classes, L their
leave-one-class-out predictions; g_c = z P_c - |P_c|^2 / 2 + o_c; e_i = z' m_i - |m_i|^2 / 2, in the space of the
seen classes; f_c = sum_j (y_j P_cj - P_cj^2 / 2) / omega_j + o_c, omega_j = u_j^q, u_j the variance within
classes along axis j of the seen means, smoothed, its mean 1. The offset o_c = t eps v_c / 2 says that an
uncertain prototype is farther from its own images; v_c is its predictive variance, eps the error of one unit of
it.

All of this is ours. With few classes a prediction can err by more than class means differ, and what leave-one-out
errors say of it is worth nothing: where |r|^2 / |M|^2 is above `USABLE`, g and t are 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dkgzsl.memory import blocks_of
from dkgzsl.methods.closed_form.kernel_ridge import KernelRidge
from dkgzsl.methods.closed_form.whitening import MeansSpace, SeenStatistics, WhitenedSpace

_ROWS: Final = 2048  # distances are as wide as there are seen classes: so many rows of them lie in memory at once
SMOOTHING: Final = 10.0
"""Deviation of the Gaussian that smooths the variances of axes, in axes."""
USABLE: Final = 1.1
"""Up to this share |r|^2 / |M|^2, mean over the validation cuts, leave-one-out errors place the gate."""


@dataclass(frozen=True)
class Placed:
    """Where a regression places the seen classes, and how far it errs.

    Attributes:
        means: M, of the seen classes' images.
        fitted: F, what the regression says of each, its own mean among what it learned from.
        left_out: L, what it says of each from all the others.
        open: 1 / G_ii, the predictive variance of each without its own mean.
    """

    means: Float[Tensor, "seen dim"]
    fitted: Float[Tensor, "seen dim"]
    left_out: Float[Tensor, "seen dim"]
    open: Float[Tensor, " seen"]

    @classmethod
    def of(cls, regression: KernelRidge, means: Float[Tensor, "seen dim"]) -> Placed:
        """By a regression that was fitted to these means."""
        errors = regression.leave_one_out_errors()
        return cls(means, regression(regression.seen), means - errors, 1 / regression.inverse.diagonal())

    @property
    def error(self) -> float:
        """eps: mean of |r_i|^2 over mean of 1 / G_ii, the squared error of one unit of predictive variance."""
        return float((self.means - self.left_out).square().sum(1).mean() / self.open.mean())

    @property
    def share(self) -> float:
        """|r|^2 / |M|^2: mean squared error of a prediction over that of guessing the mean of all classes."""
        errors, spread = (self.means - self.left_out).square().sum(), self.means.square().sum()
        return float(errors / spread.clamp(min=torch.finfo(spread.dtype).tiny))


@dataclass(frozen=True)
class SeenExpert:
    """Compares seen classes with each other in a space of its own, where whitening is shrunk less.

    Attributes:
        space: unscaled features -> coordinates.
        means: of the seen classes, in it.
        variance: s2', of an axis.
    """

    space: MeansSpace
    means: Float[Tensor, "seen dim"]
    variance: float

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images seen"]:
        """Log densities, up to a constant an image."""
        return linear_scores(self.space(features), self.means, self.lengths).div_(self.variance)

    @cached_property
    def lengths(self) -> Float[Tensor, " seen"]:
        """-|m|^2 / 2 of each mean."""
        return minus_half_squares(self.means)


@dataclass(frozen=True)
class Experts:
    """What is used of gate and experts, in the space of the seen means.

    Attributes:
        gate: S, the seen classes as the gate places them.
        seen: the expert of the seen classes; None: the gate's own space and their means there.
        omega: relative variance of each axis for the described classes, of mean about 1; None: 1 each.
        offset: t eps / 2, added to the score of a described class for each unit of its predictive variance.
    """

    gate: Float[Tensor, "seen dim"]
    seen: SeenExpert | None
    omega: Float[Tensor, " dim"] | None
    offset: float

    def described(
        self,
        points: Float[Tensor, "images dim"],
        means: Float[Tensor, "unseen dim"],
        lengths: Float[Tensor, " unseen"] | None = None,
    ) -> Float[Tensor, "images unseen"]:
        """f without its offset, times s2.

        Args:
            points: y.
            means: P.
            lengths: `described_lengths(means)`, where they are known.
        """
        lengths = self.described_lengths(means) if lengths is None else lengths
        if self.omega is None:
            return linear_scores(points, means, lengths)
        return ((points / self.omega) @ means.T).add_(lengths)

    def described_lengths(self, means: Float[Tensor, "unseen dim"]) -> Float[Tensor, " unseen"]:
        """-sum_j P_cj^2 / (2 omega_j) of each described class."""
        squares = means.square()
        return (squares if self.omega is None else squares / self.omega).sum(1) / -2

    def tensors(self, whitened: WhitenedSpace) -> dict[str, Tensor]:
        """Tensors by name, of which `load` makes them again.

        Args:
            whitened: the space of the gate, which is saved elsewhere.
        """
        tensors = {"experts.gate": self.gate}
        if self.omega is not None:
            tensors["experts.omega"] = self.omega
        if self.seen is not None:
            space = self.seen.space
            tensors |= {
                **space.whitened.tensors("experts.seen.whitener.", whitened.turned),
                "experts.seen.origin": space.origin,
                "experts.seen.axes": space.axes,
                "experts.seen.means": self.seen.means,
            }
        return tensors

    def values(self) -> dict[str, Any]:
        """JSON values, likewise."""
        return {"offset": self.offset, "variance": None if self.seen is None else self.seen.variance}

    @classmethod
    def load(
        cls, tensors: Mapping[str, Tensor], values: Mapping[str, Any] | None, whitened: WhitenedSpace
    ) -> Experts | None:
        """What `tensors` and `values` were made from; None where there were no experts.

        Args:
            tensors: of the model, by name.
            values: its value "experts".
            whitened: the space of the gate.
        """
        if values is None:
            return None
        seen = None
        if "experts.seen.means" in tensors:
            own = WhitenedSpace.load(tensors, "experts.seen.whitener.", whitened.turned, whitened.unit_length)
            space = MeansSpace(own, tensors["experts.seen.origin"], tensors["experts.seen.axes"])
            seen = SeenExpert(space, tensors["experts.seen.means"], values["variance"])
        return cls(tensors["experts.gate"], seen, tensors.get("experts.omega"), values["offset"])


@dataclass(frozen=True)
class ClassDensities:
    """x | c ~ N(mean_c, variance I), one row a class; every class spreads alike.

    Attributes:
        means: class means.
        variance: of an axis, above 0.
    """

    means: Float[Tensor, "classes dim"]
    variance: float

    def scores(self, points: Float[Tensor, "images dim"]) -> Float[Tensor, "images classes"]:
        """Log density of every point in every class, less log(2 pi) dim / 2.

        -1/2 sum_j ((x_j - m_cj)^2 / s2 + log s2), expanded so that it is a matrix product.
        """
        variances = self.means.new_full((len(self.means), 1), self.variance)
        precision = 1 / variances
        own = points.square().sum(1, keepdim=True) @ precision.T
        constant = (self.means.square() * precision).sum(1) + self.means.shape[1] * variances[:, 0].log()
        return points @ (self.means * precision).T - (own + constant) / 2

    def draw(self, number: int, generator: torch.Generator) -> Float[Tensor, "classes number dim"]:
        """`number` points from each class; the generator is on the CPU, so that devices agree."""
        shape = (len(self.means), number, self.means.shape[1])
        noise = torch.randn(shape, generator=generator, dtype=self.means.dtype).to(self.means.device)
        drawn: Tensor = self.means[:, None] + self.variance**0.5 * noise
        return drawn


def linear_scores(
    points: Float[Tensor, "images dim"],
    means: Float[Tensor, "classes dim"],
    lengths: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, "images classes"]:
    """z m - |m|^2 / 2: log densities times the variance, up to a constant an image.

    Args:
        points: z.
        means: m.
        lengths: -|m|^2 / 2, where it is known: with thousands of classes it costs as much as scoring some images.
    """
    return torch.addmm(minus_half_squares(means) if lengths is None else lengths, points, means.T)


def minus_half_squares(means: Float[Tensor, "classes dim"]) -> Float[Tensor, " classes"]:
    """-|m|^2 / 2 of each mean."""
    return means.square().sum(1) / -2


def led_by(
    gate: Float[Tensor, "images classes"], expert: Float[Tensor, "images classes"]
) -> Float[Tensor, "images classes"]:
    """The expert's scores, moved so that the best of each image is the gate's best."""
    if not gate.shape[1]:
        return expert
    return expert + (gate.amax(1, keepdim=True) - expert.amax(1, keepdim=True))


def axis_variances(statistics: SeenStatistics, power: float) -> Float[Tensor, " dim"]:
    """omega_j = u_j^q: variances within classes along the axes of the seen means, smoothed over neighbouring axes.

    Args:
        statistics: of the seen classes, whose axes come in the order of the singular values of M.
        power: q, 0 to 1; 0 gives 1 everywhere.
    """
    variances = statistics.within.diagonal()
    order = torch.arange(len(variances), dtype=variances.dtype, device=variances.device)
    weights = torch.exp((order[:, None] - order).square() / (-2 * SMOOTHING**2))
    smooth = weights @ variances / weights.sum(1)
    return (smooth / smooth.mean()) ** power


def seen_unseen_balance(
    means: Float[Tensor, "seen dim"],
    placed: Float[Tensor, "seen dim"],
    predicted: Float[Tensor, "seen dim"],
    variance: float,
) -> float:
    """What to add to the log densities of described classes, so that neither side has the advantage.

    What a predicted mean errs counts against it in every score. How much, the seen classes tell: each is predicted
    from all the others, and its own images are asked whether they would still find it. No held-out image takes
    part, no constant is tried. This is ours; to widen the densities by the predictive variance instead costs
    accuracy among the unseen classes.

    With M the means of the images, S where the model places the seen classes and P their leave-one-class-out
    predictions, an image at M_i that should find its class by description does so when the offset is above

        u_i = (|M_i - P_i|^2 - min_{j != i} |M_i - S_j|^2) / (2 s2),

    and one at M_j that should find its seen class while others are described does so when it is below

        v_j = (min_{i != j} |M_j - P_i|^2 - |M_j - S_j|^2) / (2 s2).

    The balance is half way between the mean of u and the mean of v.

    Args:
        means: M, class means of training images in the whitened space.
        placed: S, means of the seen densities (M itself, or blended with predictions).
        predicted: P, each class's mean as predicted from all other classes.
        variance: s2, the pooled variance of an axis, above 0.

    Returns:
        The offset in units of log density; 0 where there are fewer than two classes.
    """
    if len(means) < 2:
        return 0.0
    found_described, found_seen = [], []
    for rows, block in blocks_of(means, _ROWS):
        own = torch.zeros(len(block), len(means), dtype=torch.bool, device=means.device)
        own.diagonal(rows.start).fill_(True)
        to_placed, rival_seen = _own_and_rival(block, placed, own)
        to_predicted, rival_described = _own_and_rival(block, predicted, own)
        found_described.append(to_predicted - rival_seen)
        found_seen.append(rival_described - to_placed)
    found = torch.cat(found_described).mean() + torch.cat(found_seen).mean()
    return float(found / (4 * variance))


def _own_and_rival(
    block: Float[Tensor, "block dim"], points: Float[Tensor, "seen dim"], own: Bool[Tensor, "block seen"]
) -> tuple[Float[Tensor, " block"], Float[Tensor, " block"]]:
    """Squared distances of class means to their own points, and to the nearest of the others."""
    squared = torch.cdist(block, points).square_()
    to_own = squared[own]
    return to_own, squared.masked_fill_(own, torch.inf).amin(1)
