"""The networks of the published form together (DKG2N, the dynamic knowledge-guided generator network)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dkgzsl.model.critic import Critic
from dkgzsl.model.generator import Generator
from dkgzsl.model.knowledge_transfer import KnowledgeTransfer
from dkgzsl.model.meta_fusion import Guidance, MetaFusion


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
