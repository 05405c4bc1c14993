"""A problem, divided into a task that a method learns from and a held-out set that scores its models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from dkgzsl.data.problem import ClassIndices, ImageIndices, Problem
from dkgzsl.data.splits import validation_cut
from dkgzsl.device import moved
from dkgzsl.evaluation.metrics import Decisions, Scored
from dkgzsl.memory import blocks_of
from dkgzsl.methods.base import Model, Task
from dkgzsl.representation.representation import Fitted, Pooled, Representation

POOLED = Pooled()
_USUAL = 1024  # training images that say which scores are usual
_SCORES, _FEWEST_ROWS = 2**23, 64  # scores, and images, at once: 32 MiB, which a processor's cache can hold


@dataclass(frozen=True)
class HeldOut:
    """Held-out images with their labels. A method never gets it: it learns of the labels through figures alone.

    Attributes:
        features: unscaled vectors of the held-out images.
        labels: class of each image.
        is_unseen: which classes are unseen in the task.
        fitted: the representation that the vectors come from, fitted on the task's training images.
        training: vectors of up to 1,024 training images, which say what scores are usual; None: not known.
    """

    features: Float[Tensor, "images visual"]
    labels: Integer[np.ndarray, " images"]
    is_unseen: Bool[np.ndarray, " classes"]
    fitted: Fitted
    training: Float[Tensor, "some _"] | None = None

    def score(self, model: Model) -> Scored:
        """Score the images with a model, once for the generalized and once for the conventional scores."""
        return self._score(model, self.features, self.labels)

    def score_in_blocks(self, model: Model) -> Iterator[tuple[Float[Tensor, "block visual"], Scored]]:
        """Vectors and scores of the images, in blocks that bound the memory."""
        for rows, block in blocks_of(self.features, images_at_once(len(self.is_unseen))):
            yield block, self._score(model, block, self.labels[rows])

    def decide(self, model: Model) -> Decisions:
        """What a model decides, from which all figures follow; memory does not grow with images times classes."""
        return Decisions.joined([scored.decisions for _, scored in self.score_in_blocks(model)])

    def _score(self, model: Model, features: Tensor, labels: np.ndarray) -> Scored:
        generalized = model.scores(features)
        return Scored(
            scores=generalized.float().cpu().numpy(),
            conventional=model.conventional_scores(features).float().cpu().numpy(),
            labels=labels,
            is_unseen=self.is_unseen,
        )

    def training_scores(self, model: Model) -> Float[np.ndarray, "some classes"] | None:
        """Scores of the training images in `training`; None where there are none."""
        return None if self.training is None else model.scores(self.training).float().cpu().numpy()


def decided_on(device: torch.device, held_out: HeldOut, model: Model) -> Decisions:
    """What a model decides for the images when it computes on a device.

    Args:
        device: of the computation.
        held_out: the images.
        model: on the CPU, as `load` gives it; its modules are moved in place.
    """
    there = replace(held_out, features=held_out.features.to(device))
    return there.decide(moved(model, device))


def images_at_once(classes: int) -> int:
    """How many images are scored at once.

    Args:
        classes: for how many classes.
    """
    return max(_FEWEST_ROWS, _SCORES // max(1, classes))


def validation_task(
    problem: Problem, seed: int, representation: Representation = POOLED, *, cut: int = 0
) -> tuple[Task, HeldOut]:
    """Divide the training part once more: hold out some seen classes as unseen, and some images of the others.

    Args:
        problem: the data; its test images are not read.
        seed: draws the held-out images, and pseudo-unseen classes where none are named.
        representation: fitted on the images that are not held out.
        cut: number of the cut, from 0 on.

    Returns:
        The task, whose unseen classes are the held-out classes, and the held-out images of both kinds.
    """
    divided = validation_cut(problem, seed, cut)
    return _divide(
        problem,
        representation,
        training=divided.train,
        held=np.concatenate([divided.held_seen, divided.held_unseen]),
        seen=divided.seen_classes,
        unseen=divided.pseudo_unseen_classes,
    )


def final_task(problem: Problem, representation: Representation = POOLED) -> tuple[Task, HeldOut]:
    """The whole training part as the task, and the test images as the held-out set."""
    parts = problem.parts
    return _divide(
        problem,
        representation,
        training=parts.trainval,
        held=np.concatenate([parts.test_seen, parts.test_unseen]),
        seen=problem.seen_classes,
        unseen=problem.unseen_classes,
    )


def test_images(problem: Problem, fitted: Fitted) -> HeldOut:
    """The test images as a held-out set, by a representation that is fitted already."""
    parts = problem.parts
    return _held_out_set(
        problem, fitted, np.concatenate([parts.test_seen, parts.test_unseen]), problem.unseen_classes
    )


def _divide(
    problem: Problem,
    representation: Representation,
    *,
    training: ImageIndices,
    held: ImageIndices,
    seen: ClassIndices,
    unseen: ClassIndices,
) -> tuple[Task, HeldOut]:
    fitted = representation.fit(problem, training)
    task = Task(
        features=fitted(problem.features, training),
        labels=torch.from_numpy(problem.labels[training].astype(np.int64)),
        semantics=torch.from_numpy(np.ascontiguousarray(problem.semantics, dtype=np.float32)),
        seen=torch.from_numpy(seen.astype(np.int64)),
        unseen=torch.from_numpy(unseen.astype(np.int64)),
        class_names=problem.class_names,
    )
    sample = torch.linspace(0, len(training) - 1, min(_USUAL, len(training))).long()
    held_out = _held_out_set(problem, fitted, held, unseen)
    return task, replace(held_out, training=task.features[sample] if len(training) else None)


def _held_out_set(problem: Problem, fitted: Fitted, held: ImageIndices, unseen: ClassIndices) -> HeldOut:
    is_unseen = np.zeros(len(problem.class_names), dtype=bool)
    is_unseen[unseen] = True
    return HeldOut(
        features=fitted(problem.features, held),
        labels=problem.labels[held].astype(np.int64),
        is_unseen=is_unseen,
        fitted=fitted,
    )
