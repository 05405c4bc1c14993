"""Principal components of a Gaussian kernel between images: whitening beyond what is linear in the features.

Source: kernel principal component analysis (Schölkopf, Smola and Müller, Neural Computation 1998), from landmarks
(Williams and Seeger, NeurIPS 2000); the way back to features by regression (Bakır, Weston and Schölkopf, NeurIPS
2003). What classes are told apart by is often not linear in raw or hand-made features; in those of a deep network
it mostly is, and the components of the features themselves generalise better to classes without images.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from dkgzsl.model.kernel_ridge import kernel
from dkgzsl.model.whitening import PrincipalSpace, principal_axes

_LANDMARKS = 2048
_COMPARED = 512  # this many of them tell how far apart images are
_ROWS = 4096  # kernel values are as wide as there are landmarks: this bounds how many lie in memory
_NEGLIGIBLE = 1e-5  # eigenvalues below this share of the largest are rounding in float32


class KernelPrincipalSpace(PrincipalSpace):
    """Principal components of exp(-|x' - l|^2 / (2 w)) over landmarks l among the training images.

    x' is x or its square root, as in `PrincipalSpace`, of which this has the methods.

    Attributes:
        landmarks: up to 2,048 training images, after the root, drawn by a fixed seed.
        width: variance w of the kernel.
        back: from components to the features after the root, by least squares on the training images.
        centre: mean of the features after the root.
    """

    def __init__(
        self,
        mean: Float[Tensor, " landmarks"],
        basis: Float[Tensor, "landmarks components"],
        square_root: bool,
        *,
        landmarks: Float[Tensor, "landmarks visual"],
        width: float,
        back: Float[Tensor, "components visual"],
        centre: Float[Tensor, " visual"],
    ) -> None:
        super().__init__(mean, basis, square_root)
        self.landmarks, self.width, self.back, self.centre = landmarks, width, back, centre

    @classmethod
    def of_training(
        cls, features: Float[Tensor, "images visual"], components: int, *, square_root: bool, width: float
    ) -> KernelPrincipalSpace:
        """Components of the largest variance, at most as many as there are independent landmarks.

        Args:
            features: unscaled training features.
            components: at most this many.
            square_root: take it first.
            width: variance of the kernel in units of the median squared distance between images, above 0.
        """
        values = features.sqrt() if square_root else features
        drawn = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
        landmarks = values[drawn[:_LANDMARKS].sort().values.to(values.device)]
        absolute = width * _median_squared_distance(landmarks)
        gram = kernel(landmarks, landmarks, absolute)
        # K^-1/2 makes kernel values into coordinates whose products are the kernel's (Nyström).
        eigenvalues, vectors = torch.linalg.eigh(gram)
        kept = eigenvalues > _NEGLIGIBLE * eigenvalues[-1]
        root = vectors[:, kept] / eigenvalues[kept].sqrt()
        # Kernel values are nearly alike: what they share is taken off before they are multiplied by large numbers.
        mean, shared = torch.zeros_like(gram[0]), gram.mean(0)
        points = values.new_empty(len(values), root.shape[1])
        for rows, block in zip(torch.split(values, _ROWS), torch.split(points, _ROWS), strict=True):
            lift = kernel(rows, landmarks, absolute) - shared
            mean += lift.sum(0) / len(values)
            torch.matmul(lift, root, out=block)
        points -= points.mean(0)
        axes = principal_axes(points, torch.zeros_like(points[0]), components)
        coordinates = points @ axes
        # Components are uncorrelated on the training images, so that least squares is one division an axis.
        centre = values.mean(0)
        variances = coordinates.square().sum(0)
        least = max(float(variances.max()) * _NEGLIGIBLE, torch.finfo(values.dtype).tiny)
        back = coordinates.T @ (values - centre) / variances.clamp(min=least)[:, None]
        return cls(
            shared + mean,
            root @ axes,
            square_root,
            landmarks=landmarks,
            width=absolute,
            back=back,
            centre=centre,
        )

    def _project(self, features: Tensor) -> Tensor:
        blocks = torch.split(features.to(self.mean), _ROWS)
        return torch.cat([(self._lift(rows) - self.mean) @ self.basis for rows in blocks])

    def _lift(self, features: Tensor) -> Tensor:
        return kernel(self._rooted(features), self.landmarks, self.width)

    def restore(self, coordinates: Float[Tensor, "images components"]) -> Float[Tensor, "images visual"]:
        """Unscaled features that these coordinates speak for: their mean given the coordinates, were it linear."""
        return self._unrooted(coordinates @ self.back + self.centre)


def _median_squared_distance(landmarks: Float[Tensor, "landmarks visual"]) -> float:
    rows = landmarks[:: max(1, len(landmarks) // _COMPARED)]
    products = rows @ rows.T
    own = products.diagonal()
    squared = (own[:, None] + own - 2 * products).clamp(min=0)
    median = float(squared[~torch.eye(len(rows), dtype=torch.bool, device=rows.device)].median())
    return max(median, float(own.mean()) * 1e-6, torch.finfo(rows.dtype).tiny)
