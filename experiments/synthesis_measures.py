"""Measures of synthesized features: whether classes are compact, separated, and like the real ones.

Features are unscaled, and compared with those of held-out images, separately for seen and unseen classes. Every
class has the same weight, however many images it has. With mean m_c of class c and m the mean of the m_c,

- W = mean over classes of E |x - m_c|^2, the spread within classes,
- B = mean over classes of |m_c - m|^2, the spread between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.errors import DataError
from dkgzsl.evaluation.held_out import HeldOut
from dkgzsl.evaluation.metrics import per_class_accuracy
from dkgzsl.methods.base import Generator, Task


class Cloud(NamedTuple):
    """Features with their classes."""

    features: Float[Tensor, "points visual"]
    labels: Int[Tensor, " points"]


@dataclass(frozen=True)
class GroupMeasures:
    """Measures of the synthesized features of some classes, compared with the real ones. None has a unit.

    Attributes:
        compactness: W of the synthesized features over W of the real ones; above 0. 1: the same spread; below 1:
            more compact.
        separation: B / W of the synthesized features; 0 and above, higher is further apart.
        separation_real: B / W of the real ones.
        silhouette: mean silhouette (Rousseeuw 1987) of a sample of the synthesized features; -1 to 1, higher is
            further apart.
        silhouette_real: that of the real ones.
        mean_distance: (mean over classes of |m_c - real m_c|^2)^(1/2) over (real B)^(1/2). 0: the class means are
            those of the real images; 1: no nearer than a single mean for all classes.
        frechet: Fréchet distance |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of the Gaussians with the mean and
            covariance of the synthesized and of the real features on the first principal components of the
            training features, over the training features' variance on these components; 0 and above, lower
            is nearer.
        nearest: per-class accuracy of real images that take the class of the nearest synthesized feature; 0 to 1,
            chance is 1 over the number of classes.
    """

    compactness: float
    separation: float
    separation_real: float
    silhouette: float
    silhouette_real: float
    mean_distance: float
    frechet: float
    nearest: float


@dataclass(frozen=True)
class SynthesisMeasures:
    """The measures of seen and of unseen classes."""

    seen: GroupMeasures
    unseen: GroupMeasures


def measure_synthesis(
    model: Generator,
    task: Task,
    held_out: HeldOut,
    *,
    per_class: int = 100,
    components: int = 64,
    sample: int = 2000,
    seed: int = 0,
) -> SynthesisMeasures:
    """Synthesize features of all classes with held-out images, and measure them against these images.

    Args:
        model: fitted on the task.
        task: the principal components are those of its training features.
        held_out: held-out real images of seen and unseen classes.
        per_class: features to synthesize of each class, at least 2.
        components: principal components for the Fréchet distance, at most.
        sample: features, at most, for each silhouette, which takes all their distances.
        seed: of the noise and of the samples.

    Raises:
        DataError: fewer than two seen, or unseen, classes have two held-out images each.
    """
    labels = torch.from_numpy(held_out.labels)
    features = held_out.features.float()
    axes = PrincipalAxes.fit(task.features.float(), components)
    groups = {}
    for name, classes in (("seen", task.seen.cpu()), ("unseen", task.unseen.cpu())):
        counts = (labels[:, None] == classes).sum(0)
        measured = classes[counts >= 2]
        if len(measured) < 2:
            raise DataError(f"fewer than two {name} classes have two held-out images each: nothing to measure")
        random = torch.Generator(task.semantics.device).manual_seed(seed)
        made = model.synthesize(task.semantics[measured], per_class, random).float().cpu()
        kept = torch.isin(labels, measured)
        groups[name] = measure_group(
            Cloud(made.flatten(0, 1), measured.repeat_interleave(per_class)),
            Cloud(features[kept], labels[kept]),
            axes,
            sample=sample,
            seed=seed,
        )
    return SynthesisMeasures(**groups)


def measure_group(
    made: Cloud, real: Cloud, axes: PrincipalAxes, *, sample: int = 2000, seed: int = 0
) -> GroupMeasures:
    """Measure synthesized features of some classes against real ones of the same classes.

    Args:
        made: synthesized features, two or more a class.
        real: real ones, two or more a class.
        axes: for the Fréchet distance.
        sample: features, at most, for each silhouette.
        seed: of the samples.
    """
    own, true = _Spread.of(made), _Spread.of(real)
    far = (own.means - true.means).square().sum(1).mean()
    return GroupMeasures(
        compactness=own.within / true.within,
        separation=own.between / own.within,
        separation_real=true.between / true.within,
        silhouette=silhouette(made, sample=sample, seed=seed),
        silhouette_real=silhouette(real, sample=sample, seed=seed),
        mean_distance=(float(far) / true.between) ** 0.5,
        frechet=frechet_distance(_gaussian(made, axes), _gaussian(real, axes)) / axes.variance,
        nearest=nearest_accuracy(real, among=made),
    )


@dataclass(frozen=True)
class PrincipalAxes:
    """First principal components of some features.

    Attributes:
        mean: of the features.
        directions: orthonormal, by falling variance.
        variance: of the features on all of these directions together.
    """

    mean: Float[Tensor, " visual"]
    directions: Float[Tensor, "visual components"]
    variance: float

    @classmethod
    def fit(cls, features: Float[Tensor, "images visual"], components: int) -> PrincipalAxes:
        """The components of training features; never call it with held-out images."""
        mean = features.mean(0)
        _, values, vectors = torch.linalg.svd(features - mean, full_matrices=False)
        kept = min(components, int((values > values[0] * 1e-6).sum()))
        return cls(mean, vectors[:kept].T, float(values[:kept].square().sum()) / len(features))

    def __call__(self, features: Float[Tensor, "points visual"]) -> Float[Tensor, "points components"]:
        """Coordinates of features."""
        return (features - self.mean) @ self.directions


class Gaussian(NamedTuple):
    """A mean and a covariance."""

    mean: Float[Tensor, " size"]
    covariance: Float[Tensor, "size size"]


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of two Gaussians (Dowson and Landau 1982), in squared units.

    tr (C C')^(1/2) is the sum of the singular values of C^(1/2) C'^(1/2).
    """
    crossed = torch.linalg.svdvals(_root(one.covariance) @ _root(other.covariance)).sum()
    traces = one.covariance.trace() + other.covariance.trace()
    return float((one.mean - other.mean).square().sum() + (traces - 2 * crossed).clamp(min=0))


def silhouette(cloud: Cloud, *, sample: int, seed: int) -> float:
    """Mean silhouette of a sample of features by Euclidean distance, -1 to 1."""
    from sklearn.metrics import silhouette_score

    size = None if sample >= len(cloud.labels) else sample
    features, labels = cloud.features.numpy(), cloud.labels.numpy()
    return float(silhouette_score(features, labels, sample_size=size, random_state=seed))


def nearest_accuracy(images: Cloud, *, among: Cloud) -> float:
    """Per-class accuracy, 0 to 1, of images that take the class of their nearest feature, Euclidean distance."""
    nearest = torch.cat(
        [torch.cdist(rows, among.features).argmin(1) for rows in torch.split(images.features, 1024)]
    )
    labels = images.labels.numpy()
    accuracies = per_class_accuracy(among.labels[nearest].numpy(), labels, np.unique(labels))
    return float(accuracies.mean())


@dataclass(frozen=True)
class _Spread:
    """Means of the classes in ascending order, W and B."""

    means: Tensor
    within: float
    between: float

    @classmethod
    def of(cls, cloud: Cloud) -> _Spread:
        classes, rows, counts = np.unique(cloud.labels.numpy(), return_inverse=True, return_counts=True)
        where, number = torch.from_numpy(rows), torch.from_numpy(counts).double()
        features = cloud.features.double()
        sums = features.new_zeros(len(classes), features.shape[1]).index_add_(0, where, features)
        means = sums / number[:, None]
        squared = (features - means[where]).square().sum(1)
        within = squared.new_zeros(len(classes)).index_add_(0, where, squared) / number
        between = (means - means.mean(0)).square().sum(1)
        return cls(means, float(within.mean()), float(between.mean()))


def _gaussian(cloud: Cloud, axes: PrincipalAxes) -> Gaussian:
    """Mean and covariance of features on the axes, every class weighing the same."""
    points = axes(cloud.features).double()
    _, rows, counts = np.unique(cloud.labels.numpy(), return_inverse=True, return_counts=True)
    weights = torch.from_numpy(1 / (len(counts) * counts[rows]))
    mean = weights @ points
    centred = points - mean
    return Gaussian(mean, centred.T @ (weights[:, None] * centred))


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
