"""CADA-VAE's model: both VAEs, and the classifiers on latents."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.methods.base import SavedModel
from dkgzsl.methods.peers.aligned_autoencoders import AlignedAutoencoders, Widths, draw_latents
from dkgzsl.methods.peers.conditional_networks import reparametrized
from dkgzsl.methods.peers.synthesized_softmax import LastStep, SoftmaxPair, check_kept
from dkgzsl.methods.shared.scaling import MinMax
from dkgzsl.methods.shared.softmax import LinearClassifier, LinearScores


@dataclass(frozen=True)
class AlignedModel:
    """Both VAEs, and the classifiers on latents.

    Attributes:
        networks: both VAEs.
        widths: of their layers.
        scaler: scale of the features, of the training images.
        classifiers: on latents.
        classifier_epochs: that both have had.
        last_step: how they were trained, and on which latents; None: dkgzsl 0.1 saved the model.
        seen: classes with training images.
        unseen: classes without.
        semantics: descriptions of all K classes, as they were given.
        class_names: names of all K classes, or none.
    """

    networks: AlignedAutoencoders
    widths: Widths
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
        return self.classifiers.scores(self._latent(features), len(self.semantics))

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log probabilities among the unseen classes; -inf for every other class."""
        return self.classifiers.conventional_scores(self._latent(features), len(self.semantics))

    @torch.no_grad()
    def _latent(self, features: Tensor) -> Tensor:
        mean, _ = self.networks.visual.encode(self.scaler.scale(features.to(self.semantics)))
        return mean

    @torch.no_grad()
    def synthesize(
        self, semantics: Float[Tensor, "classes semantic"], number: int, generator: torch.Generator
    ) -> Float[Tensor, "classes number visual"]:
        """`number` features for each description: the feature decoder on latents of the description.

        Args:
            semantics: of any length; the classes need not be those of the task.
            number: features a class.
            generator: source of the noise, on the model's device.

        Returns:
            Features on the scale of the unscaled ones.
        """
        described = functional.normalize(semantics.to(self.semantics), dim=1)
        latents = draw_latents(self.networks, described, number, generator)
        made = self.networks.visual.decode(latents.flatten(0, 1)).view(len(semantics), number, -1)
        return self.scaler.unscale(made)

    @torch.no_grad()
    def with_classes(
        self, semantics: Float[Tensor, "classes semantic"], unseen: Int[Tensor, " unseen"]
    ) -> AlignedModel:
        """The same networks over other described classes, both classifiers trained again, as a fit would.

        Args:
            semantics: of all classes; known class numbers keep their description.
            unseen: numbers of the described classes.

        Raises:
            RunError: the model was saved by dkgzsl 0.1.
        """
        last_step = check_kept(self.last_step)
        semantics, unseen = semantics.to(self.semantics), unseen.to(self.unseen).sort().values
        described, random = functional.normalize(semantics[unseen], dim=1), last_step.stream()
        reparametrized(last_step.features, last_step.features, random)  # what the seen classes' latents drew
        made = draw_latents(self.networks, described, last_step.settings.per_class, random)
        classifiers = last_step.retrained(made, unseen, self.classifier_epochs)
        return replace(self, semantics=semantics, unseen=unseen, classifiers=classifiers)

    def scores_module(self) -> nn.Module:
        """Unscaled features to the mean of their latent, and to the generalized classifier's logits."""
        encoder, generalized = self.networks.visual, self.classifiers.generalized
        hidden = LinearClassifier(
            encoder.hidden.weight, encoder.hidden.bias, torch.arange(len(encoder.hidden.bias))
        )
        weight = generalized.weight.double() @ encoder.mean.weight.double()
        bias = generalized.weight.double() @ encoder.mean.bias.double() + generalized.bias.double()
        return nn.Sequential(
            LinearScores.after_scaling(hidden, self.scaler.minimum, self.scaler.range),
            nn.ReLU(),
            LinearScores(weight, bias),
        )

    def save(self) -> SavedModel:
        """The model as tensors and JSON values."""
        weights = {f"networks.{name}": weight for name, weight in self.networks.state_dict().items()}
        return SavedModel(
            "cada-vae",
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
                "widths": asdict(self.widths),
                "class_names": list(self.class_names),
                "classifier_epochs": self.classifier_epochs,
                "last_step": self.last_step.values() if self.last_step else None,
            },
        )

    @classmethod
    def load(cls, saved: SavedModel) -> AlignedModel:
        """The model that `saved` was made from, on the CPU."""
        tensors = {name: tensor.cpu() for name, tensor in saved.tensors.items()}
        prefix = "networks."
        weights = {n.removeprefix(prefix): w for n, w in tensors.items() if n.startswith(prefix)}
        widths, semantics = Widths(**saved.values["widths"]), tensors["semantics"]
        with torch.device("meta"):
            networks = AlignedAutoencoders(len(tensors["scaler.minimum"]), semantics.shape[1], widths)
        networks.load_state_dict(weights, assign=True)
        return cls(
            networks=networks.requires_grad_(False),
            widths=widths,
            scaler=MinMax(tensors["scaler.minimum"], tensors["scaler.range"]),
            classifiers=SoftmaxPair.load(tensors),
            classifier_epochs=saved.values.get("classifier_epochs", 0),
            last_step=LastStep.load(tensors, saved.values.get("last_step")),
            seen=tensors["seen"],
            unseen=tensors["unseen"],
            semantics=semantics,
            class_names=tuple(saved.values["class_names"]),
        )
