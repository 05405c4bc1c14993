"""Principal components of a Gaussian kernel between images: whitening beyond what is linear in the features.

Source: kernel principal component analysis (Schölkopf, Smola and Müller, Neural Computation 1998), from landmarks
(Williams and Seeger, NeurIPS 2000); the way back to features by regression (Bakır, Weston and Schölkopf, NeurIPS
2003). What distinguishes classes is often not linear in raw or hand-made features; in those of a deep network
it mostly is, and the components of the features themselves generalise better to classes without images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dkgzsl.methods.closed_form.kernel_ridge import kernel
from dkgzsl.methods.closed_form.whitening import PrincipalSpace, principal_axes

_LANDMARKS = 1024
_COMPARED = 512  # this many of them tell how far apart images are
_IMAGES = 16384
_ROWS = 4096  # kernel values are as wide as there are landmarks: this bounds how many lie in memory
_NEGLIGIBLE = 1e-5  # eigenvalues below this share of the largest are rounding in float32


class KernelPrincipalSpace(PrincipalSpace):
    """Principal components of exp(-|x' - l|^2 / (2 w)) over landmarks l among the training images.

    x' is x or its square root, as in `PrincipalSpace`, of which this has the methods.

    Attributes:
        landmarks: up to 1,024 training images, after the root and less the centre, drawn by a fixed seed.
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

        Of more than 16,384 images, so many are used, drawn by a fixed seed.

        Args:
            features: unscaled training features.
            components: at most this many.
            square_root: take it first.
            width: variance of the kernel in units of the median squared distance between images, above 0.

        Raises:
            LinAlgError: the images are all alike, or too far apart for numbers.
        """
        drawn = torch.randperm(len(features), generator=torch.Generator().manual_seed(0)).to(features.device)
        if len(features) > _IMAGES:  # so many tell the axes: time and memory end there
            features = features[drawn[:_IMAGES]]
            drawn = torch.arange(_IMAGES, device=features.device)
        values = features.sqrt() if square_root else features
        centre = values.mean(0)
        values = values - centre
        landmarks = values[drawn[:_LANDMARKS].sort().values]
        absolute = width * _median_squared_distance(landmarks)
        gram = kernel(landmarks, landmarks, absolute)
        shared = gram.mean(0)
        # K^-1/2 makes kernel values into coordinates whose products are the kernel's (Nyström). K is centred:
        # what all values share would hide the rest where the kernel is wide. So are the vectors, against rounding.
        eigenvalues, vectors = torch.linalg.eigh(gram - shared - shared[:, None] + shared.mean())
        kept = eigenvalues > _NEGLIGIBLE * eigenvalues[-1]
        if not kept.any():
            raise LinAlgError("the kernel between images is not finite, or all images are alike")
        root = vectors[:, kept] / eigenvalues[kept].sqrt()
        root -= root.mean(0)
        mean = torch.zeros_like(shared)
        points = values.new_empty(len(values), root.shape[1])
        for rows, block in zip(torch.split(values, _ROWS), torch.split(points, _ROWS), strict=True):
            lift = kernel(rows, landmarks, absolute) - shared
            mean += lift.sum(0) / len(values)
            torch.matmul(lift, root, out=block)
        points -= points.mean(0)
        axes = principal_axes(points, components)
        coordinates = points @ axes
        # Components are uncorrelated on the training images, so that least squares is one division an axis.
        variances = coordinates.square().sum(0)
        back = coordinates.T @ values / variances.clamp(min=float(variances.max()) * _NEGLIGIBLE)[:, None]
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
        return kernel(self._rooted(features) - self.centre, self.landmarks, self.width)

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


def load_principal_space(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> PrincipalSpace:
    """The space that a model file's tensors and values were made from."""
    mean, basis, square_root = tensors["principal.mean"], tensors["principal.basis"], values["square_root"]
    width = values.get("feature_kernel", 0.0)  # files from before there was a kernel between images have none
    if not width:
        return PrincipalSpace(mean, basis, square_root)
    return KernelPrincipalSpace(
        mean,
        basis,
        square_root,
        landmarks=tensors["principal.landmarks"],
        width=width,
        back=tensors["principal.back"],
        centre=tensors["principal.centre"],
    )
