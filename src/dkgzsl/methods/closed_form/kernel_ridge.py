"""Prototypes of described classes by kernel ridge regression, and what they do not know.

Source: kernel ridge regression from class descriptions to class statistics as in GFZSL (Verma and Rai, ECML 2017,
arXiv 1707.08040); leave-one-out errors and the predictive variance are those of the Gaussian process with the same
kernel. Deviations: non-negative descriptions take a square root, all are centred on the seen mean and of unit
length; means are of whitened features.

Symbols: K kernel between the seen classes, k its mean diagonal, l the ridge, G = (K + l k I)^-1, M the seen means,
m_0 their mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import lapack
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dkgzsl.memory import blocks_of


@dataclass(frozen=True)
class DescriptionSpace:
    """Class descriptions centred on the mean of the seen ones' directions, scaled to unit length.

    Attributes:
        centre: mean direction of the seen descriptions, after the root.
        root: take a square root first, of negative values that of the amount, with their sign. Attributes are
            shares of annotators and sentence rows counts of words, both with a heavy right tail: the root lets
            what is rarely present count next to what always is.
    """

    centre: Float[Tensor, " semantic"]
    root: bool = False

    @classmethod
    def fit(cls, seen: Float[Tensor, "seen semantic"], *, root: bool = False) -> DescriptionSpace:
        """Centre on the descriptions of the seen classes."""
        return cls(_direction(seen, root).mean(0), root)

    def __call__(self, descriptions: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes semantic"]:
        """Root, unit length, minus the centre, unit length again."""
        return _unit(_direction(descriptions, self.root) - self.centre)


def _direction(rows: Tensor, root: bool) -> Tensor:
    return _unit(rows.sign() * rows.abs().sqrt() if root else rows)


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def kernel(
    left: Float[Tensor, "left semantic"], right: Float[Tensor, "right semantic"], width: float
) -> Float[Tensor, "left right"]:
    """exp(-|a - b|^2 / (2 width)), or a b^T where `width` is 0.

    Args:
        left: class descriptions, one a row.
        right: class descriptions, one a row.
        width: variance of the Gaussian, at least 0; 0 stands for the linear kernel.
    """
    products = left @ right.T
    if width == 0:
        return products
    squared = left.square().sum(1)[:, None] + right.square().sum(1) - 2 * products
    return torch.exp(squared.clamp(min=0) / (-2 * width))


_LARGE = 8192  # seen classes; from here on one matrix of their size has to do
_ROWS = 2048  # kernel values are as wide as there are seen classes: so many rows of them lie in memory at once


def _regular_kernel(
    descriptions: Float[Tensor, "seen semantic"], width: float, ridge: float
) -> tuple[Float[Tensor, "seen seen"], float]:
    """K + l k I in float64, and l k. At a ridge of 0.003 the condition number reaches 10^5."""
    if descriptions.requires_grad:
        gram = kernel(descriptions, descriptions, width).double()
        noise = ridge * float(gram.detach().diagonal().mean())
        return gram + noise * torch.eye(len(gram)).to(gram), noise
    gram = descriptions.new_empty(len(descriptions), len(descriptions), dtype=torch.float64)
    return gram, _fill_regular(gram, descriptions, width, ridge)


def _fill_regular(
    gram: Float[Tensor, "seen seen"], descriptions: Float[Tensor, "seen semantic"], width: float, ridge: float
) -> float:
    for rows, block in blocks_of(descriptions, _ROWS):
        gram[rows] = kernel(block, descriptions, width)
    noise = ridge * float(gram.diagonal().mean())
    gram.diagonal().add_(noise)
    return noise


def _inverse(regular: Float[Tensor, "seen seen"]) -> Float[Tensor, "seen seen"]:
    """Of a positive definite matrix, by Cholesky; where rounding has made it indefinite, by elimination."""
    factor, failed = torch.linalg.cholesky_ex(regular)
    return torch.linalg.inv(regular) if bool(failed) else torch.cholesky_inverse(factor)


def _inverse_of_many(
    descriptions: Float[Tensor, "seen semantic"], width: float, ridge: float
) -> tuple[Float[Tensor, "seen seen"], float]:
    """G in the precision of the descriptions, and l k, in the memory of one float64 matrix.

    With thousands of classes this matrix is the largest thing of a fit: the inverse takes the place of the kernel,
    then its numbers are narrowed where they lie, and the half that is left over goes back to the system.

    Raises:
        LinAlgError: rounding has made the kernel indefinite.
    """
    count = len(descriptions)
    regular = np.empty((count, count))
    noise = _fill_regular(torch.from_numpy(regular), descriptions, width, ridge)
    # LAPACK takes columns: what it calls the lower triangle is the upper one here.
    factor, failed = lapack.dpotrf(regular.T, lower=1, overwrite_a=1, clean=0)
    if not failed:
        factor, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
    del factor
    if failed:
        raise LinAlgError("the kernel between descriptions is not positive definite: take a larger ridge")
    for first in range(0, count, _ROWS):
        last = first + _ROWS
        square = np.triu(regular[first:last, first:last])
        regular[first:last, first:last] = square + np.triu(square, 1).T
        regular[last:, first:last] = regular[first:last, last:].T
    dtype = torch.empty(0, dtype=descriptions.dtype).numpy().dtype
    if dtype == np.float32:
        narrow = regular.reshape(-1).view(dtype)
        for first in range(0, count, _ROWS):  # a row of half the width never reaches one that is still to be read
            rows = regular[first : first + _ROWS].astype(dtype)
            narrow[first * count : first * count + rows.size] = rows.reshape(-1)
        del narrow
        regular.resize((count * count + 1) // 2, refcheck=False)  # nothing refers to it any more
        regular = regular.view(dtype)[: count * count].reshape(count, count)
    return torch.from_numpy(regular), noise


@dataclass(frozen=True)
class KernelRidge:
    """Regression from class descriptions to class means, solved.

    Attributes:
        seen: prepared descriptions of the seen classes.
        width: variance of the kernel, 0 for the linear one.
        noise: l k, the ridge on the kernel's own scale.
        inverse: G.
        mean: m_0.
        weights: G (M - m_0).
    """

    seen: Float[Tensor, "seen semantic"]
    width: float
    noise: float
    inverse: Float[Tensor, "seen seen"]
    mean: Float[Tensor, " dim"]
    weights: Float[Tensor, "seen dim"]

    @classmethod
    def fit(
        cls,
        descriptions: Float[Tensor, "seen semantic"],
        means: Float[Tensor, "seen dim"],
        *,
        width: float,
        ridge: float,
    ) -> KernelRidge:
        """Solve for the seen classes.

        Args:
            descriptions: prepared descriptions of the seen classes.
            means: their means M.
            width: variance of the Gaussian kernel, 0 for the linear one.
            ridge: l, above 0, as a share of the kernel's mean diagonal.
        """
        many = len(descriptions) > _LARGE and descriptions.device.type == "cpu"
        if many and not descriptions.requires_grad:
            inverse, noise = _inverse_of_many(descriptions, width, ridge)
        else:
            regular, noise = _regular_kernel(descriptions, width, ridge)
            inverse = _inverse(regular).to(descriptions.dtype)
        return cls._solved(descriptions, width, noise, inverse, means)

    @classmethod
    def _solved(
        cls, descriptions: Tensor, width: float, noise: float, inverse: Tensor, means: Tensor
    ) -> KernelRidge:
        mean = means.mean(0)
        return cls(descriptions, width, noise, inverse, mean, inverse @ (means - mean))

    def with_means(self, means: Float[Tensor, "seen dim"]) -> KernelRidge:
        """The same regression to other means of the same classes: G is not computed again."""
        return self._solved(self.seen, self.width, self.noise, self.inverse, means)

    def __call__(self, descriptions: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes dim"]:
        """Prototypes m_c = m_0 + k_c^T G (M - m_0) of prepared descriptions."""
        cross = [
            kernel(block, self.seen, self.width) @ self.weights for _, block in blocks_of(descriptions, _ROWS)
        ]
        return self.mean + (torch.cat(cross) if len(cross) > 1 else cross[0])

    def leave_one_out_errors(self) -> Float[Tensor, "seen dim"]:
        """r_i = [G (M - m_0)]_i / G_ii: each seen mean minus its prediction from all the other classes.

        m_0 stays that of all seen classes; only the regression is done without the class.
        """
        return self.weights / self.inverse.diagonal()[:, None]

    def predictive_variance(self, descriptions: Float[Tensor, "classes semantic"]) -> Float[Tensor, " classes"]:
        """v_c = k(c, c) - k_c^T G k_c + l k, in units of the error covariance; above 0."""
        own = descriptions.square().sum(1)
        if self.width:
            own = torch.ones_like(own)
        explained = []
        for _, block in blocks_of(descriptions, _ROWS):
            cross = kernel(block, self.seen, self.width)
            explained.append(((cross @ self.inverse) * cross).sum(1))
        return (own - torch.cat(explained)).clamp(min=0) + self.noise

    def error_covariance(self) -> Float[Tensor, "dim dim"]:
        """E = mean_i(r_i r_i^T) / mean_i(1 / G_ii): the errors' covariance for one unit of predictive variance."""
        errors = self.leave_one_out_errors()
        return errors.T @ errors / len(errors) / (1 / self.inverse.diagonal()).mean()
