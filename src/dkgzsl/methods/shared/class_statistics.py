"""Means and variances of classes, by sums over the images of each: without an [images, classes] matrix."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


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
