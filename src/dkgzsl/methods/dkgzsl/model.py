"""The published form's model: two softmax classifiers and the generator that their features came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dkgzsl.methods.base import SavedModel
from dkgzsl.methods.dkgzsl.networks import GuidedGenerator, with_weights
from dkgzsl.methods.shared.scaling import MinMax
from dkgzsl.methods.shared.softmax import LinearClassifier, LinearScores, train_softmax
from dkgzsl.methods.shared.training import seeded

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


@dataclass(frozen=True)
class DKGZSLModel:
    """A generator, and the classifiers trained on real seen and synthesized unseen features.

    Attributes:
        generator: KTN, MFU and generator, for further synthesis.
        fusion_weight: length of the guidance.
        description_scale: what descriptions are multiplied by before the networks take them.
        scaler: scale of the features, of the training images.
        classifiers: the generalized and the conventional one.
        classifier_epochs: epochs that both have had.
        training: how they were trained, and on which real features.
        seen: classes with training images.
        unseen: classes without.
        semantics: descriptions of all K classes, as they were given.
        class_names: names of all K classes, or none.
    """

    generator: GuidedGenerator
    fusion_weight: float
    description_scale: float
    scaler: MinMax
    classifiers: Classifiers
    classifier_epochs: int
    training: ClassifierTraining
    seen: Int[Tensor, " seen"]
    unseen: Int[Tensor, " unseen"]
    semantics: Float[Tensor, "classes semantic"]
    class_names: tuple[str, ...] = ()

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log probabilities over all classes; -inf for a class outside the task."""
        return self._spread(self.classifiers.generalized, features)

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log probabilities among the unseen classes; -inf for every other class."""
        return self._spread(self.classifiers.conventional, features)

    def _spread(self, classifier: LinearClassifier, features: Tensor) -> Tensor:
        scaled = self.scaler.scale(features.to(classifier.weight))
        known = classifier.log_probabilities(scaled)
        scores = known.new_full((len(features), len(self.semantics)), -torch.inf)
        return scores.index_copy_(1, classifier.classes, known)

    def synthesize(
        self, semantics: Float[Tensor, "classes semantic"], number: int, generator: torch.Generator
    ) -> Float[Tensor, "classes number visual"]:
        """`number` features for each description, on the scale of the unscaled features.

        Args:
            semantics: descriptions on the scale of the task's; the classes need not be those of the task.
            number: features a class.
            generator: source of the noise, on the model's device.
        """
        scaled = semantics.to(self.semantics) * self.description_scale
        made = self.generator.synthesize(scaled, number, generator, fusion_weight=self.fusion_weight)
        return self.scaler.unscale(made)

    def scores_module(self) -> nn.Module:
        """Unscaled features to the generalized classifier's logits."""
        return LinearScores.after_scaling(self.classifiers.generalized, self.scaler.minimum, self.scaler.range)

    def with_classes(
        self, semantics: Float[Tensor, "classes semantic"], unseen: Int[Tensor, " unseen"]
    ) -> DKGZSLModel:
        """The same generator over other described classes, both classifiers trained again.

        The same numbers and the same descriptions give the same model, on the same kind of device: it does not
        matter which classes were there first. Deviation: the published form has no such step.
        """
        unseen = unseen.to(self.unseen).sort().values
        semantics = semantics.to(self.semantics)
        *_, classifiers = self.training.train(
            self.generator,
            semantics[unseen] * self.description_scale,
            unseen,
            fusion_weight=self.fusion_weight,
            epochs=self.classifier_epochs,
        )
        return replace(self, semantics=semantics, unseen=unseen, classifiers=classifiers)

    def save(self) -> SavedModel:
        """The model as tensors and JSON values."""
        tensors = {f"generator.{name}": weight for name, weight in self.generator.state_dict().items()}
        for name, classifier in self.classifiers._asdict().items():
            tensors[f"{name}.weight"] = classifier.weight
            tensors[f"{name}.bias"] = classifier.bias
        tensors |= self.training.tensors()
        tensors |= {
            "scaler.minimum": self.scaler.minimum,
            "scaler.range": self.scaler.range,
            "seen": self.seen,
            "unseen": self.unseen,
            "semantics": self.semantics,
        }
        return SavedModel(
            kind="dkgzsl",
            tensors=tensors,
            values={
                "sizes": list(self.generator.sizes),
                "fusion_weight": self.fusion_weight,
                "description_scale": self.description_scale,
                "class_names": list(self.class_names),
                "classifier_epochs": self.classifier_epochs,
                "training": self.training.values(),
            },
        )

    @classmethod
    def load(cls, saved: SavedModel) -> DKGZSLModel:
        """The model that `saved` was made from, on the CPU."""
        tensors = {name: tensor.cpu() for name, tensor in saved.tensors.items()}

        def classifier(name: str, classes: Tensor) -> LinearClassifier:
            return LinearClassifier(tensors[f"{name}.weight"], tensors[f"{name}.bias"], classes)

        seen, unseen = tensors["seen"], tensors["unseen"]
        prefix = "generator."
        weights = {n.removeprefix(prefix): w for n, w in tensors.items() if n.startswith(prefix)}
        semantic_size, hidden_size, visual_size = saved.values["sizes"]
        return cls(
            generator=with_weights(semantic_size, hidden_size, visual_size, weights),
            fusion_weight=saved.values["fusion_weight"],
            description_scale=saved.values["description_scale"],
            scaler=MinMax(tensors["scaler.minimum"], tensors["scaler.range"]),
            classifiers=Classifiers(
                generalized=classifier("generalized", torch.cat([seen, unseen]).sort().values),
                conventional=classifier("conventional", unseen),
            ),
            classifier_epochs=saved.values["classifier_epochs"],
            training=ClassifierTraining.from_saved(tensors, saved.values["training"]),
            seen=seen,
            unseen=unseen,
            semantics=tensors["semantics"],
            class_names=tuple(saved.values["class_names"]),
        )
