"""What a few photos add to a description: the posterior of the mean of a described class.

A description predicts the mean m_c of class c with an error: the prior is normal about m_c. The mean of n photos
is normal about the class's mean, and so is the posterior, with the mean

    m_c + gain (photos - m_c)

Without photos it is what the description predicts, with many their mean. Derived here: no zero-shot method is
known to us that uses its own error covariance so.

**Of the closed form**, in full covariances (`posterior_means`). The regression predicts m_c with error covariance
v_c E (`KernelRidge`); the photos scatter by 2 W / n, W the covariance within classes as training images have it:

    gain = v_c E (v_c E + 2 W / n)^-1

Directions in which descriptions tell little and classes spread little move first. W is not s2 I: a shrunk
covariance whitens the directions of large spread in part only, and the class means lie in just those. A photo
counts half because photos stray further than a normal distribution: on validation classes of CUB100, 2 lost no H
by any number of photos, 1 lost by the first.

**Of peers that predict class means by kernel regression**, dimension by dimension (`posterior_by_dimension`). The
regression f(a) = k(a)^T G M, with G = (K + l I)^-1 and seen means M, is that of a Gaussian process. It predicts
seen class i from all the others with the error r_i = [G M]_i / G_ii, of variance 1 / G_ii times that of the
process. So the error of f_j(a) in dimension j has the variance v E_j (`error_variances`), where

    v = k(a, a) - k(a)^T G k(a) + l,   E_j = mean_i(r_ij^2) / mean_i(1 / G_ii)

and with the variance s_j^2 within the class

    gain_j = v E_j / (v E_j + s_j^2 / n)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.errors import DataError

SPREAD: Final = 2.0
"""How much further a few photos stray than the covariance within classes says, as a factor of it."""


@dataclass(frozen=True)
class PhotoMeans:
    """What a model keeps of photos of described classes.

    Attributes:
        classes: class numbers, each once.
        means: mean of each class's photos, in the space where the model has its class means.
        counts: photos of each class, at least 1.
    """

    classes: Int[Tensor, " few_shot"]
    means: Float[Tensor, "few_shot dim"]
    counts: Int[Tensor, " few_shot"]

    @classmethod
    def added(
        cls,
        before: PhotoMeans | None,
        number: int,
        points: Float[Tensor, "images dim"],
        unseen: Int[Tensor, " unseen"],
    ) -> PhotoMeans:
        """With the photos of one more class, or with other photos of a class.

        Args:
            before: what there was; None: no photos.
            number: of the class.
            points: its photos, in the space where the model has its class means.
            unseen: numbers of the described classes.

        Raises:
            DataError: there is no photo, or the class is not a described one.
        """
        if not len(points):
            raise DataError("there is no photo", fix="give at least one")
        if number not in unseen.tolist():
            raise DataError(
                f"class {number} is not a described one", fix="give photos of a class without training images"
            )
        added = cls(unseen.new_tensor([number]), points.mean(0, keepdim=True), unseen.new_tensor([len(points)]))
        if before is None:
            return added
        others = before.classes != number
        return cls(
            torch.cat([before.classes[others], added.classes]),
            torch.cat([before.means[others], added.means]),
            torch.cat([before.counts[others], added.counts]),
        )

    def of(self, classes: Int[Tensor, " some"]) -> PhotoMeans | None:
        """Those of some classes, or None."""
        kept = torch.isin(self.classes, classes)
        return PhotoMeans(self.classes[kept], self.means[kept], self.counts[kept]) if kept.any() else None

    def tensors(self) -> dict[str, Tensor]:
        """Tensors by name, from which `load` makes them again."""
        return {f"photos.{name}": getattr(self, name) for name in _PARTS}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor]) -> PhotoMeans | None:
        """What `tensors` was made from, or None where they hold no photos."""
        if "photos.means" not in tensors:
            return None
        return cls(*(tensors[f"photos.{name}"] for name in _PARTS))


_PARTS: Final = ("classes", "means", "counts")


def posterior_means(
    prior: Float[Tensor, "few_shot dim"],
    unknown: Float[Tensor, " few_shot"],
    error: Float[Tensor, "dim dim"],
    photos: PhotoMeans,
    within: Float[Tensor, "dim dim"],
) -> Float[Tensor, "few_shot dim"]:
    """Posterior means of the classes, in full covariances.

    Args:
        prior: what the descriptions predict, m_c.
        unknown: v_c, above 0.
        error: E.
        photos: of the same classes.
        within: W, positive definite.
    """
    gain, *_ = _gain(unknown, error, photos, within)
    means: Tensor = prior + (gain @ (photos.means - prior)[..., None])[..., 0]
    return means


def posterior_shares(
    unknown: Float[Tensor, " few_shot"],
    error: Float[Tensor, "dim dim"],
    photos: PhotoMeans,
    within: Float[Tensor, "dim dim"],
) -> Float[Tensor, " few_shot"]:
    """How much of the predictions' variance, all axes together, the photos leave: above 0, at most 1.

    Args:
        unknown: v_c, above 0.
        error: E.
        photos: of the same classes.
        within: W, positive definite.
    """
    gain, open_, noise = _gain(unknown, error, photos, within)
    left = gain @ noise  # covariance of the posterior
    traces: Tensor = left.diagonal(dim1=1, dim2=2).sum(1) / open_.diagonal(dim1=1, dim2=2).sum(1)
    return traces


def _gain(unknown: Tensor, error: Tensor, photos: PhotoMeans, within: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Share of the photos' deviation that a mean follows, covariance of the prediction, covariance of the photos'
    mean."""
    open_ = unknown[:, None, None] * error
    noise = SPREAD * within / photos.counts[:, None, None]
    return torch.linalg.solve(open_ + noise, open_).mT, open_, noise  # both are symmetric


def posterior_by_dimension(
    prior: Float[Tensor, "few_shot visual"],
    unknown: Float[Tensor, "few_shot visual"],
    photos: PhotoMeans,
    within: Float[Tensor, "few_shot visual"],
) -> Float[Tensor, "few_shot visual"]:
    """Posterior means of the classes, one dimension apart from the other.

    Args:
        prior: what the descriptions predict, f_j(a).
        unknown: variance of the prediction's error, v E_j.
        photos: of the same classes.
        within: variance within the classes, s_j^2.
    """
    tiny = torch.finfo(prior.dtype).tiny  # a dimension that never varies has neither variance
    gain = unknown / (unknown + within / photos.counts[:, None]).clamp(min=tiny)
    means: Tensor = prior + gain * (photos.means - prior)
    return means


def error_variances(
    kernel: Float[Tensor, "seen seen"],
    noise: float,
    cross: Float[Tensor, "classes seen"],
    own: Float[Tensor, " classes"],
    targets: Float[Tensor, "seen visual"],
) -> Float[Tensor, "classes visual"]:
    """v E_j: variance of the error of each predicted mean, in each dimension.

    Args:
        kernel: K, between seen classes.
        noise: l.
        cross: k(a), between predicted and seen classes.
        own: k(a, a).
        targets: M, less what the regression adds at the end.
    """
    # In float64: G's own diagonal is used, and K is nearly singular where there are more classes than attributes.
    regular = kernel.double() + noise * torch.eye(len(kernel), dtype=torch.float64, device=kernel.device)
    inverse = torch.linalg.inv(regular)
    diagonal = inverse.diagonal()
    errors = inverse @ targets.double() / diagonal[:, None]
    unit = errors.square().mean(0) / (1 / diagonal).mean()
    wide = cross.double()
    explained = ((wide @ inverse) * wide).sum(1)
    unknown = (own.double() - explained).clamp(min=0) + noise
    variances: Tensor = unknown[:, None] * unit
    return variances.to(targets)
