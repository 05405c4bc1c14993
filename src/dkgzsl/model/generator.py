"""From noise and a class description to a visual feature."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dkgzsl.model.meta_fusion import Guidance


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
        self.noise = nn.Linear(noise_size, hidden_size, bias=False)
        self.semantic = nn.Linear(semantic_size, hidden_size)
        self.visual = nn.Linear(hidden_size, visual_size)

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
