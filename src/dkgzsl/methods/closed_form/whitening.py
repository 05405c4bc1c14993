"""Whitened feature space, in which the classes differ by their means alone (step 1 of the closed form).

Source: the shared-covariance Gaussian of linear discriminant analysis, as GFZSL (Verma and Rai, ECML 2017,
arXiv 1707.08040) uses per class. Deviations: one full covariance for all classes instead of diagonal ones, shrunk
towards its mean variance; whitened features are scaled to unit length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.cache import InputCache
from dkgzsl.errors import DataError
from dkgzsl.memory import blocks_of
from dkgzsl.methods.shared.class_statistics import ClassStatistics, add_products


class PrincipalSpace:
    """Principal components of the training features, after an optional square root.

    x -> (x' - mean) basis, with x' = sqrt(x) where `square_root` is set (for non-negative features: it evens out
    the heavy right tail of rectified activations).
    """

    def __init__(
        self, mean: Float[Tensor, " visual"], basis: Float[Tensor, "visual components"], square_root: bool
    ) -> None:
        self.mean, self.basis, self.square_root = mean, basis, square_root
        self._last = InputCache()

    @classmethod
    def fit(
        cls, features: Float[Tensor, "images visual"], components: int, *, square_root: bool
    ) -> PrincipalSpace:
        """Components of the largest variance, at most as many as features have dimensions or images allow."""
        if len(features) < features.shape[1]:
            values = features.sqrt() if square_root else features
            mean = values.mean(0)
            return cls(mean, _axes_of_few(values - mean, components), square_root)
        first = features[:_ROUGH].sqrt() if square_root else features[:_ROUGH]
        known = ClassStatistics.empty(1, first.mean(0))
        for _, block in blocks_of(features):
            together = torch.zeros(len(block), dtype=torch.int64, device=block.device)
            known.add(block.sqrt() if square_root else block, together)
        axes = _leading_eigenvectors(known.total.to(features.dtype), min(components, *features.shape))
        return cls(known.mean, axes, square_root)

    @property
    def components(self) -> int:
        """How many there are."""
        return self.basis.shape[1]

    def __call__(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images components"]:
        """Coordinates of unscaled features."""
        return self._last(features, self._project)

    def _project(self, features: Tensor) -> Tensor:
        return torch.addmm(-(self.mean @ self.basis), self._rooted(features.to(self.mean)), self.basis)

    def _rooted(self, features: Tensor) -> Tensor:
        return features.clamp(min=0).sqrt() if self.square_root else features

    def _unrooted(self, values: Tensor) -> Tensor:
        return values.clamp(min=0).square() if self.square_root else values

    def restore(self, coordinates: Float[Tensor, "images components"]) -> Float[Tensor, "images visual"]:
        """The unscaled features that have these coordinates and lie in the space of the components."""
        return self._unrooted(coordinates @ self.basis.T + self.mean)


def principal_axes(values: Float[Tensor, "images dim"], components: int) -> Float[Tensor, "dim components"]:
    """Orthonormal directions of the largest second moment, at most as many as dimensions or rows allow."""
    if len(values) < values.shape[1]:
        return _axes_of_few(values, components)
    scatter = values.new_zeros(values.shape[1], values.shape[1])
    for _, block in blocks_of(values):
        add_products(scatter, block.T)
    return _leading_eigenvectors(scatter, min(components, *values.shape))


def _axes_of_few(centred: Float[Tensor, "images dim"], components: int) -> Float[Tensor, "dim components"]:
    """The same of fewer rows than dimensions, by the products between rows; axes without variance are left out."""
    few = len(centred) <= _EXACT
    # Products square the lengths of the axes: the shortest would drown in the rounding of float32.
    rows = centred.double() if few else centred
    products = rows.new_zeros(len(rows), len(rows))
    add_products(products, rows)
    vectors = _leading_eigenvectors(products, min(components, len(rows)))
    axes = rows.T @ vectors
    lengths = axes.norm(dim=0)
    kept = lengths > float(lengths.max()) * (_NEGLIGIBLE if few else _ROUNDED)
    return _signed((axes[:, kept] / lengths[kept]).to(centred.dtype))


def _leading_eigenvectors(matrix: Float[Tensor, "dim dim"], number: int) -> Float[Tensor, "dim components"]:
    """Eigenvectors of the largest eigenvalues, largest first, each with its largest entry positive.

    Where few of many are wanted, block subspace iteration with a Rayleigh-Ritz step costs a fraction of the full
    decomposition; what it leaves undecided is the order of nearly equal eigenvalues at the cut.
    """
    size = len(matrix)
    block = min(size, number + number // 8 + 16)
    if 2 * block > size or size <= _SMALL:
        vectors = torch.linalg.eigh(matrix).eigenvectors[:, -number:].flip(1)
    else:
        start = torch.Generator().manual_seed(0)
        basis = torch.randn(size, block, generator=start, dtype=matrix.dtype).to(matrix.device)
        for _ in range(_SUBSPACE_ITERATIONS):
            basis = torch.linalg.qr(matrix @ basis).Q
        ritz = torch.linalg.eigh(basis.T @ matrix @ basis).eigenvectors[:, -number:].flip(1)
        vectors = basis @ ritz
    return _signed(vectors)


def _signed(vectors: Float[Tensor, "dim number"]) -> Float[Tensor, "dim number"]:
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -vectors, vectors)


_EXACT = 2048  # up to so many rows, products are taken in float64
_NEGLIGIBLE, _ROUNDED = (
    1e-6,
    1e-3,
)  # axes shorter than this share of the longest are rounding, in float64 and float32
_SMALL = 1024  # a full decomposition up to here: it is exact, and quick
_SUBSPACE_ITERATIONS = 2
_ROUGH = 1024  # rows whose mean is near enough to that of all


@dataclass(frozen=True)
class WithinClassSpectrum:
    """Eigenvalues and eigenvectors of the pooled within-class covariance of principal coordinates."""

    values: Float[Tensor, " components"]
    vectors: Float[Tensor, "components components"]

    @classmethod
    def of(cls, statistics: ClassStatistics, components: int) -> WithinClassSpectrum:
        """Pooled over classes: every image's deviation from its class mean counts once.

        Args:
            statistics: of the training images' principal coordinates.
            components: how many of them are used, the first.
        """
        covariance = statistics.within[:components, :components] / statistics.images
        values, vectors = torch.linalg.eigh(covariance.to(statistics.origin.dtype))
        return cls(values.clamp(min=0), vectors)

    def scales(self, shrinkage: float) -> Float[Tensor, " components"]:
        """((1 - s) lambda + s mean(lambda))^-1/2: along the eigenvectors, they whiten the shrunk covariance.

        Args:
            shrinkage: share s of the covariance replaced by its mean variance, 0 to 1.
        """
        shrunk = (1 - shrinkage) * self.values + shrinkage * self.values.mean()
        return shrunk.clamp(min=torch.finfo(shrunk.dtype).tiny).rsqrt()


class TurnedSpace:
    """Principal coordinates turned to other axes, such as those of a `WithinClassSpectrum`.

    Whitened spaces of one spectrum differ by their scales alone, so that they share what is computed here.
    """

    def __init__(self, principal: PrincipalSpace, axes: Float[Tensor, "components components"]) -> None:
        self.principal, self.axes = principal, axes
        self._last = InputCache()

    def __call__(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images components"]:
        """Coordinates of unscaled features along the axes."""
        return self._last(features, lambda x: self.principal(x)[:, : len(self.axes)] @ self.axes)


class WhitenedSpace:
    """Unscaled features -> whitened coordinates, of unit length where `unit_length` is set.

    Args:
        turned: coordinates along the eigenvectors of the covariance within classes.
        scales: of each axis.
        unit_length: scale whitened features to unit length.
    """

    def __init__(self, turned: TurnedSpace, scales: Float[Tensor, " components"], unit_length: bool) -> None:
        self.turned, self.scales, self.unit_length = turned, scales, unit_length

    @classmethod
    def of(
        cls, principal: PrincipalSpace, whitener: Float[Tensor, "components components"], unit_length: bool
    ) -> WhitenedSpace:
        """The space of principal coordinates times `whitener`."""
        return cls(TurnedSpace(principal, whitener), whitener.new_ones(whitener.shape[1]), unit_length)

    def tensors(self, prefix: str, shared: TurnedSpace | None = None) -> dict[str, Tensor]:
        """Axes and scales by name, of which `load` makes the space again to the last digit.

        Args:
            prefix: of the names.
            shared: coordinates that are saved elsewhere; where they are this space's own, the axes are left out.
        """
        axes = {} if self.turned is shared else {f"{prefix}axes": self.turned.axes}
        return {**axes, f"{prefix}scales": self.scales}

    @classmethod
    def load(
        cls, tensors: Mapping[str, Tensor], prefix: str, shared: PrincipalSpace | TurnedSpace, unit_length: bool
    ) -> WhitenedSpace:
        """The space that `tensors` was made from, or the space of a file from before there were scales.

        Args:
            tensors: of the model, by name.
            prefix: of the names.
            shared: principal coordinates, or turned ones, which serve where the axes were left out.
            unit_length: scale whitened features to unit length.
        """
        turned = shared if isinstance(shared, TurnedSpace) else None
        principal = shared.principal if isinstance(shared, TurnedSpace) else shared
        if prefix + "scales" not in tensors:
            return cls.of(principal, tensors[prefix.rstrip(".")], unit_length)
        if turned is None or prefix + "axes" in tensors:
            turned = TurnedSpace(principal, tensors[prefix + "axes"])
        return cls(turned, tensors[prefix + "scales"], unit_length)

    @property
    def principal(self) -> PrincipalSpace:
        """The principal coordinates that are whitened."""
        return self.turned.principal

    @property
    def whitener(self) -> Float[Tensor, "components components"]:
        """What principal coordinates are multiplied with."""
        return self.turned.axes * self.scales

    def __call__(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images components"]:
        """Whitened coordinates of unscaled features."""
        whitened = self.turned(features) * self.scales
        return torch.nn.functional.normalize(whitened, dim=1) if self.unit_length else whitened

    def restore(
        self, whitened: Float[Tensor, "images components"], length: float
    ) -> Float[Tensor, "images visual"]:
        """Unscaled features of given whitened coordinates.

        Args:
            whitened: coordinates as this space gives them.
            length: length before scaling, where the space scales to unit length; ignored elsewhere.
        """
        if self.unit_length:
            whitened = torch.nn.functional.normalize(whitened, dim=1) * length
        coordinates = whitened.new_zeros(len(whitened), self.principal.components)
        coordinates[:, : len(self.scales)] = torch.linalg.solve(self.whitener.T, whitened.T).T
        return self.principal.restore(coordinates)


class MeansSpace:
    """Whitened coordinates within the span of the seen class means, from their mean.

    Prototypes are affine combinations of seen means, so what distinguishes classes lies in this span of at most
    K_seen - 1 axes: what is orthogonal to it adds the same to every class's density. An exact saving, from
    thousands of axes to a hundred.

    Attributes:
        whitened: the space that the span lies in.
        origin: m_0, the mean of the seen class means.
        axes: orthonormal basis of the span.
    """

    def __init__(
        self, whitened: WhitenedSpace, origin: Float[Tensor, " components"], axes: Float[Tensor, "components dim"]
    ) -> None:
        self.whitened, self.origin, self.axes = whitened, origin, axes
        self._last = InputCache()

    @classmethod
    def fit(cls, whitened: WhitenedSpace, means: Float[Tensor, "seen components"]) -> MeansSpace:
        """The span of the given class means."""
        origin = means.mean(0)
        directions = torch.linalg.svd(means - origin, full_matrices=False)
        smallest = directions.S[0] * torch.finfo(means.dtype).eps * max(means.shape)
        kept = directions.S.gt(smallest)
        return cls(whitened, origin, directions.Vh[kept].T.contiguous())

    def __call__(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images dim"]:
        """Coordinates of unscaled features."""
        return self._last(features, lambda x: (self.whitened(x) - self.origin) @ self.axes)


@dataclass(frozen=True)
class SeenStatistics:
    """What the training images say of the seen classes, in a `MeansSpace`.

    Attributes:
        means: seen class means.
        counts: training images of each seen class.
        variance: s2, the pooled within-class variance an axis of the whitened space.
        length: mean length of whitened features before any scaling to unit length.
        within: W, the pooled covariance within classes in this space.
    """

    means: Float[Tensor, "seen dim"]
    counts: Int[Tensor, " seen"]
    variance: float
    length: float
    within: Float[Tensor, "dim dim"]


def seen_statistics(
    space: WhitenedSpace, features: Float[Tensor, "images visual"], positions: Int[Tensor, " images"], seen: int
) -> tuple[MeansSpace, SeenStatistics]:
    """Fit the span of the means, and the statistics in it, to training images.

    Args:
        space: the whitened space.
        features: unscaled training features.
        positions: their classes, counted from 0 among the seen ones.
        seen: number of seen classes.

    Raises:
        DataError: every class has a single image.
    """
    unscaled, dim = _without_scaling(space), len(space.scales)
    sums = features.new_zeros(seen, dim, dtype=torch.float64)
    squares, length, images = 0.0, 0.0, len(features)
    for rows, block in blocks_of(features):
        whitened, lengths = _with_length(unscaled(block), space.unit_length)
        sums.index_add_(0, positions[rows], whitened.double())
        squares += float(whitened.double().square().sum())
        length += float(lengths.double().sum())
    counts = torch.bincount(positions, minlength=seen)
    exact = sums / counts[:, None]
    means = exact.to(features.dtype)
    span = MeansSpace.fit(space, means)
    known = ClassStatistics.empty(seen, span.origin @ span.axes)
    for rows, block in blocks_of(features):
        whitened, _ = _with_length(unscaled(block), space.unit_length)
        known.add(whitened @ span.axes, positions[rows])
    # The between part is that of all axes, in the span or not: its trace is the sum over the means.
    between = float((sums * exact).sum())
    if int(counts.max()) == 1:
        raise DataError(
            "every class has a single training image: how images of a class differ is not known",
            fix="give two different images of one class; with few images, more of them",
        )
    return span, SeenStatistics(
        means=(means - span.origin) @ span.axes,
        counts=counts,
        variance=max(squares - between, 0.0) / (images * dim),
        within=_regular(known.within.to(features.dtype) / max(1, images - seen)),
        length=length / images,
    )


def _with_length(
    unscaled: Float[Tensor, "images components"], unit_length: bool
) -> tuple[Float[Tensor, "images components"], Float[Tensor, " images"]]:
    """Whitened coordinates, scaled to unit length where that is wanted, and their length before."""
    lengths = unscaled.norm(dim=1)
    return torch.nn.functional.normalize(unscaled, dim=1) if unit_length else unscaled, lengths


def _regular(covariance: Float[Tensor, "dim dim"]) -> Float[Tensor, "dim dim"]:
    """A little regular where images are few."""
    covariance.diagonal().add_(1e-6 * covariance.diagonal().mean() + torch.finfo(covariance.dtype).tiny)
    return covariance


def _without_scaling(space: WhitenedSpace) -> WhitenedSpace:
    return WhitenedSpace(space.turned, space.scales, unit_length=False)
