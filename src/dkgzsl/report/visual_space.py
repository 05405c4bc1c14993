"""A small space in which classes can be compared and drawn, fitted on training images alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.model.whitening import class_means

COMPONENTS = 64
SHRINKAGE = 0.5
_ROWS = 1000  # about that many images tell the principal components


@dataclass(frozen=True)
class VisualSpace:
    """Square root where no feature is negative, principal components, whitening within classes, discriminants.

    In its coordinates a class has about the variance 1 along every axis, so that distances count deviations
    within a class. The first two axes are those along which the seen class means differ most: Fisher's linear
    discriminants of the principal components.

    Attributes:
        root: whether the square root is taken.
        origin: mean of the training features.
        basis: from centred features to coordinates.
    """

    root: bool
    origin: Float[Tensor, " visual"]
    basis: Float[Tensor, "visual axes"]

    @classmethod
    def fit(cls, features: Float[Tensor, "images visual"], labels: Int[Tensor, " images"]) -> VisualSpace:
        """Fit the space.

        Args:
            features: unscaled features of training images.
            labels: their classes, at least two.
        """
        root = bool((features >= 0).all())
        x = features.sqrt() if root else features
        origin = x.mean(0)
        x = x - origin
        some = x[:: max(1, len(x) // _ROWS)]
        # The smaller of the two Gram matrices has the same components.
        wide = some.shape[1] > some.shape[0]
        gram = (some @ some.T if wide else some.T @ some).double()
        values, vectors = (t.flip(-1)[..., :COMPONENTS] for t in torch.linalg.eigh(gram))
        kept = values > values[0] * 1e-9
        basis = vectors[:, kept].float()
        if wide:
            basis = torch.nn.functional.normalize(some.T @ basis, dim=0)

        coordinates = (x @ basis).double()
        classes, positions = np.unique(labels.numpy(), return_inverse=True)
        means = class_means(coordinates, torch.from_numpy(positions), len(classes))
        within = coordinates - means[positions]
        covariance = within.T @ within / len(x)
        mean_variance = covariance.diagonal().mean().clamp(min=1e-300)
        covariance = (1 - SHRINKAGE) * covariance
        covariance.diagonal().add_(SHRINKAGE * mean_variance)
        spread, axes = torch.linalg.eigh(covariance)
        whitener = axes / spread.sqrt()
        turned = (means - means.mean(0)) @ whitener
        discriminants = torch.linalg.svd(turned, full_matrices=True).Vh.T
        return cls(root, origin, basis @ (whitener @ discriminants).float())

    def __call__(self, features: Float[Tensor, "*batch visual"]) -> Float[Tensor, "*batch axes"]:
        """Coordinates of unscaled features; synthesized ones below zero count as zero under a root."""
        x = features.clamp(min=0).sqrt() if self.root else features
        return (x - self.origin) @ self.basis
