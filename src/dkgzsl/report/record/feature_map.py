"""A map of the features: real and synthesized features of a few classes on two axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.methods.shared.class_statistics import class_means

COMPONENTS = 64
SHRINKAGE = 0.5
_ROWS = 1000  # the principal components are computed from about so many images


@dataclass(frozen=True)
class VisualSpace:
    """Square root where no feature is negative, principal components, whitening within classes, discriminants.

    A class has a variance of about 1 along each axis, so that distances are in standard deviations within a class.
    Along the first two axes the means of the seen classes differ most: they are Fisher's linear discriminants of
    the principal components.

    Attributes:
        root: whether the square root of the features is taken.
        origin: mean of the training features [C], after the root.
        basis: matrix from centred features to coordinates [C, axes].
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
        """Coordinates of unscaled features; under a root, negative synthesized features count as 0."""
        x = features.clamp(min=0).sqrt() if self.root else features
        return (x - self.origin) @ self.basis


CLASSES_DRAWN = 6
SYNTHESIZED = 40
"""Features synthesized for each unseen class."""
IMAGES_DRAWN = 40
_SEEN_DRAWN = 20


@dataclass(frozen=True)
class FeatureMap:
    """Points on the first two axes of a `VisualSpace`.

    Attributes:
        real: points of test images of some unseen classes.
        real_labels: their classes.
        synthesized: points of synthesized features of the same classes.
        synthesized_labels: their classes.
        seen: points of training images of the nearest seen classes.
        seen_labels: their classes.
        fitted_on: number of training images from which the axes were computed.
    """

    real: Float[Tensor, "real 2"]
    real_labels: Int[Tensor, " real"]
    synthesized: Float[Tensor, "synthesized 2"]
    synthesized_labels: Int[Tensor, " synthesized"]
    seen: Float[Tensor, "seen 2"]
    seen_labels: Int[Tensor, " seen"]
    fitted_on: int

    def tensors(self) -> dict[str, Tensor]:
        """As tensors of a file."""
        return {
            "fitted_on": torch.tensor(self.fitted_on),
            **{name: getattr(self, name) for name in _POINTS},
            **{f"{name}_labels": getattr(self, f"{name}_labels").int() for name in _POINTS},
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> FeatureMap:
        """The map from what `tensors` returned."""
        points = {name: tensors[name] for name in _POINTS}
        labels = {f"{name}_labels": tensors[f"{name}_labels"].long() for name in _POINTS}
        return cls(**points, **labels, fitted_on=int(tensors["fitted_on"]))


_POINTS = ("real", "synthesized", "seen")


def draw_map(
    space: VisualSpace,
    *,
    training: Float[Tensor, "images visual"],
    training_labels: Int[Tensor, " images"],
    test: Float[Tensor, "test visual"],
    test_labels: Int[Tensor, " test"],
    synthesized: Float[Tensor, "unseen number visual"],
    unseen: Int[Tensor, " unseen"],
) -> FeatureMap:
    """Place real and synthesized features on the two axes.

    The map shows the unseen classes whose synthesized means lie furthest apart on the axes; their test images have
    no part in this choice.

    Args:
        space: fitted on the training images.
        training: features of training images.
        training_labels: their classes.
        test: features of test images of unseen classes.
        test_labels: their classes.
        synthesized: synthesized features of each unseen class.
        unseen: the unseen classes, in the order of `synthesized`.
    """
    places = space(synthesized)[..., :2]
    means = places.mean(1)
    chosen = _furthest_apart(means, CLASSES_DRAWN)
    train_places = space(training)[:, :2]
    classes = np.unique(training_labels.numpy()).tolist()
    seen_means = torch.stack([train_places[training_labels == label].mean(0) for label in classes])
    nearest: list[int] = []
    for mean in means[chosen]:
        order = torch.linalg.vector_norm(seen_means - mean, dim=1).argsort().tolist()
        nearest += [next(number for number in order if number not in nearest)] if len(nearest) < len(order) else []
    rows = torch.cat([torch.nonzero(test_labels == unseen[c])[:IMAGES_DRAWN, 0] for c in chosen])
    of_nearest = [torch.nonzero(training_labels == classes[number])[:_SEEN_DRAWN, 0] for number in nearest]
    seen_rows = torch.cat(of_nearest)
    return FeatureMap(
        real=space(test[rows])[:, :2].contiguous(),
        real_labels=test_labels[rows],
        synthesized=places[chosen].flatten(0, 1).contiguous(),
        synthesized_labels=unseen[chosen].repeat_interleave(places.shape[1]),
        seen=train_places[seen_rows].contiguous(),
        seen_labels=training_labels[seen_rows],
        fitted_on=len(training),
    )


def _furthest_apart(points: Float[Tensor, "points 2"], number: int) -> list[int]:
    """Rows of points that lie far apart: the outermost, then each time the one furthest from those chosen."""
    distance = torch.linalg.vector_norm(points - points.mean(0), dim=1)
    chosen = [int(distance.argmax())]
    while len(chosen) < min(number, len(points)):
        distance = torch.linalg.vector_norm(points[:, None] - points[chosen], dim=2).amin(1)
        chosen.append(int(distance.argmax()))
    return chosen


def balanced_sample(labels: np.ndarray, images: np.ndarray, *, per_class: int, at_most: int) -> np.ndarray:
    """Some of the given images, about the same number of each class, in ascending order.

    Args:
        labels: of all images of the problem.
        images: positions to choose from.
        per_class: at most so many of a class.
        at_most: about so many in all at most, but at least two of each class.
    """
    ordered = np.sort(images)
    ordered = ordered[np.argsort(labels[ordered], kind="stable")]
    groups = np.split(ordered, np.flatnonzero(np.diff(labels[ordered])) + 1)
    size = max(2, min(per_class, at_most // len(groups)))
    chosen = [group[np.linspace(0, len(group) - 1, min(size, len(group))).astype(int)] for group in groups]
    return np.sort(np.concatenate(chosen))
