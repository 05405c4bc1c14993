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

from dkgzsl.methods.closed_form.experts import Experts, led_by
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
    experts: Experts | None

    @property
    def means(self) -> Float[Tensor, "known dim"]:
        """Of the seen classes, then of the unseen ones."""
        ...

    @property
    def variance(self) -> float:
        """Of an axis."""
        ...

    def offsets(self) -> Float[Tensor, " unseen"]:
        """Added to the scores of the unseen classes."""
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


class LinearDensities(nn.Module):
    """Coordinates to log densities, up to a constant an image: one matrix product."""

    linear: Tensor
    constant: Tensor

    def __init__(
        self,
        means: Float[Tensor, "classes dim"],
        variances: Float[Tensor, " dim"],
        added: Float[Tensor, " classes"],
    ) -> None:
        super().__init__()
        linear = means.double() / variances.double()
        self.register_buffer("linear", linear.T.contiguous().float())
        self.register_buffer("constant", (added.double() - (linear * means).sum(1) / 2).float())

    def forward(self, points: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        """Log densities."""
        return points @ self.linear + self.constant


class Coordinates(nn.Module):
    """Features to coordinates in the span of the class means."""

    turn: Tensor
    start: Tensor

    def __init__(self, space: MeansSpace) -> None:
        super().__init__()
        self.whitened = WhitenedFeatures(space.whitened)
        self.register_buffer("turn", space.axes.float())
        self.register_buffer("start", (space.origin.double() @ space.axes.double()).float())

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch dim"]:
        """Coordinates of unscaled features."""
        points: Tensor = self.whitened(features) @ self.turn - self.start
        return points


class DensityScores(nn.Module):
    """Features to log densities, columns in ascending order of the class numbers."""

    order: Tensor

    def __init__(self, model: Densities) -> None:
        super().__init__()
        self.register_buffer("order", torch.cat([model.seen, model.unseen]).argsort())
        self.points = Coordinates(model.space)
        number, experts = len(model.seen), model.experts
        axes = model.means.new_full((model.means.shape[1],), model.variance)
        nothing, balanced = axes.new_zeros(number), model.offsets() + model.balance
        self.means = LinearDensities(model.means, axes, torch.cat([nothing, balanced]))
        self.gate = self.seen_points = self.seen = self.described = None
        if experts is None:
            return
        described = model.means[number:]
        self.gate = LinearDensities(torch.cat([experts.gate, described]), axes, torch.cat([nothing, balanced]))
        self.number = number
        if experts.seen is not None:
            own = experts.seen
            self.seen_points = Coordinates(own.space)
            self.seen = LinearDensities(own.means, torch.full_like(own.means[0], own.variance), nothing)
        if experts.omega is not None and len(described):
            self.described = LinearDensities(described, axes * experts.omega, balanced)

    def forward(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        """Log densities, up to a constant an image."""
        points = self.points(features)
        scores: Tensor = self.means(points)
        if self.gate is not None:
            gate, seen, described = self.gate(points), scores[:, : self.number], scores[:, self.number :]
            if self.seen is not None and self.seen_points is not None:
                seen = self.seen(self.seen_points(features))
            if self.described is not None:
                described = self.described(points)
            both = led_by(gate[:, : self.number], seen), led_by(gate[:, self.number :], described)
            scores = torch.cat(both, 1)
        return scores[:, self.order]
