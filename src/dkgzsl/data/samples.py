"""A bounded sample of the training part: what settings are chosen on costs the same however much data there is.

More images a class and more classes change which setting is best little, once there are thousands of them; what
the chosen setting is fitted to is never sampled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from dkgzsl.data.problem import ClassIndices, ImageIndices, Parts, Problem

IMAGES: Final = 8192
"""Training images on which settings are chosen, at most."""
CLASSES: Final = 768
"""Seen classes among them, at most: all of SUN's 645, the most of the usual benchmarks."""
_STREAM = 1021


class Sample(NamedTuple):
    """How much of the training part settings were chosen on.

    Attributes:
        images: number of training images.
        classes: number of seen classes.
    """

    images: int
    classes: int


def bounded_sample(
    problem: Problem, seed: int, *, images: int = IMAGES, classes: int = CLASSES
) -> tuple[Problem, Sample]:
    """The problem with at most so many training images and seen classes, and nothing to test.

    Classes are drawn first, of those that the data set names for validation the same share as of the others. Then
    the images of the largest classes are thinned out, so that small classes keep all of theirs. A problem within
    both bounds is returned as it is.

    Args:
        problem: the data.
        seed: of what is drawn.
        images: at most this many training images, but two a class.
        classes: at most this many seen classes.

    Returns:
        The smaller problem, and its size. Where classes were drawn they are numbered anew, and images outside the
        sample have the class -1.
    """
    seen, trainval = problem.seen_classes, np.sort(problem.parts.trainval)
    if len(seen) <= classes and len(trainval) <= images:
        return problem, Sample(len(trainval), len(seen))
    rng = np.random.default_rng([_STREAM, seed])
    small = problem
    if len(seen) > classes:
        named = problem.parts.validation_classes
        kept = _drawn_classes(seen, named, classes, rng)
        trainval = trainval[np.isin(problem.labels[trainval], kept)]
        small = _of_classes(problem, kept)
    chosen = _thinned(trainval, small.labels[trainval], max(images, 2 * min(len(seen), classes)), rng)
    none = trainval[:0]
    parts = Parts(chosen, none, none, small.parts.validation_classes)
    sampled = replace(small, parts=parts)
    return sampled, Sample(len(chosen), len(sampled.seen_classes))


def _drawn_classes(
    seen: ClassIndices, named: ClassIndices | None, number: int, rng: np.random.Generator
) -> ClassIndices:
    if named is None:
        return np.sort(rng.permutation(seen)[:number])
    others = np.setdiff1d(seen, named)
    hidden = min(max(1, round(number * len(named) / len(seen))), number - 1)
    return np.sort(np.concatenate([rng.permutation(named)[:hidden], rng.permutation(others)[: number - hidden]]))


def _of_classes(problem: Problem, kept: ClassIndices) -> Problem:
    """The problem with some of its seen classes alone, numbered anew."""
    numbers = np.full(len(problem.class_names), -1, dtype=np.int64)
    numbers[kept] = np.arange(len(kept))
    named = problem.parts.validation_classes
    parts = problem.parts
    if named is not None:
        parts = replace(parts, validation_classes=numbers[np.intersect1d(named, kept)])
    return replace(
        problem,
        labels=numbers[problem.labels],
        class_names=tuple(problem.class_names[number] for number in kept),
        semantic_sources={name: values[kept] for name, values in problem.semantic_sources.items()},
        parts=parts,
    )


def _thinned(positions: ImageIndices, labels: ImageIndices, number: int, rng: np.random.Generator) -> ImageIndices:
    """So many positions, as evenly over the classes as their sizes allow, ascending."""
    if len(positions) <= number:
        return positions
    order = rng.permutation(len(positions))
    order = order[np.argsort(labels[order], kind="stable")]
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(starts, counts)  # of each image within its class, from 0 on
    # The first of every class come first, then the second of every class, and so on.
    taken = order[np.argsort(place, kind="stable")[:number]]
    return np.sort(positions[taken])
