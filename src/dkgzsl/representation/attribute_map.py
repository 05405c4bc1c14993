"""Which attributes a photo itself shows: a linear map of features to attributes, and how far it can be trusted.

Attributes are known of classes alone. A ridge regression of the attributes of each training image's class on the
image's features finds directions that go with an attribute across classes. Whether it reads the attribute, or
merely knows the classes, is found out on classes that it has not seen: the seen classes are divided into `FOLDS`
parts, and the images of each part are read by a map that is fitted on the others. After the attribute classifiers
of Lampert et al. (Attribute-Based Classification, TPAMI 2014), which are not tested on held-out classes there.

Where an image has regions, the map takes their mean x = mean_r x_r. A linear map is then, exactly, a mean of one
contribution a region:

    z(x) = w (x - m) + c = mean_r [w (x_r - m) + c]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from dkgzsl.data.problem import ImageIndices, Problem
from dkgzsl.representation.blocks import read_store

FOLDS: Final = 3
"""Parts of the seen classes; each is held out once, as a third of them is in a validation cut."""
FEWEST_CLASSES: Final = 2 * FOLDS
"""Seen classes from which on the map is fitted: two in each part."""
RIDGES: Final = (0.03, 0.3, 3.0)
"""Penalties that are tried, as multiples of the mean eigenvalue of the features' scatter."""
CERTAIN: Final = 2.0
"""Standard errors by which the accuracy has to exceed chance."""
MOST_IMAGES: Final = 4096
"""Training images that the map is fitted on at most, evenly taken."""
_STREAM: Final = 2014


@dataclass(frozen=True, eq=False)
class AttributeMap:
    """A linear map from an image's features to attributes, with its accuracy on held-out classes.

    Attributes:
        weight: w.
        mean: m, mean feature of the training images, each class counting the same.
        offset: c, the reading of that mean.
        accuracy: of two images of held-out classes, the class of one having more of the attribute than the mean of
            the seen classes and that of the other less, how often the first reads higher (AUROC, each pair of
            classes counting the same): 0 to 1, 0.5 is chance.
        least: accuracy above which an attribute counts as readable, see `chance_bound`.
        regions: whether it takes the mean of the regions; else pooled features.
    """

    weight: Float[Tensor, "channels attributes"]
    mean: Float[Tensor, " channels"]
    offset: Float[Tensor, " attributes"]
    accuracy: Float[Tensor, " attributes"]
    least: Float[Tensor, " attributes"]
    regions: bool

    @property
    def readable(self) -> Bool[np.ndarray, " attributes"]:
        """Which attributes can be read from images: more accurately than by chance."""
        return np.asarray((self.accuracy > self.least).numpy())

    def takes(self, features: np.ndarray | Tensor) -> bool:
        """Whether the map can read features: region tokens or pooled features, as it was fitted on."""
        return features.ndim == (3 if self.regions else 2) and features.shape[-1] == len(self.mean)

    def read(self, features: Float[Tensor, "images ..."]) -> Float[np.ndarray, "images attributes"]:
        """How much of each attribute images show: deviations above the mean reading of images of held-out classes.

        Args:
            features: tokens [images, 1 + regions, channels], or pooled features [images, channels].
        """
        pooled = features[:, 1:].mean(1) if self.regions else features
        return np.asarray(((pooled.float() - self.mean) @ self.weight + self.offset).numpy())

    def contributions(
        self, tokens: Float[Tensor, "tokens channels"], attribute: int
    ) -> Float[np.ndarray, " regions"]:
        """What each region adds to the reading of an attribute: their mean is what `read` gives.

        Args:
            tokens: of one image, the global one first.
            attribute: its position.
        """
        each = (tokens[1:].float() - self.mean) @ self.weight[:, attribute] + self.offset[attribute]
        return np.asarray(each.numpy())

    def tensors(self) -> dict[str, Tensor]:
        """Tensors by name, from which `load` makes the map again."""
        return {f"map.{name}": getattr(self, name) for name in _TENSORS} | {
            "map.regions": torch.tensor(self.regions)
        }

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor]) -> AttributeMap | None:
        """What `tensors` was made from; None where they hold no map, as those of runs before 0.3."""
        if "map.weight" not in tensors:
            return None
        return cls(**{name: tensors[f"map.{name}"] for name in _TENSORS}, regions=bool(tensors["map.regions"]))


_TENSORS: Final = ("weight", "mean", "offset", "accuracy", "least")


def fit_attribute_map(
    problem: Problem, table: Float[np.ndarray, "classes attributes"], *, seed: int = 0
) -> AttributeMap | None:
    """Fit the map on the training images, and measure its accuracy on held-out seen classes.

    The penalty is the one of `RIDGES` with the best mean accuracy over the attributes, one for all of them.

    Args:
        problem: its training images alone are read.
        table: attributes of each class.
        seed: divides the classes.

    Returns:
        The map; None where there are fewer than `FEWEST_CLASSES` seen classes, or the features do not vary.
    """
    seen = problem.seen_classes
    if len(seen) < FEWEST_CLASSES:
        return None
    positions = _evenly(np.sort(problem.parts.trainval))
    features = read_store(problem.features, positions, ["mean"], None)["mean"].double().numpy()
    labels = np.searchsorted(seen, problem.labels[positions])
    seen = seen[np.unique(labels)]
    labels = np.unique(labels, return_inverse=True)[1]
    values = _standardised(np.asarray(table[seen], dtype=np.float64))
    weights = 1 / np.bincount(labels)[labels]
    part = np.random.default_rng([_STREAM, seed]).permutation(len(seen)) % FOLDS
    held = {ridge: np.zeros((len(labels), values.shape[1])) for ridge in RIDGES}
    for fold in range(FOLDS):
        out = part[labels] == fold
        solver = _Ridge.of(features[~out], values[labels[~out]], weights[~out])
        for ridge in RIDGES:
            held[ridge][out] = solver.solve(ridge).read(features[out])
    accuracies = {ridge: accuracy_of(held[ridge], values > 0, labels) for ridge in RIDGES}
    best = max(RIDGES, key=lambda ridge: float(accuracies[ridge].mean()))
    return _scaled(
        _Ridge.of(features, values[labels], weights).solve(best),
        held[best],
        weights,
        accuracy=accuracies[best],
        least=chance_bound(values > 0),
        regions=problem.has_regions,
    )


def accuracy_of(
    readings: Float[np.ndarray, "images attributes"],
    has: Bool[np.ndarray, "classes attributes"],
    labels: Integer[np.ndarray, " images"],
) -> Float[np.ndarray, " attributes"]:
    """AUROC of each attribute's readings, every class weighing the same; 0.5 where all classes are alike.

    Args:
        readings: of images of all classes.
        has: whether each class has the attribute.
        labels: class of each image.
    """
    weights = 1 / np.bincount(labels)[labels]
    found = np.full(readings.shape[1], 0.5)
    for k in range(readings.shape[1]):
        values, group = np.unique(readings[:, k], return_inverse=True)
        with_it = has[labels, k]
        more = np.bincount(group, weights * with_it, minlength=len(values))
        less = np.bincount(group, weights * ~with_it, minlength=len(values))
        if more.any() and less.any():
            below = np.cumsum(less) - less / 2  # of equal readings half
            found[k] = float(more @ below) / (more.sum() * less.sum())
    return found


def chance_bound(has: Bool[np.ndarray, "classes attributes"]) -> Float[np.ndarray, " attributes"]:
    """AUROC that readings without any knowledge hardly exceed: 0.5 and `CERTAIN` standard errors.

    Images of one class are no independent witnesses, so that classes are counted: of n1 classes with the attribute
    and n0 without, the variance under chance is (n1 + n0 + 1) / (12 n1 n0) (Mann and Whitney, 1947). Infinite
    where all classes are alike.
    """
    more = has.sum(0).astype(np.float64)
    less = len(has) - more
    pairs = np.where((more > 0) & (less > 0), more * less, np.nan)
    bound = 0.5 + CERTAIN * np.sqrt((more + less + 1) / (12 * pairs))
    return np.where(np.isnan(bound), np.inf, bound)


@dataclass(frozen=True)
class _Linear:
    """x -> (x - mean) weight + target."""

    weight: Float[np.ndarray, "channels attributes"]
    mean: Float[np.ndarray, " channels"]
    target: Float[np.ndarray, " attributes"]

    def read(self, features: Float[np.ndarray, "images channels"]) -> Float[np.ndarray, "images attributes"]:
        return np.asarray((features - self.mean) @ self.weight + self.target)


@dataclass(frozen=True)
class _Ridge:
    """A weighted ridge regression on standardised channels, for several penalties; primal or dual, as is smaller.

    Attributes:
        rows: standardised features times the square root of the weights.
        targets: centred, likewise.
        gram: of the rows (images by images) where there are fewer images than channels, else of the channels.
        scale: one over the deviation of each channel, 0 for one that is constant.
        mean: of the features.
        target: mean of the targets.
    """

    rows: Float[np.ndarray, "images channels"]
    targets: Float[np.ndarray, "images attributes"]
    gram: Float[np.ndarray, "side side"]
    scale: Float[np.ndarray, " channels"]
    mean: Float[np.ndarray, " channels"]
    target: Float[np.ndarray, " attributes"]

    @classmethod
    def of(
        cls,
        features: Float[np.ndarray, "images channels"],
        targets: Float[np.ndarray, "images attributes"],
        weights: Float[np.ndarray, " images"],
    ) -> _Ridge:
        share = weights / weights.sum()
        mean, target = share @ features, share @ targets
        centred = features - mean
        deviation = np.sqrt(share @ centred**2)
        scale = np.where(deviation > 1e-9 * np.abs(mean).max(initial=1e-30), 1 / np.maximum(deviation, 1e-30), 0.0)
        root = np.sqrt(share)[:, None]
        rows = root * centred * scale
        gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
        return cls(rows, root * (targets - target), gram, scale, mean, target)

    def solve(self, ridge: float) -> _Linear:
        penalty = ridge * max(float(np.trace(self.gram)), 1e-12) / len(self.gram)
        regular = self.gram + penalty * np.eye(len(self.gram))
        if len(self.rows) < self.rows.shape[1]:
            weight = self.rows.T @ np.linalg.solve(regular, self.targets)
        else:
            weight = np.linalg.solve(regular, self.rows.T @ self.targets)
        return _Linear(weight * self.scale[:, None], self.mean, self.target)


def _scaled(
    fitted: _Linear,
    held: Float[np.ndarray, "images attributes"],
    weights: Float[np.ndarray, " images"],
    *,
    accuracy: Float[np.ndarray, " attributes"],
    least: Float[np.ndarray, " attributes"],
    regions: bool,
) -> AttributeMap:
    """The map in deviations of the readings of held-out classes, as it meets images that it was not fitted on."""
    share = weights / weights.sum()
    usual = share @ held
    deviation = np.sqrt(share @ (held - usual) ** 2)
    scale = np.where(deviation > 0, 1 / np.maximum(deviation, 1e-30), 0.0)

    def single(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

    return AttributeMap(
        weight=single(fitted.weight * scale),
        mean=single(fitted.mean),
        offset=single((fitted.target - usual) * scale),
        accuracy=single(accuracy),
        least=single(least),
        regions=regions,
    )


def _standardised(table: Float[np.ndarray, "classes attributes"]) -> Float[np.ndarray, "classes attributes"]:
    deviation = table.std(0)
    return np.asarray((table - table.mean(0)) / np.where(deviation > 0, deviation, np.inf))


def _evenly(positions: ImageIndices) -> ImageIndices:
    number = min(MOST_IMAGES, len(positions))
    return np.asarray(positions[np.linspace(0, len(positions) - 1, number).astype(int)])
