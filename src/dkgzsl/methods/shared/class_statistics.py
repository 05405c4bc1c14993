"""Statistics of classes, by sums over the images of each: without an [images, classes] matrix.

`ClassStatistics` is all that a Gaussian per class with a shared covariance needs of any number of images: it is
added to block by block, and those of several shares of the images merge into those of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.memory import blocks_of

_STRIP: Final = 256  # rows whose products are taken at once
_ROWS: Final = 512  # rows that are float64 at once: fresh memory for a whole block takes longer than its sum


def add_products(products: Float[Tensor, "rows rows"], rows: Float[Tensor, "rows columns"]) -> None:
    """Add the products of all pairs of rows, in place: each pair once, since the matrix is symmetric."""
    for first in range(0, len(rows), _STRIP):
        last = first + _STRIP
        strip = rows[first:last] @ rows[first:].T
        products[first:last, first:] += strip
        products[last:, first:last] += strip[:, len(strip) :].T


@dataclass(eq=False)
class ClassStatistics:
    """Counts, sums and second moments, in float64; products within a block are in the precision of its rows.

    Attributes:
        origin: subtracted from every row first, so that moments far from zero lose no digits; any rough mean.
        counts: images of each class.
        sums: of each class, less the origin.
        scatter: sum of x x' over all images, less the origin.
    """

    origin: Float[Tensor, " visual"]
    counts: Int[Tensor, " classes"]
    sums: Float[Tensor, "classes visual"]
    scatter: Float[Tensor, "visual visual"]

    @classmethod
    def empty(cls, classes: int, origin: Float[Tensor, " visual"]) -> ClassStatistics:
        """Of no image."""
        counts, size = torch.zeros(classes, dtype=torch.int64, device=origin.device), len(origin)
        sums, scatter = (origin.new_zeros(rows, size, dtype=torch.float64) for rows in (classes, size))
        return cls(origin, counts, sums, scatter)

    def add(self, rows: Float[Tensor, "block visual"], positions: Int[Tensor, " block"]) -> None:
        """Add images.

        Args:
            rows: of the images.
            positions: their classes, from 0 on.
        """
        shifted = rows - self.origin
        self.counts += torch.bincount(positions, minlength=len(self.counts))
        for place, part in blocks_of(shifted, _ROWS):
            self.sums.index_add_(0, positions[place], part.double())
        add_products(self.scatter, shifted.T)

    def merge(self, other: ClassStatistics) -> ClassStatistics:
        """Of the images of both.

        Args:
            other: of other images, the same classes and the same origin.

        Raises:
            ValueError: the origins differ.
        """
        if not torch.equal(self.origin, other.origin):
            raise ValueError("statistics with different origins cannot be merged")
        parts = ((one.counts, one.sums, one.scatter) for one in (self, other))
        return ClassStatistics(self.origin, *(left + right for left, right in zip(*parts, strict=True)))

    @property
    def images(self) -> int:
        """How many images were added."""
        return int(self.counts.sum())

    @property
    def mean(self) -> Float[Tensor, " visual"]:
        """Of all images."""
        return self.origin + (self.sums.sum(0) / self.images).to(self.origin)

    @property
    def means(self) -> Float[Tensor, "classes visual"]:
        """Of each class; NaN for a class without images."""
        return self.origin + (self.sums / self.counts[:, None]).to(self.origin)

    @property
    def total(self) -> Float[Tensor, "visual visual"]:
        """Sum of squared deviations from the mean of all images, in float64."""
        mean = self.sums.sum(0)
        return self.scatter - torch.outer(mean, mean) / self.images

    @property
    def within(self) -> Float[Tensor, "visual visual"]:
        """Sum of squared deviations of images from the means of their classes, in float64."""
        known = self.counts > 0
        sums = self.sums[known]
        return self.scatter - sums.T @ (sums / self.counts[known, None])


def class_means(
    features: Float[Tensor, "images visual"], positions: Int[Tensor, " images"], classes: int
) -> Float[Tensor, "classes visual"]:
    """Mean of each class's images.

    Args:
        features: of the images.
        positions: class of each image, 0 to `classes` - 1.
        classes: number of classes, each of which has images.
    """
    sums = features.new_zeros(classes, features.shape[1]).index_add_(0, positions, features)
    return sums / torch.bincount(positions, minlength=classes)[:, None]


def class_variances(
    features: Float[Tensor, "images visual"],
    positions: Int[Tensor, " images"],
    means: Float[Tensor, "classes visual"],
) -> Float[Tensor, "classes visual"]:
    """Variance of each class's images in each dimension, by maximum likelihood: the sum divided by their number.

    Args:
        features: of the images.
        positions: class of each image, as a row of `means`.
        means: of the classes.
    """
    return class_means((features - means[positions]) ** 2, positions, len(means))
