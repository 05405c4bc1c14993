"""The last step of generative peers: a softmax on real features of seen and synthesized ones of unseen classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dkgzsl.errors import RunError
from dkgzsl.methods.base import SavedModel
from dkgzsl.methods.peers.conditional_networks import ConditionalGenerator
from dkgzsl.methods.shared.scaling import MinMax
from dkgzsl.methods.shared.softmax import LinearClassifier, LinearScores, train_softmax
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
    """

    per_class: int
    learning_rate: float
    epochs: int
    batch_size: int


@dataclass(frozen=True)
class LastStep:
    """All that decides both classifiers, but for the networks and the described classes.

    Attributes:
        features: real features of seen classes, scaled or encoded, in the precision of the products.
        labels: the class of each.
        settings: of the training.
        place: seed, stream and epoch of the networks: they name the random streams.
    """

    features: Float[Tensor, "images size"]
    labels: Int[Tensor, " images"]
    settings: SoftmaxSettings
    place: tuple[int, ...]

    def stream(self) -> torch.Generator:
        """From which features or latents are drawn."""
        return seeded(*self.place, device=self.features.device)

    def train(
        self, made: Float[Tensor, "unseen number size"], unseen: Int[Tensor, " unseen"]
    ) -> Iterator[tuple[int, SoftmaxPair]]:
        """Train both; yields them after the epochs 1, 2, 4, 8 ... and the last.

        Args:
            made: features synthesized for each unseen class.
            unseen: the unseen classes, ascending.
        """
        settings, of_unseen = self.settings, unseen.repeat_interleave(made.shape[1])
        synthesized = made.flatten(0, 1)

        def training(features: Tensor, labels: Tensor, classes: Tensor, stream: int) -> Iterator[LinearClassifier]:
            return train_softmax(
                features,
                labels,
                classes,
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                generator=seeded(*self.place, stream, device=features.device),
            )

        features, labels = torch.cat([self.features, synthesized]), torch.cat([self.labels, of_unseen])
        classes = torch.cat([torch.unique(self.labels), unseen]).sort().values
        generalized = training(features, labels, classes, _GENERALIZED)
        conventional = training(synthesized, of_unseen, unseen, _CONVENTIONAL)
        for epoch, pair in enumerate(zip(generalized, conventional, strict=True), 1):
            if epoch == settings.epochs or epoch & (epoch - 1) == 0:
                yield epoch, SoftmaxPair(*pair)

    def retrained(
        self, made: Float[Tensor, "unseen number size"], unseen: Int[Tensor, " unseen"], epochs: int
    ) -> SoftmaxPair:
        """Both classifiers after so many epochs."""
        *_, (_, classifiers) = replace(self, settings=replace(self.settings, epochs=epochs)).train(made, unseen)
        return classifiers

    def tensors(self) -> dict[str, Tensor]:
        """The real features and their classes, by name."""
        return {"training.features": self.features, "training.labels": self.labels}

    def values(self) -> dict[str, Any]:
        """The rest, as JSON values."""
        return {**asdict(self.settings), "place": list(self.place)}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], values: Mapping[str, Any] | None) -> LastStep | None:
        """What `tensors` and `values` were made from; None where there are no values: dkgzsl 0.1 kept none."""
        if values is None:
            return None
        settings = SoftmaxSettings(**{name: value for name, value in values.items() if name != "place"})
        return cls(tensors["training.features"], tensors["training.labels"], settings, tuple(values["place"]))


def check_kept(last_step: LastStep | None) -> LastStep:
    """The last step, where the model has kept it.

    Raises:
        RunError: dkgzsl 0.1 saved the model, which did not keep it.
    """
    if last_step is None:
        raise RunError(
            "dkgzsl 0.1 saved this model, without the features that training its classifiers again needs",
            fix="train it again",
        )
    return last_step


@dataclass(frozen=True)
class SoftmaxPair:
    """Two linear classifiers on the same features.

    Attributes:
        generalized: over seen and unseen classes (GZSL).
        conventional: over unseen classes (CZSL).
    """

    generalized: LinearClassifier
    conventional: LinearClassifier

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
        kind: of the model, the name of its method.
        generator: for further synthesis.
        description_scale: what descriptions are multiplied by before the networks take them.
        scaler: scale of the features, of the training images.
        classifiers: on scaled features.
        classifier_epochs: that both have had.
        last_step: how they were trained, and on which real features; None: dkgzsl 0.1 saved the model.
        seen: classes with training images.
        unseen: classes without.
        semantics: descriptions of all K classes, as they were given.
        class_names: names of all K classes, or none.
    """

    kind: str
    generator: ConditionalGenerator
    description_scale: float
    scaler: MinMax
    classifiers: SoftmaxPair
    classifier_epochs: int
    last_step: LastStep | None
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

    def with_classes(
        self, semantics: Float[Tensor, "classes semantic"], unseen: Int[Tensor, " unseen"]
    ) -> SynthesisModel:
        """The same generator over other described classes, both classifiers trained again, as a fit would.

        Args:
            semantics: of all classes; known class numbers keep their description.
            unseen: numbers of the described classes.

        Raises:
            RunError: the model was saved by dkgzsl 0.1.
        """
        last_step = check_kept(self.last_step)
        semantics, unseen = semantics.to(self.semantics), unseen.to(self.unseen).sort().values
        made = synthesized_for(self.generator, semantics[unseen] * self.description_scale, last_step)
        classifiers = last_step.retrained(made, unseen, self.classifier_epochs)
        return replace(self, semantics=semantics, unseen=unseen, classifiers=classifiers)

    def scores_module(self) -> nn.Module:
        """Unscaled features to the generalized classifier's logits."""
        return LinearScores.after_scaling(self.classifiers.generalized, self.scaler.minimum, self.scaler.range)

    def save(self) -> SavedModel:
        """The model as tensors and JSON values."""
        weights = {f"generator.{name}": weight for name, weight in self.generator.state_dict().items()}
        return SavedModel(
            self.kind,
            {
                **weights,
                **self.classifiers.tensors(),
                **(self.last_step.tensors() if self.last_step else {}),
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
                "classifier_epochs": self.classifier_epochs,
                "last_step": self.last_step.values() if self.last_step else None,
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
            kind=saved.kind,
            generator=generator.requires_grad_(False),
            description_scale=values["description_scale"],
            scaler=MinMax(tensors["scaler.minimum"], tensors["scaler.range"]),
            classifiers=SoftmaxPair.load(tensors),
            classifier_epochs=values.get("classifier_epochs", 0),
            last_step=LastStep.load(tensors, values.get("last_step")),
            seen=tensors["seen"],
            unseen=tensors["unseen"],
            semantics=tensors["semantics"],
            class_names=tuple(values["class_names"]),
        )


def synthesized_for(
    generator: ConditionalGenerator, described: Float[Tensor, "unseen semantic"], last_step: LastStep
) -> Float[Tensor, "unseen number visual"]:
    """Scaled features for the last step, in its precision.

    Args:
        generator: as trained.
        described: descriptions of the unseen classes, scaled as in training.
        last_step: for which they are made.
    """
    precision = last_step.features.dtype
    with torch.autocast(described.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        made = generator.synthesize(described, last_step.settings.per_class, last_step.stream())
    return made.to(precision)
