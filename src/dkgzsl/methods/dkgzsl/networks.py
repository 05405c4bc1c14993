"""The networks of the published form together (DKG2N, the dynamic knowledge-guided generator network)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.methods.shared.critic import Critic
from dkgzsl.methods.shared.training import Linear


class Knowledge(NamedTuple):
    """Visual knowledge of each class, at the generator's two levels.

    Attributes:
        hidden: k1, at the hidden layer, not negative.
        visual: k2, at the output layer, before the sigmoid.
    """

    hidden: Float[Tensor, "classes hidden"]
    visual: Float[Tensor, "classes visual"]


class KnowledgeTransfer(nn.Module):
    """KTN of DKGZSL (IEEE TCSVT 2025): k1 = relu(W a + b), k2 = W' k1 + b', reconstruction sigmoid(k2).

    Args:
        semantic_size: length of a class description a.
        hidden_size: length of k1.
        visual_size: length of a visual feature, and of k2.
    """

    def __init__(self, semantic_size: int, hidden_size: int, visual_size: int) -> None:
        super().__init__()
        self.hidden = Linear(semantic_size, hidden_size)
        self.visual = Linear(hidden_size, visual_size)

    def forward(self, semantics: Float[Tensor, "classes semantic"]) -> Knowledge:
        """The knowledge of each described class."""
        hidden = torch.relu(self.hidden(semantics))
        return Knowledge(hidden, self.visual(hidden))


def reconstruction_loss(
    visual: Float[Tensor, "images visual"], features: Float[Tensor, "images visual"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of sigmoid(k2) against features in [0, 1], summed over a feature, mean over images.

    The published objective takes it times 0.1. The released code adds 1e-12 inside the logarithm; here the
    logits are used, which needs no such guard.
    """
    return functional.binary_cross_entropy_with_logits(visual, features, reduction="sum") / len(features)


class Guidance(NamedTuple):
    """What is added to the generator's two layers: vectors of one given length, the guidance weight.

    Attributes:
        hidden: added to the hidden layer.
        visual: added to the output layer, before the sigmoid.
    """

    hidden: Float[Tensor, "rows hidden"]
    visual: Float[Tensor, "rows visual"]


class FusionUnit(nn.Module):
    """One MFU: m = MLP(k) + normalize(W a + b) * scale, the second term in training only.

    MLP is d -> inner -> d with ReLU between; `normalize` divides a row by its Euclidean length.

    Args:
        semantic_size: length of a class description a.
        inner_size: width of the MLP's inner layer (published: half the hidden size, at both levels).
        size: d, the length of k and m.
    """

    def __init__(self, semantic_size: int, inner_size: int, size: int) -> None:
        super().__init__()
        self.knowledge = nn.Sequential(Linear(size, inner_size), nn.ReLU(), Linear(inner_size, size))
        self.semantic = Linear(semantic_size, size)
        self.scale = nn.Parameter(torch.zeros(size))

    def forward(
        self, knowledge: Float[Tensor, "classes d"], semantic_term: Float[Tensor, "classes d"] | None
    ) -> Float[Tensor, "classes d"]:
        """m of each class; `semantic_term` None is the form used at synthesis."""
        fused: Tensor = self.knowledge(knowledge)
        return fused if semantic_term is None else fused + semantic_term

    def semantic_term(self, semantics: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes d"]:
        """The second term of m. It changes with the unit's weights alone, not with the knowledge."""
        return functional.normalize(self.semantic(semantics), dim=1) * self.scale


class MetaFusion(nn.Module):
    """The two MFUs of DKGZSL (IEEE TCSVT 2025), one for each layer of the generator.

    The second takes k2 before the sigmoid.
    """

    def __init__(self, semantic_size: int, hidden_size: int, visual_size: int) -> None:
        super().__init__()
        self.hidden = FusionUnit(semantic_size, hidden_size // 2, hidden_size)
        self.visual = FusionUnit(semantic_size, hidden_size // 2, visual_size)

    def forward(
        self, knowledge: Knowledge, semantic_terms: Guidance | None = None, *, weight: float = 0.1
    ) -> Guidance:
        """weight * normalize(m) of both levels, a row a class; without `semantic_terms` as used at synthesis.

        The knowledge gets no gradient: KTN learns from its reconstruction alone.
        """
        terms = (None, None) if semantic_terms is None else semantic_terms
        hidden = self.hidden(knowledge.hidden.detach(), terms[0])
        visual = self.visual(knowledge.visual.detach(), terms[1])
        return Guidance(
            weight * functional.normalize(hidden, dim=1),
            weight * functional.normalize(visual, dim=1),
        )

    def semantic_terms(self, semantics: Float[Tensor, "classes semantic"]) -> Guidance:
        """The part of both units that the description alone decides, for training."""
        return Guidance(self.hidden.semantic_term(semantics), self.visual.semantic_term(semantics))


class Generator(nn.Module):
    """The generator of DKGZSL's DKG2N (IEEE TCSVT 2025).

    h1 = relu(W1 [z; a] + b1) + g1; h2 = W3 h1 + b3 + g2; output sigmoid(h2), where g1 and g2 are the guidance
    (`MetaFusion`), absent in the unguided form. W1 [z; a] is kept as the sum of two products, one for the noise
    and one for the description.

    Args:
        noise_size: length of the noise z (published: that of a description).
        semantic_size: length of a class description a.
        hidden_size: width of the hidden layer.
        visual_size: length of a visual feature.
    """

    def __init__(self, noise_size: int, semantic_size: int, hidden_size: int, visual_size: int) -> None:
        super().__init__()
        self.noise = Linear(noise_size, hidden_size, bias=False)
        self.semantic = Linear(semantic_size, hidden_size)
        self.visual = Linear(hidden_size, visual_size)

    def forward(
        self,
        noise: Float[Tensor, "images noise"],
        class_part: Float[Tensor, "images hidden"],
        guidance: Guidance | None = None,
    ) -> Float[Tensor, "images visual"]:
        """One feature in (0, 1) for each row of noise.

        Args:
            noise: standard normal.
            class_part: `self.semantic` of the description of each row's class.
            guidance: of each row's class.
        """
        hidden = torch.relu(self.noise(noise) + class_part)
        if guidance is None:
            return torch.sigmoid(self.visual(hidden))
        return torch.sigmoid(self.visual(hidden + guidance.hidden) + guidance.visual)


class GuidedGenerator(nn.Module):
    """KTN, MFU and generator of one size: all that synthesis takes. The noise is as long as a description.

    Args:
        semantic_size: length of a class description.
        hidden_size: width of the hidden layers (published: 4096).
        visual_size: length of a visual feature.
    """

    def __init__(self, semantic_size: int, hidden_size: int, visual_size: int) -> None:
        super().__init__()
        self.sizes = (semantic_size, hidden_size, visual_size)
        self.knowledge = KnowledgeTransfer(semantic_size, hidden_size, visual_size)
        self.fusion = MetaFusion(semantic_size, hidden_size, visual_size)
        self.generator = Generator(semantic_size, semantic_size, hidden_size, visual_size)

    @torch.no_grad()
    def synthesize(
        self,
        semantics: Float[Tensor, "classes semantic"],
        number: int,
        random: torch.Generator,
        *,
        fusion_weight: float = 0.1,
    ) -> Float[Tensor, "classes number visual"]:
        """`number` guided features in (0, 1) for each description, without MFU's semantic term.

        Args:
            semantics: scaled as in training.
            number: features a class.
            random: source of the noise, on the networks' device.
            fusion_weight: length of the guidance, as in training.
        """
        guidance = self.fusion(self.knowledge(semantics), weight=fusion_weight)
        class_part: Tensor = self.generator.semantic(semantics)
        made = class_part.new_empty(len(semantics), number, self.sizes[2])
        for row, features in enumerate(made):  # a class at a time: memory for one class's hidden layer only
            noise = torch.randn(
                number, self.sizes[0], generator=random, device=class_part.device, dtype=class_part.dtype
            )
            here = slice(row, row + 1)
            features.copy_(
                self.generator(
                    noise,
                    class_part[here].expand(number, -1),
                    Guidance(guidance.hidden[here].expand(number, -1), guidance.visual[here].expand(number, -1)),
                )
            )
        return made


class Networks(GuidedGenerator):
    """The same and the critic: all that is trained."""

    def __init__(self, semantic_size: int, hidden_size: int, visual_size: int) -> None:
        super().__init__(semantic_size, hidden_size, visual_size)
        self.critic = Critic(visual_size, semantic_size, hidden_size)

    @classmethod
    def initialised(
        cls, semantic_size: int, hidden_size: int, visual_size: int, random: torch.Generator
    ) -> Networks:
        """With weights from N(0, 0.02), biases 0, the scale of MFU's semantic term from N(0, 1).

        `random` is on the CPU, so that every device starts from the same weights.
        """
        with torch.device("meta"):  # torch's own first weights would only be drawn to be replaced
            networks = cls(semantic_size, hidden_size, visual_size)
        networks.to_empty(device="cpu")
        with torch.no_grad():
            for name, parameter in networks.named_parameters():
                deviation = 0.0 if name.endswith("bias") else 1.0 if name.endswith("scale") else 0.02
                parameter.copy_(deviation * torch.randn(parameter.shape, generator=random))
        return networks

    def snapshot(self) -> GuidedGenerator:
        """A copy of what synthesis takes, which further training leaves as it is."""
        weights = {n: w.clone() for n, w in self.state_dict().items() if not n.startswith("critic.")}
        return with_weights(*self.sizes, weights)


def with_weights(
    semantic_size: int, hidden_size: int, visual_size: int, weights: Mapping[str, Tensor]
) -> GuidedGenerator:
    """A generator that holds the given weights, by their names in a `state_dict`."""
    with torch.device("meta"):
        made = GuidedGenerator(semantic_size, hidden_size, visual_size)
    made.load_state_dict(weights, assign=True)
    return made.requires_grad_(False)
