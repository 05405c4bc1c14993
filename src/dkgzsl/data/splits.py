"""Cuts without leaks: validation from the training part alone, and held-out images of seen classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from jaxtyping import Integer

from dkgzsl.data.problem import ClassIndices, ImageIndices, Parts, Problem
from dkgzsl.errors import DataError

HELD_SHARE: Final = 0.2
"""Share of a class's training images that validation holds out, as the official splits do for test."""
TEST_SHARE: Final = 0.2
"""Share of each seen class's images that is drawn as seen test images, where no official split fixes them."""
PSEUDO_UNSEEN_SHARE: Final = 1 / 3
"""Share of the seen classes that validation treats as unseen, where the data set names none."""
FEWEST_CUTS, MOST_CUTS = 3, 8
"""Bounds of how many cuts validation makes where a method chooses on several."""
_HIDDEN = 100  # so many pseudo-unseen classes, all cuts together, tell settings apart
_PSEUDO_UNSEEN_STREAM = 2017


@dataclass(frozen=True)
class ValidationCut:
    """The training part divided once more; positions are those of the problem's images and classes, ascending.

    Attributes:
        train: images of `seen_classes` to fit on.
        held_seen: images of `seen_classes` that stand for the seen test images.
        held_unseen: all training images of `pseudo_unseen_classes`.
        seen_classes: classes that stay seen.
        pseudo_unseen_classes: seen classes that stand for the unseen ones.
    """

    train: ImageIndices
    held_seen: ImageIndices
    held_unseen: ImageIndices
    seen_classes: ClassIndices
    pseudo_unseen_classes: ClassIndices


def number_of_cuts(seen: int) -> int:
    """How many cuts tell settings apart: the more, the fewer seen classes there are.

    Args:
        seen: number of seen classes.
    """
    hidden = max(1, round(PSEUDO_UNSEEN_SHARE * seen))
    return min(MOST_CUTS, max(FEWEST_CUTS, round(_HIDDEN / hidden)))


def validation_cut(problem: Problem, seed: int, cut: int = 0) -> ValidationCut:
    """Divide the problem's `trainval` images for validation; no other image is touched.

    The pseudo-unseen classes of the first cut are those that the data set names. Where it names none, and in
    further cuts, they are a third of the seen classes, drawn anew by each `seed`. Of each other class 20 % of the
    images are held out (see `hold_out_seen`).

    Args:
        problem: the data.
        seed: of what is drawn.
        cut: number of the cut, from 0 on.

    This departs from most released code, which validates on the files' `train_loc` and `val_loc`: these contain
    every seen test image (Xian et al., 2018, proposed splits). Only the *classes* of `val_loc` are used here.

    Raises:
        DataError: fewer than two seen classes, or validation classes that are not seen or are all of them.
    """
    seen = problem.seen_classes
    if problem.parts.validation_classes is None or cut:
        pseudo_unseen = _third(seen, seed, cut)
    else:
        pseudo_unseen = np.unique(problem.parts.validation_classes)
    remaining = np.setdiff1d(seen, pseudo_unseen)
    if not len(pseudo_unseen) or not len(remaining) or not np.isin(pseudo_unseen, seen).all():
        raise DataError(
            f"no validation can be cut from {problem.name}: {len(seen)} seen classes, {len(pseudo_unseen)} to be "
            "treated as unseen",
            fix="name validation classes that are some of the seen classes, not all, in the data set's split",
        )
    trainval = np.sort(problem.parts.trainval)
    drawn = (seed, cut) if cut else (seed,)
    held_seen = hold_out_seen(problem.labels, remaining, fraction=HELD_SHARE, seed=drawn, among=trainval)
    unseen = np.isin(problem.labels[trainval], pseudo_unseen)
    return ValidationCut(
        train=np.setdiff1d(trainval[~unseen], held_seen),
        held_seen=held_seen,
        held_unseen=trainval[unseen],
        seen_classes=remaining,
        pseudo_unseen_classes=pseudo_unseen,
    )


def validation_cuts(problem: Problem, seed: int) -> list[int]:
    """Numbers of the cuts on which settings are chosen: the first, and further ones that can be fitted and scored.

    A further cut is left out where no class keeps two training images (the spread within classes is not known
    there), or no image of a seen class is held out.

    Args:
        problem: the data.
        seed: of what is drawn.

    Raises:
        DataError: there is no first cut, as `validation_cut` says.
    """
    cuts = [0]
    for cut in range(1, number_of_cuts(len(problem.seen_classes))):
        divided = validation_cut(problem, seed, cut)
        most = np.bincount(problem.labels[divided.train]).max(initial=0)
        if most > 1 and len(divided.held_seen):
            cuts.append(cut)
    return cuts


def hold_out_seen(
    labels: Integer[np.ndarray, " images"],
    classes: ClassIndices,
    *,
    fraction: float,
    seed: int | tuple[int, ...],
    among: ImageIndices | None = None,
) -> ImageIndices:
    """Draw images of each class to be held out, ascending.

    Of each class `fraction` of its images, rounded, at least one; a class always keeps one, so that a class with
    a single image gives none. A class's draw does not depend on which other classes there are, but for one case:
    where every class would keep a single image, nothing would show how images of a class differ, and so every
    second class that has two keeps both.

    Args:
        labels: class of each image.
        classes: the classes to draw from.
        fraction: share to hold out, between 0 and 1.
        seed: the draw; several numbers name a stream of their own.
        among: positions of the images to draw from (default: all).

    Raises:
        DataError: `fraction` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the share of images to hold out must lie between 0 and 1, not {fraction}")
    stream = (seed,) if isinstance(seed, int) else seed
    among = np.arange(len(labels)) if among is None else np.sort(among)
    held: list[np.ndarray] = []
    kept = 0
    by_class = among[np.argsort(labels[among], kind="stable")]
    first, last = (np.searchsorted(labels[by_class], classes, side=side) for side in ("left", "right"))
    for label, begin, end in zip(classes, first, last, strict=True):
        images = by_class[begin:end]
        number = min(max(1, round(fraction * len(images))), len(images) - 1)
        if number > 0:
            rng = np.random.default_rng([*stream, int(label)])
            held.append(rng.choice(images, number, replace=False))
        kept = max(kept, len(images) - number)
    if kept == 1 and len(held) > 1:
        held = held[::2]
    return np.sort(np.concatenate([np.empty(0, np.int64), *held]))


def test_images(labels: Integer[np.ndarray, " images"], seen: ClassIndices, *, seed: int) -> ImageIndices:
    """Draw the seen test images, ascending: `TEST_SHARE` of each seen class (see `hold_out_seen`)."""
    return hold_out_seen(labels, seen, fraction=TEST_SHARE, seed=seed)


def drawn_by(seed: int) -> dict[str, Any]:
    """What the provenance of a problem says whose seen test images `test_images` drew."""
    return {"splits": f"{TEST_SHARE:.0%} of each seen class held out for test by seed {seed}", "test_seed": seed}


def with_test_images(problem: Problem, seed: int) -> Problem:
    """The same problem with its seen test images drawn by another seed, equal to loading it with that `test_seed`.

    Nothing is read again: features, labels and descriptions are those of `problem`. A problem whose seen test
    images are fixed, by an official split or by whoever made it, is returned as it is.

    Args:
        problem: as loaded.
        seed: the draw.

    Raises:
        DataError: of a class, this draw leaves no image for training (its other images could not be read).
    """
    if problem.provenance.get("test_seed") in (None, seed):
        return problem
    parts, labels = problem.parts, problem.labels
    usable, drawn = (np.zeros(len(labels), bool) for _ in range(2))  # sets of positions sort millions of images
    usable[parts.trainval] = usable[parts.test_seen] = True
    # The draw is over all images of a class, those in no part among them: they could not be read.
    drawn[test_images(labels, np.flatnonzero(np.bincount(labels[usable])), seed=seed)] = True
    trainval, test_seen = np.flatnonzero(usable & ~drawn), np.flatnonzero(usable & drawn)
    untrained = np.setdiff1d(labels[test_seen], labels[trainval])
    if len(untrained):
        raise DataError(
            f"{len(untrained)} classes of test_seen have no training image (the first: "
            f"{problem.class_names[int(untrained[0])]}), where seed {seed} draws the test images",
            fix="add images of the class that can be read, or use other seeds",
        )
    provenance = {**problem.provenance, **drawn_by(seed)}
    if "extra" in provenance:
        provenance["extra"] = {name: {**one, **drawn_by(seed)} for name, one in provenance["extra"].items()}
    redrawn = Parts(trainval, test_seen, parts.test_unseen, parts.validation_classes)
    return replace(problem, parts=redrawn, provenance=provenance)


def _third(seen: ClassIndices, seed: int, cut: int) -> ClassIndices:
    rng = np.random.default_rng([_PSEUDO_UNSEEN_STREAM, seed, cut])
    return np.sort(rng.permutation(seen)[: max(1, round(PSEUDO_UNSEEN_SHARE * len(seen)))])
