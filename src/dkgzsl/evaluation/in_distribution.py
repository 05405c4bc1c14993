"""Whether an image is any of the classes: two tests, one of its features and one of its scores.

The first asks whether the features are like those of the training images at all, whatever the class: it finds
noise, blank pictures, screenshots and photos of other things. The second asks whether one class stands out from
the others: it finds, as far as that is possible, classes of the same kind that are missing from the list.

Both limits are for the final model, and for seen and described classes apart. Distances of features that a fit has
not seen come from fits without a share of the images (seen classes), or without a share of the classes (described
ones). Scores that a fit has not seen come from the validation cuts, in units of the scores of training images: the
final model has more classes than those of the cuts, and other scores.

Source of the distance: probabilistic principal components (Tipping and Bishop, 1999, eq. 7 without its constants).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from dkgzsl.evaluation.metrics import Scored, balanced_weights
from dkgzsl.files import read_checkpoint, write_checkpoint

FILE: Final = "in_distribution.safetensors"
LOST: Final = 0.035
"""Share of held-out images that the two tests together may take for none of the classes. It is less than the 5 %
that people expect: new images differ more from training images than those held out of the same collection."""
FAR: Final = 0.003
"""The features' part of it: what they find lies far away, so that a small share is enough."""
_COMPONENTS: Final = 64
_IMAGES: Final = 2048  # so many, evenly drawn, tell the axes and the limits
_FOLDS: Final = 5
_FEWEST: Final = 20  # images; fewer tell nothing
_TINY: Final = float(torch.finfo(torch.float32).tiny)

Pair = tuple[float, float]
"""Of seen classes, then of described ones."""


def clearness(
    scores: Float[np.ndarray, "images classes"], is_described: Bool[np.ndarray, " classes"] | None = None
) -> Float[np.ndarray, " images"]:
    """How clearly one class stands out: the best score less the mean of the scores over the seen classes.

    What the scores of an image have in common cancels out. Described classes do not count in the mean, so that
    those which join or leave change nothing. For the default method it is the log likelihood ratio of the best
    class to the geometric mean of the seen classes.

    Args:
        scores: with the calibration constant included; -inf for classes outside the task.
        is_described: the classes that are known by a description; None: the mean is over all, as it was in earlier
            versions.
    """
    counted = np.isfinite(scores)
    if is_described is not None and (counted & ~is_described).any(1).all():
        counted &= ~is_described
    numbers = np.maximum(counted.sum(1), 1)
    mean = np.where(counted, scores, 0).sum(1, dtype=np.float64) / numbers
    return np.asarray(scores.max(1) - mean)


def level_of(scores: Float[np.ndarray, "images classes"], is_described: Bool[np.ndarray, " classes"]) -> float:
    """The unit of `clearness`: its median over training images, among the seen classes alone; above 0.

    Args:
        scores: of training images.
        is_described: as for `clearness`.
    """
    return max(float(np.median(clearness(np.where(is_described, -np.inf, scores)))), _TINY)


@dataclass(frozen=True, eq=False)
class FeatureDistribution:
    """A Gaussian of all training features: variances along the leading axes, and one for all that is left.

    Attributes:
        mean: of the features, after the root.
        axes: orthonormal, those of the largest variance.
        variances: along them.
        rest: variance along every other direction.
        root: take a square root first, where no feature is negative: it evens out their heavy right tail.
    """

    mean: Float[Tensor, " visual"]
    axes: Float[Tensor, "visual components"]
    variances: Float[Tensor, " components"]
    rest: float
    root: bool

    @classmethod
    def fit(cls, features: Float[Tensor, "images visual"], *, root: bool) -> FeatureDistribution:
        """Fit it to features, half as many axes as there are images and 64 at most.

        Args:
            features: unscaled, two images or more.
            root: take a square root first.
        """
        return replace(cls._of(_rooted(features.float()) if root else features.float()), root=root)

    @classmethod
    def _of(cls, features: Float[Tensor, "images visual"]) -> FeatureDistribution:
        """Of features as they are, or after the root."""
        values = features.numpy()
        number = min(_COMPONENTS, len(values) // 2, values.shape[1])
        mean = values.mean(0)
        values = values - mean
        _, _, rough = randomized_svd(values, number, n_iter=2, random_state=0)
        # The span may be rough; within it axes and variances are exact.
        variances, turns = np.linalg.eigh(np.cov(rough @ values.T).reshape(number, number))
        variances, axes = variances.astype(np.float32), (turns.T @ rough).astype(np.float32)
        least = max(1e-6 * float(variances.max()), _TINY)  # what never varies would make anything infinitely far
        others = values.shape[1] - number
        left = (values.var(0, ddof=1).sum() - variances.sum()) / others if others else variances.max()
        return cls(
            mean=torch.from_numpy(mean),
            axes=torch.from_numpy(axes.T.copy()),
            variances=torch.from_numpy(variances.clip(least)),
            rest=max(float(left), least),
            root=False,
        )

    def distance(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, " images"]:
        """Squared distance from the mean in units of the variances, a mean over the directions: about 1 for a
        training image.
        """
        values = features.to(self.mean)
        centred = (_rooted(values) if self.root else values) - self.mean
        along = centred @ self.axes
        left = (centred.square().sum(1) - along.square().sum(1)).clamp(min=0)
        found: Tensor = ((along.square() / self.variances).sum(1) + left / self.rest) / len(self.mean)
        return found


@dataclass(frozen=True, eq=False)
class InDistribution:
    """What an image needs to be taken for one of the classes.

    Attributes:
        features: of the training images.
        distance: the largest that is accepted, where the decision is a seen class and where it is a described one.
        level: unit of the clearness: its median over training images.
        clearness: the least that is accepted, in units of the level; None: nothing was held out that could tell.
    """

    features: FeatureDistribution
    distance: Pair
    level: float = 1.0
    clearness: Pair | None = None

    def score(
        self,
        scores: Float[np.ndarray, "images classes"],
        is_described: Bool[np.ndarray, " classes"],
        vectors: Float[Tensor, "images visual"],
    ) -> Float[np.ndarray, " images"]:
        """In-distribution score: 1 or more for images that are taken for one of the classes.

        The smaller of two ratios: accepted distance to distance, clearness to least clearness.

        Args:
            scores: with the calibration constant included.
            is_described: the classes that are known by a description.
            vectors: of the same images, as the model takes them.
        """
        described = is_described[scores.argmax(1)]
        far = self.features.distance(vectors).cpu().numpy().astype(np.float64)
        found = np.where(described, self.distance[1], self.distance[0]) / np.maximum(far, _TINY)
        if self.clearness is not None:
            least = np.where(described, self.clearness[1], self.clearness[0])
            found = np.minimum(found, clearness(scores, is_described) / (self.level * least))
        return np.asarray(found)

    def write(self, path: Path) -> None:
        """Write it as one safetensors file.

        Raises:
            RunError: it cannot be written.
        """
        known = self.features
        tensors = {"mean": known.mean, "axes": known.axes, "variances": known.variances}
        values = {
            "rest": known.rest, "root": known.root, "distance": list(self.distance), "level": self.level,
            "clearness": None if self.clearness is None else list(self.clearness),
        }  # fmt: skip
        write_checkpoint(path, {name: tensor.contiguous() for name, tensor in tensors.items()}, values)

    @classmethod
    def read(cls, path: Path) -> InDistribution | None:
        """What `write` wrote; None where there is no file.

        Raises:
            RunError: the file cannot be read.
        """
        found = read_checkpoint(path)
        if found is None:
            return None
        tensors, values = found
        features = FeatureDistribution(**tensors, rest=values["rest"], root=values["root"])
        least = values["clearness"]
        return cls(
            features,
            _pair(values["distance"]),
            values["level"],
            None if least is None else _pair(least),
        )


def in_distribution_of(
    vectors: Float[Tensor, "images visual"],
    labels: Integer[np.ndarray, " images"],
    *,
    level: float = 1.0,
    least: Pair | None = None,
) -> InDistribution | None:
    """What images need, from the training images of the final model; None where they are fewer than 20.

    Of more than 2,048 images, so many are used, evenly taken.

    Args:
        vectors: of the training images, as the model takes them.
        labels: their classes.
        level: of the final model.
        least: clearness that is needed, as `least_clearness` gives it.
    """
    if len(vectors) < _FEWEST:
        return None
    root = bool((vectors >= 0).all())
    sample = np.linspace(0, len(vectors) - 1, min(_IMAGES, len(vectors))).astype(int)
    values, classes = vectors[torch.from_numpy(sample)].cpu(), labels[sample]
    rng = np.random.default_rng(0)
    by_image = rng.permutation(len(values)) % _FOLDS
    names, positions = np.unique(classes, return_inverse=True)
    by_class = (rng.permutation(len(names)) % _FOLDS)[positions]
    rooted = _rooted(values.float()) if root else values.float()
    limits = [
        max(1.0, float(np.quantile(_left_out(rooted, torch.from_numpy(folds)), 1 - FAR)))
        for folds in ((by_image, by_class) if len(names) >= _FOLDS else (by_image, by_image))
    ]
    # A class that no fit has seen lies no nearer than one that was seen: where few classes say so, it is chance.
    return InDistribution(FeatureDistribution.fit(values, root=root), (limits[0], max(limits)), level, least)


def _rooted(values: Tensor) -> Tensor:
    return values.clamp(min=0).sqrt()


def _left_out(
    rooted: Float[Tensor, "images visual"], folds: Int[Tensor, " images"]
) -> Float[np.ndarray, " images"]:
    """Distance of every image by a fit without its fold; the features have their root already."""
    found = torch.empty(len(rooted))
    for fold in range(_FOLDS):
        inside = folds == fold
        found[inside] = FeatureDistribution.fit(rooted[~inside], root=False).distance(rooted[inside])
    return found.numpy()


def least_clearness(scored: Sequence[Scored], constant: float, levels: Sequence[float]) -> Pair | None:
    """Clearness, in units of its level, above which all but `LOST` less `FAR` of the held-out images lie.

    Images count for the kind of class that they are taken for, right or wrong. Every cut has the same weight, and
    within it seen and pseudo-unseen images have.

    Args:
        scored: held-out images of each validation cut.
        constant: of calibration.
        levels: `level_of` the training images of each cut's model.

    Returns:
        For seen and described classes; None where nothing stands out, as of scores that are all alike.
    """
    values, described, weights = [], [], []
    for one, level in zip(scored, levels, strict=True):
        scores = one.scores + constant * one.is_unseen
        values.append(clearness(scores, one.is_unseen) / level)
        described.append(one.is_unseen[scores.argmax(1)])
        weights.append(balanced_weights(one))
    value, kind, weight = map(np.concatenate, (values, described, weights))
    found = [
        _weighted_quantile(value[chosen], weight[chosen], LOST - FAR) if chosen.any() else None
        for chosen in (~kind, kind)
    ]
    known = [one for one in found if one is not None]
    if not known or min(known) <= 0:
        return None
    seen, unseen = (min(known) if one is None else one for one in found)
    return seen, unseen


def _weighted_quantile(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], share: float) -> float:
    order = np.argsort(values, kind="stable")
    below = np.searchsorted(np.cumsum(weights[order]), share * weights.sum(), side="left")
    return float(values[order][min(int(below), len(order) - 1)])


def _pair(values: Sequence[float]) -> Pair:
    first, second = values
    return float(first), float(second)
