"""The last step of generative peers: a softmax on real features of seen and synthesized ones of unseen classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.errors import ConfigError
from dkgzsl.methods.base import SavedModel
from dkgzsl.methods.peers.conditional_networks import ConditionalGenerator
from dkgzsl.methods.shared.scaling import MinMax
from dkgzsl.methods.shared.softmax import LinearClassifier, train_softmax
from dkgzsl.methods.shared.training import seeded

_GENERALIZED, _CONVENTIONAL = 100, 101  # places of random streams; trainings use lower ones


@dataclass(frozen=True)
class SoftmaxSettings:
    """How the last step is trained.

    Attributes:
        per_class: features synthesized for each unseen class.
        learning_rate: Adam's.
        epochs: passes over real and synthesized features.
        batch_size: features a step.

    Raises:
        ConfigError: a number is out of its range.
    """

    per_class: int
    learning_rate: float
    epochs: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("per_class", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"the classifier's {name} must be at least 1, not {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ConfigError(f"the classifier's learning_rate must be above 0, not {self.learning_rate}")


@dataclass(frozen=True)
class SoftmaxPair:
    """Two linear classifiers on the same features.

    Attributes:
        generalized: over seen and unseen classes (GZSL).
        conventional: over unseen classes (CZSL).
    """

    generalized: LinearClassifier
    conventional: LinearClassifier

    @classmethod
    def train(
        cls,
        real: tuple[Float[Tensor, "images size"], Int[Tensor, " images"]],
        made: Float[Tensor, "unseen number size"],
        seen: Int[Tensor, " seen"],
        unseen: Int[Tensor, " unseen"],
        settings: SoftmaxSettings,
        *,
        place: tuple[int, ...],
    ) -> Iterator[tuple[int, SoftmaxPair]]:
        """Train both; yields them after the epochs 1, 2, 4, 8 ... and the last. Products run as the features are.

        Args:
            real: features of seen classes and their classes.
            made: features synthesized for each unseen class.
            seen: the seen classes, ascending.
            unseen: the unseen classes, ascending.
            settings: of the training.
            place: seed and epoch, which decide first weights and order.
        """
        synthesized, of_unseen = made.flatten(0, 1), unseen.repeat_interleave(made.shape[1])

        def training(features: Tensor, labels: Tensor, classes: Tensor, stream: int) -> Iterator[LinearClassifier]:
            return train_softmax(
                features,
                labels,
                classes,
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                generator=seeded(*place, stream, device=features.device),
            )

        both = torch.cat([real[0], synthesized]), torch.cat([real[1], of_unseen])
        generalized = training(*both, torch.cat([seen, unseen]).sort().values, _GENERALIZED)
        conventional = training(synthesized, of_unseen, unseen, _CONVENTIONAL)
        for epoch, pair in enumerate(zip(generalized, conventional, strict=True), 1):
            if epoch == settings.epochs or epoch & (epoch - 1) == 0:
                yield epoch, cls(*pair)

    def scores(self, features: Float[Tensor, "images size"], classes: int) -> Float[Tensor, "images classes"]:
        """Log probabilities over all of `classes` classes; -inf for one outside the task."""
        return _spread(self.generalized, features, classes)

    def conventional_scores(
        self, features: Float[Tensor, "images size"], classes: int
    ) -> Float[Tensor, "images classes"]:
        """Log probabilities among the unseen ones of `classes` classes; -inf for every other."""
        return _spread(self.conventional, features, classes)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, from which `load` makes the pair again."""
        return {
            f"{name}.{part}": getattr(classifier, part)
            for name, classifier in (("generalized", self.generalized), ("conventional", self.conventional))
            for part in ("weight", "bias", "classes")
        }

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor]) -> SoftmaxPair:
        """What `tensors` was made from; other names are left alone."""

        def classifier(name: str) -> LinearClassifier:
            return LinearClassifier(*(tensors[f"{name}.{part}"] for part in ("weight", "bias", "classes")))

        return cls(classifier("generalized"), classifier("conventional"))


def _spread(classifier: LinearClassifier, features: Tensor, classes: int) -> Tensor:
    known = classifier.log_probabilities(features.to(classifier.weight))
    scores = known.new_full((len(known), classes), -torch.inf)
    return scores.index_copy_(1, classifier.classes, known)


@dataclass(frozen=True)
class SynthesisModel:
    """A conditional generator, and the classifiers trained on what it made.

    Attributes:
        method: whose model this is.
        generator: for further synthesis.
        description_scale: what descriptions are multiplied by before the networks take them.
        scaler: scale of the features, of the training images.
        classifiers: on scaled features.
        seen: classes with training images.
        unseen: classes without.
        semantics: descriptions of all K classes, as they were given.
        class_names: names of all K classes, or none.
    """

    method: str
    generator: ConditionalGenerator
    description_scale: float
    scaler: MinMax
    classifiers: SoftmaxPair
    seen: Int[Tensor, " seen"]
    unseen: Int[Tensor, " unseen"]
    semantics: Float[Tensor, "classes semantic"]
    class_names: tuple[str, ...] = ()

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log probabilities over all classes; -inf for a class outside the task."""
        return self.classifiers.scores(self._scaled(features), len(self.semantics))

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log probabilities among the unseen classes; -inf for every other class."""
        return self.classifiers.conventional_scores(self._scaled(features), len(self.semantics))

    def _scaled(self, features: Tensor) -> Tensor:
        return self.scaler.scale(features.to(self.scaler.minimum))

    def synthesize(
        self, semantics: Float[Tensor, "classes semantic"], number: int, generator: torch.Generator
    ) -> Float[Tensor, "classes number visual"]:
        """`number` features for each description, on the scale of the unscaled features.

        Args:
            semantics: descriptions on the scale of the task's; the classes need not be those of the task.
            number: features a class.
            generator: source of the noise, on the model's device.
        """
        described = semantics.to(self.semantics) * self.description_scale
        return self.scaler.unscale(self.generator.synthesize(described, number, generator))

    def save(self) -> SavedModel:
        """The model as tensors and JSON values."""
        weights = {f"generator.{name}": weight for name, weight in self.generator.state_dict().items()}
        return SavedModel(
            self.method,
            {
                **weights,
                **self.classifiers.tensors(),
                "scaler.minimum": self.scaler.minimum,
                "scaler.range": self.scaler.range,
                "seen": self.seen,
                "unseen": self.unseen,
                "semantics": self.semantics,
            },
            {
                "sizes": list(self.generator.sizes),
                "output": self.generator.output,
                "description_scale": self.description_scale,
                "class_names": list(self.class_names),
            },
        )

    @classmethod
    def load(cls, saved: SavedModel) -> SynthesisModel:
        """The model that `saved` was made from, on the CPU."""
        tensors = {name: tensor.cpu() for name, tensor in saved.tensors.items()}
        values: Mapping[str, Any] = saved.values
        prefix = "generator."
        weights = {n.removeprefix(prefix): w for n, w in tensors.items() if n.startswith(prefix)}
        noise_size, semantic_size, hidden_size, visual_size = values["sizes"]
        with torch.device("meta"):
            generator = ConditionalGenerator(noise_size, semantic_size, hidden_size, visual_size, values["output"])
        generator.load_state_dict(weights, assign=True)
        return cls(
            method=saved.method,
            generator=generator.requires_grad_(False),
            description_scale=values["description_scale"],
            scaler=MinMax(tensors["scaler.minimum"], tensors["scaler.range"]),
            classifiers=SoftmaxPair.load(tensors),
            seen=tensors["seen"],
            unseen=tensors["unseen"],
            semantics=tensors["semantics"],
            class_names=tuple(values["class_names"]),
        )
