"""The published form's last step: softmax classifiers on real seen and synthesized unseen features.

Source: DKGZSL (IEEE TCSVT 2025); METHOD sections 2 and 3. The step is kept whole with its model, real features
included, so that it can be taken again when classes come or go: such a model is the one that would have been
trained with those classes in that order, since the generator has never seen an unseen class's description. On
another kind of device than the run was trained on it is another draw of the same training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.learning.randomness import seeded
from dkgzsl.learning.softmax import LinearClassifier, train_softmax
from dkgzsl.model.networks import GuidedGenerator

_SYNTHESIS, _GENERALIZED, _CONVENTIONAL = 2, 3, 4  # places of random streams; the adversarial training has 0 and 1


class Classifiers(NamedTuple):
    """What one epoch of the classifiers' training gave.

    Attributes:
        generalized: over seen and unseen classes (GZSL).
        conventional: over unseen classes (CZSL).
    """

    generalized: LinearClassifier
    conventional: LinearClassifier


@dataclass(frozen=True)
class ClassifierTraining:
    """Everything that decides the classifiers, but for the generator and the described classes.

    Attributes:
        features: real features of seen classes as the adversarial training had them, scaled, in its precision.
        labels: the class of each.
        per_class: features synthesized for each unseen class; images a step, too.
        learning_rate: Adam's.
        seed: of the run.
        generator_epoch: epochs the generator was trained for; with the seed it names the random streams.
    """

    features: Float[Tensor, "images visual"]
    labels: Int[Tensor, " images"]
    per_class: int
    learning_rate: float
    seed: int
    generator_epoch: int

    def train(
        self,
        generator: GuidedGenerator,
        described: Float[Tensor, "unseen semantic"],
        unseen: Int[Tensor, " unseen"],
        *,
        fusion_weight: float,
        epochs: int,
    ) -> Iterator[Classifiers]:
        """Synthesize unseen features, train both classifiers, and yield them after each epoch.

        Args:
            generator: as trained.
            described: descriptions of the unseen classes, scaled as in training.
            unseen: their numbers, ascending.
            fusion_weight: length of the guidance.
            epochs: passes over real and synthesized features.
        """
        made = generator.synthesize(
            described, self.per_class, self._stream(_SYNTHESIS), fusion_weight=fusion_weight
        )
        synthesized = made.flatten(0, 1).to(self.features.dtype)
        labels = unseen.repeat_interleave(self.per_class)
        generalized = train_softmax(
            torch.cat([self.features, synthesized]),
            torch.cat([self.labels, labels]),
            torch.cat([torch.unique(self.labels), unseen]).sort().values,
            epochs=epochs,
            batch_size=self.per_class,
            learning_rate=self.learning_rate,
            generator=self._stream(_GENERALIZED),
        )
        conventional = train_softmax(
            synthesized,
            labels,
            unseen,
            epochs=epochs,
            batch_size=self.per_class,
            learning_rate=self.learning_rate,
            generator=self._stream(_CONVENTIONAL),
        )
        for joint, alone in zip(generalized, conventional, strict=True):
            yield Classifiers(joint, alone)

    def _stream(self, place: int) -> torch.Generator:
        return seeded(self.seed, place, self.generator_epoch, device=self.features.device)

    def tensors(self) -> dict[str, Tensor]:
        """The real features and their classes, by name."""
        return {"training.features": self.features, "training.labels": self.labels}

    def values(self) -> dict[str, Any]:
        """The rest, as JSON values."""
        return {name: getattr(self, name) for name in _VALUES}

    @classmethod
    def from_saved(cls, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> ClassifierTraining:
        """The training whose `tensors` and `values` these are."""
        known = {name: values[name] for name in _VALUES}
        return cls(tensors["training.features"], tensors["training.labels"], **known)


_VALUES = ("per_class", "learning_rate", "seed", "generator_epoch")
