"""The closed form as modules of fixed tensor operations, as ONNX takes them.

Caches and branches are left out, and what can be folded into one matrix is, in float64. What adds the same to
every class of an image is left out, too: the softmax over classes cancels it.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.methods.closed_form.kernel_components import KernelPrincipalSpace
from dkgzsl.methods.closed_form.kernel_ridge import kernel
from dkgzsl.methods.closed_form.whitening import MeansSpace, WhitenedSpace


@runtime_checkable
class Densities(Protocol):
    """Class densities with one spread for all classes: the part of `ClosedFormModel` that is used here."""

    space: MeansSpace
    seen: Int[Tensor, " seen"]
    unseen: Int[Tensor, " unseen"]
    balance: float

    @property
    def means(self) -> Float[Tensor, "known dim"]:
        """Of the seen classes, then of the unseen ones."""
        ...

    @property
    def variance(self) -> float:
        """Of an axis."""
        ...


class WhitenedFeatures(nn.Module):
    """Principal components and whitening as one matrix, after the square root (and the kernel, where there is
    one), before unit length.
    """

    basis: Tensor
    start: Tensor
    landmarks: Tensor | None
    mean: Tensor
    centre: Tensor

    def __init__(self, space: WhitenedSpace) -> None:
        super().__init__()
        principal = space.principal
        basis = principal.basis[:, : len(space.whitener)].double() @ space.whitener.double()
        self.square_root, self.unit_length = principal.square_root, space.unit_length
        self.register_buffer("basis", basis.float())
        self.register_buffer("landmarks", None)
        if isinstance(principal, KernelPrincipalSpace):
            self.width = principal.width
            self.register_buffer("landmarks", principal.landmarks)
            self.register_buffer("mean", principal.mean)
            self.register_buffer("centre", principal.centre)
        else:
            self.register_buffer("start", (principal.mean.double() @ basis).float())

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch components"]:
        """Coordinates of unscaled features."""
        values = features.clamp(min=0).sqrt() if self.square_root else features
        if self.landmarks is None:
            whitened = values @ self.basis - self.start
        else:  # in the order of KernelPrincipalSpace: kernel values are nearly alike
            whitened = (kernel(values - self.centre, self.landmarks, self.width) - self.mean) @ self.basis
        return functional.normalize(whitened, dim=1) if self.unit_length else whitened


class DensityScores(nn.Module):
    """Features to log densities, columns in ascending order of the class numbers."""

    turn: Tensor
    start: Tensor
    linear: Tensor
    constant: Tensor

    def __init__(self, model: Densities) -> None:
        super().__init__()
        self.whitened = WhitenedFeatures(model.space.whitened)
        turn = model.space.axes.double()
        classes = torch.cat([model.seen, model.unseen])
        order = classes.argsort()
        means = model.means[order].double()
        constant = means.square().sum(dim=1) / model.variance
        constant -= 2 * model.balance * torch.isin(classes[order], model.unseen).double()
        self.register_buffer("turn", turn.float())
        self.register_buffer("start", (model.space.origin.double() @ turn).float())
        self.register_buffer("linear", (means / model.variance).T.contiguous().float())
        self.register_buffer("constant", (constant / 2).float())

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        """Log densities, up to a constant an image."""
        points: Tensor = self.whitened(features) @ self.turn - self.start
        return points @ self.linear - self.constant
