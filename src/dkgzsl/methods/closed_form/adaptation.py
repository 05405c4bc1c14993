"""Adaptation to unlabelled photos: the prototypes of described classes move to what a pool of photos shows.

All class means have one Gaussian process as their prior, the one whose posterior mean is the kernel regression
itself: covariance eps1 (K + n I) on every axis of the whitened space. The means of the seen classes are observed
with noise s2 / n_i. What is then known of the described ones is N(P0, eps1 C) on every axis, with

    C = K_uu - K_us (K_ss + diag(s2 / (eps1 n_i)))^-1 K_su        (K with n I added)

`ITERATIONS` times, from P = P0, f = 1:

1. each photo z is shared among all classes, seen ones (means M) and described ones, by the softmax of
   (z m - |m|^2 / 2 + b) / (s2 TEMPERATURE); b is the solved balance times the mean of f, for described classes;
2. N_c photos, with the mean x_c, are given to described class c; means of seen classes stay;
3. D = diag(ALIKE s2 / (eps1 N_c)), A = C (C + D)^-1, P = P0 + A (x - P0): what photos say of one class also moves
   its neighbours;
4. f_c = (C - A C)_cc / C_cc, the share of what is still not known of class c.

No class is taken to be present, or as frequent as another; the pool may hold seen classes. This is ours; it is
expectation-maximisation of a mixture whose means have a prior. TEMPERATURE and ALIKE were set on training classes
of CUB. The classes compete by the means of the images, not by the gate of `experts`: with few classes the gate's
prototypes can exchange the names of two classes here.

Two questions are asked of the result. *Does the pool hold anything described?* (`evident_classes`): photos of a
new class are more like each other than like any seen class; photos of seen classes that a described one took are
not. *Which names might as well be exchanged?* (`uncertain_pairs`): the likelihoods of both are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dkgzsl.errors import DataError
from dkgzsl.methods.adaptation import Adaptation
from dkgzsl.methods.closed_form.experts import Experts, linear_scores, seen_unseen_balance
from dkgzsl.methods.closed_form.kernel_ridge import KernelRidge, kernel
from dkgzsl.methods.closed_form.whitening import MeansSpace, SeenStatistics
from dkgzsl.methods.shared.few_shot import PhotoMeans

ITERATIONS: Final = 10
TEMPERATURE: Final = 10.0
"""T: photos of one class are alike in more than their class, so that densities are too sure of themselves."""
ALIKE: Final = 6.0
"""m: so many photos say as much as one independent one; some are of another class, besides."""
FEWEST: Final = 3.0
"""A class with fewer photos shows nothing by itself."""
APART: Final = 0.25
"""A class is evident when its photos are closer to their own mean than to any seen class's by this share of the
distance between neighbouring seen classes (squared distances, the median of the seen classes)."""
_NOTHING: Final = 1e-6
"""A class with fewer photos keeps its prediction."""


@dataclass(frozen=True)
class PoolMeans:
    """What a model keeps of the pools that it was adapted to.

    Attributes:
        classes: numbers of the described classes.
        means: x_c, mean of the photos that each class took, whitened, from the mean of the seen classes.
        counts: N_c, the photos that each took of all pools, in shares.
        latest: the same of the last pool.
        evident: which classes' photos of the last pool are more like each other than like any seen class.
        photos: of the last pool.
        share: photos taken by evident classes, as a share of the last pool.
    """

    classes: Int[Tensor, " unseen"]
    means: Float[Tensor, "unseen dim"]
    counts: Float[Tensor, " unseen"]
    latest: Float[Tensor, " unseen"]
    evident: Bool[Tensor, " unseen"]
    photos: int
    share: float

    def of(self, classes: Int[Tensor, " some"]) -> PoolMeans:
        """For some classes in their order; a class that no pool was asked about has taken nothing."""
        known = self.classes[None] == classes[:, None]
        has, rows = known.any(1), known.int().argmax(1) if len(self.classes) else classes.new_zeros(len(classes))

        def kept(values: Tensor) -> Tensor:
            chosen = values.new_zeros(len(classes), *values.shape[1:])
            chosen[has] = values[rows[has]]
            return chosen

        parts: dict[str, Any] = {name: kept(getattr(self, name)) for name in _PARTS[1:]}
        return replace(self, classes=classes, **parts)

    def tensors(self) -> dict[str, Tensor]:
        """Tensors by name, of which `load` makes them again."""
        whole = {f"pool.{name}": getattr(self, name) for name in _PARTS}
        return {**whole, "pool.size": torch.tensor([self.photos, self.share], dtype=torch.float64)}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor]) -> PoolMeans | None:
        """What `tensors` was made from, or None where no pool is in them."""
        if "pool.means" not in tensors:
            return None
        photos, share = tensors["pool.size"].tolist()
        parts: dict[str, Any] = {name: tensors[f"pool.{name}"] for name in _PARTS}
        return cls(**parts, photos=int(photos), share=share)


_PARTS: Final = ("classes", "means", "counts", "latest", "evident")


@dataclass(frozen=True)
class ClassPrior:
    """What is known of all class means before any photo of a pool, on each axis of the whitened space alike.

    Attributes:
        seen: M, of the seen classes.
        counts: n_i, images of each seen class.
        predicted: P0, of the described classes.
        covariance: C, between described classes.
        unit: eps1, the variance that one unit of C stands for.
        variance: s2, within classes.
        balance: of seen and described classes, in units of scores (log density times s2).
    """

    seen: Float[Tensor, "seen dim"]
    counts: Int[Tensor, " seen"]
    predicted: Float[Tensor, "unseen dim"]
    covariance: Float[Tensor, "unseen unseen"]
    unit: float
    variance: float
    balance: float

    def noise(self, counts: Float[Tensor, " unseen"]) -> Float[Tensor, " unseen"]:
        """Diagonal of D."""
        return ALIKE * self.variance / (self.unit * counts.double().clamp(min=_NOTHING))

    def posterior(
        self, means: Float[Tensor, "unseen dim"], counts: Float[Tensor, " unseen"]
    ) -> tuple[Float[Tensor, "unseen dim"], Float[Tensor, " unseen"]]:
        """P and f: prototypes after the photos, and what is still not known of each class, above 0 and at most 1.

        Args:
            means: x, of the photos of each class.
            counts: N.
        """
        if not len(counts):
            return self.predicted, counts
        prior = self.covariance.double()
        taken = counts > _NOTHING
        shift = torch.where(taken[:, None], means - self.predicted, torch.zeros_like(means)).double()
        gain = torch.linalg.solve(prior + torch.diag(self.noise(counts)), prior).mT
        left = (prior - gain @ prior).diagonal() / prior.diagonal()
        moved = self.predicted + (gain @ shift).to(self.predicted)
        return moved, left.clamp(min=0, max=1).to(self.predicted)

    def shares(
        self, points: Float[Tensor, "photos dim"], prototypes: Float[Tensor, "unseen dim"], left: float
    ) -> Float[Tensor, "photos unseen"]:
        """How much of each photo each described class takes.

        Args:
            points: the photos.
            prototypes: P.
            left: mean of f.
        """
        seen, described = (linear_scores(points, means) for means in (self.seen, prototypes))
        scores = torch.cat([seen, described + self.balance * left], 1) / (self.variance * TEMPERATURE)
        return scores.softmax(1)[:, len(self.seen) :]


def prior_covariance(
    kernel: Float[Tensor, "known known"], seen: int, noise: float, observed: Float[Tensor, " seen"]
) -> Float[Tensor, "unseen unseen"]:
    """C: covariance of the means of described classes, given those of the seen ones, in units of eps1.

    Args:
        kernel: K, between descriptions of the seen classes and then the described ones.
        seen: number of seen classes.
        noise: n, on the diagonal of every class, above 0.
        observed: s2 / (eps1 n_i), the noise of each seen mean.
    """
    regular = kernel.double()
    regular = regular + noise * torch.eye(len(kernel), dtype=regular.dtype, device=regular.device)
    cross = regular[:seen, seen:]
    own = regular[:seen, :seen] + torch.diag(observed.double())
    covariance: Tensor = regular[seen:, seen:] - cross.mT @ torch.linalg.solve(own, cross)
    return (covariance + covariance.mT) / 2


def prior_of(
    regression: KernelRidge, described: Float[Tensor, "unseen semantic"], statistics: SeenStatistics
) -> ClassPrior:
    """What a solved regression and the seen classes' images say of all class means.

    eps1 is the squared error of one unit of predictive variance, an axis: that of leave-one-class-out predictions.

    Args:
        regression: to the means in the whole whitened space.
        described: prepared descriptions of the described classes.
        statistics: of the seen classes, in the same space.
    """
    means, errors = statistics.means, regression.leave_one_out_errors()
    unit = float(errors.square().sum(1).mean() * len(errors) / (1 / regression.inverse.diagonal()).sum())
    unit = max(unit / means.shape[1], torch.finfo(means.dtype).tiny)
    together = torch.cat([regression.seen, described])
    gram = kernel(together, together, regression.width)
    observed = statistics.variance / (unit * statistics.counts.double())
    return ClassPrior(
        seen=means,
        counts=statistics.counts,
        predicted=regression(described),
        covariance=prior_covariance(gram, len(means), regression.noise, observed),
        unit=unit,
        variance=statistics.variance,
        balance=seen_unseen_balance(means, means, means - errors, statistics.variance) * statistics.variance,
    )


def whole_space(
    space: MeansSpace,
    statistics: SeenStatistics,
    regression: KernelRidge,
    experts: Experts | None,
    photos: PhotoMeans | None,
) -> dict[str, Any]:
    """The same parts of a model, in the whole whitened space instead of the span of the seen means.

    Outside of the span the covariance within classes is taken to be s2 I, as whitening makes it. The described
    expert weighs axes of the span, where predictions lie, and is left out.
    """
    axes, variance = space.axes, statistics.variance
    dimensions = torch.eye(len(axes), dtype=axes.dtype, device=axes.device)
    inside = statistics.within.clone()
    inside.diagonal().sub_(variance)
    within = variance * dimensions + axes @ inside @ axes.T
    return {
        "space": MeansSpace(space.whitened, space.origin, dimensions),
        "statistics": replace(statistics, means=statistics.means @ axes.T, within=within),
        "regression": replace(regression, mean=regression.mean @ axes.T, weights=regression.weights @ axes.T),
        "experts": None if experts is None else replace(experts, gate=experts.gate @ axes.T, omega=None),
        "photos": None if photos is None else replace(photos, means=photos.means @ axes.T),
    }


def adapt_to_pool(
    points: Float[Tensor, "photos dim"],
    prior: ClassPrior,
    classes: Int[Tensor, " unseen"],
    before: PoolMeans | None = None,
) -> PoolMeans:
    """Share the photos among the classes until prototypes and shares agree.

    Args:
        points: photos in the whitened space, from the mean of the seen classes.
        prior: of the class means.
        classes: numbers of the described classes.
        before: earlier pools, whose photos stay with the classes that took them.

    Raises:
        DataError: there is no photo, or no described class.
    """
    if not len(points) or not len(classes):
        what = "there is no photo" if len(classes) else "no class is described, so that there is nothing to adapt"
        raise DataError(what, fix="give photos that show described classes")
    nothing = points.new_zeros(len(classes))
    earlier_counts, earlier_means = nothing, points.new_zeros(len(classes), points.shape[1])
    if before is not None:
        earlier_counts, earlier_means = before.of(classes).counts, before.of(classes).means
    means, counts, shares = earlier_means, earlier_counts, nothing
    for _ in range(ITERATIONS):
        prototypes, left = prior.posterior(means, counts)
        shares = prior.shares(points, prototypes, float(left.mean()))
        counts = earlier_counts + shares.sum(0)
        sums = earlier_counts[:, None] * earlier_means + shares.mT @ points
        means = sums / counts.clamp(min=_NOTHING)[:, None]
    latest, evident = shares.sum(0), evident_classes(points, shares, prior)
    share = float(latest[evident].sum() / len(points))
    return PoolMeans(classes, means, counts, latest, evident, len(points), share)


def evident_classes(
    points: Float[Tensor, "photos dim"], shares: Float[Tensor, "photos unseen"], prior: ClassPrior
) -> Bool[Tensor, " unseen"]:
    """Which described classes took photos that are more like each other than like any seen class.

    The squared distance of a photo to the mean of the class's other photos is compared with that to the nearest
    seen mean. All squared distances are freed of what the noise of the means adds, dim s2 / N for each.

    Args:
        points: the photos.
        shares: how much of each photo each class took.
        prior: of the class means.
    """
    spread = points.shape[1] * prior.variance
    counts = shares.sum(0)
    others = (counts - shares).clamp(min=_NOTHING)
    to_seen = (torch.cdist(points, prior.seen).square() - spread / prior.counts).amin(1)
    means = shares.mT @ points / counts.clamp(min=_NOTHING)[:, None]
    own = torch.cdist(points, means).square() * (counts / others).square() - spread / others
    closer = (shares * (to_seen[:, None] - own)).sum(0) / counts.clamp(min=_NOTHING)
    each = spread / prior.counts
    between = torch.cdist(prior.seen, prior.seen).square() - each[:, None] - each
    apart = between.fill_diagonal_(torch.inf).amin(1).median().clamp(min=0)
    return (counts >= FEWEST) & (closer >= APART * apart)


def uncertain_pairs(pool: PoolMeans, prior: ClassPrior) -> list[tuple[int, int]]:
    """Pairs of described classes whose photos could as well be each other's.

    Under the prior and with the noise of D, the log likelihood of the photos' means is compared with that after an
    exchange of the two classes' photos:

        (B_c - B_o) (x_c - x_o) - |x_c - x_o|^2 (V_cc + V_oo - 2 V_co) / 2,   V = (eps1 (C + D))^-1, B = V (x - P0)

    D stays as it is, which neglects that the two may have taken different numbers of photos. Classes with fewer
    than `FEWEST` photos are left out.

    Returns:
        Class numbers, the most uncertain pair first: those where an exchange is at least as likely.
    """
    covariance = prior.unit * (prior.covariance.double() + torch.diag(prior.noise(pool.counts)))
    precision = torch.linalg.inv(covariance)
    means = pool.means.double()
    taken = pool.counts >= FEWEST
    shift = torch.where(pool.counts[:, None] > _NOTHING, means - prior.predicted, torch.zeros_like(means))
    products = precision @ shift @ means.mT
    own, diagonal = products.diagonal(), precision.diagonal()
    first = own[:, None] + own - products - products.mT
    second = torch.cdist(means, means).square() * (diagonal[:, None] + diagonal - 2 * precision) / 2
    gain = (first - second).masked_fill(~(taken[:, None] & taken), -torch.inf).triu(1)
    gain = gain.masked_fill(torch.ones_like(gain).tril() > 0, -torch.inf)
    order = gain.flatten().argsort(descending=True)[: int((gain >= 0).sum())]
    size = len(pool.classes)
    return [(int(pool.classes[k // size]), int(pool.classes[k % size])) for k in order.tolist()]


def as_adaptation(pool: PoolMeans, prior: ClassPrior) -> Adaptation:
    """What an adapted model says of its adaptation.

    Distances are in units of the distance of an image from its class's mean, the square root of dim s2.
    """
    moved, _ = prior.posterior(pool.means, pool.counts)
    unit = (prior.predicted.shape[1] * prior.variance) ** 0.5
    return Adaptation(
        photos=pool.photos,
        classes=tuple(pool.classes.tolist()),
        taken=tuple(pool.latest.tolist()),
        moved=tuple(((moved - prior.predicted).norm(dim=1) / unit).tolist()),
        evident=tuple(pool.evident.tolist()),
        evident_share=pool.share,
        uncertain=tuple(uncertain_pairs(pool, prior)),
    )
