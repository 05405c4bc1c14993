"""A learned residual of solved prototypes through a meta-fusion unit (MFU).

The default form's use of the paper's unit: the knowledge k is the solved prototype itself, and m corrects it.
Deviations from DKGZSL: m is added with its own length, not with length 0.1; it starts at zero; the semantic term
is used at synthesis, too.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from dkgzsl.model.meta_fusion import FusionUnit


class PrototypeFusion(nn.Module):
    """m_c -> m_c + MLP(m_c) + normalize(W a_c + b) * scale, the identity at the start.

    Args:
        size: length of a prototype.
        semantic_size: length of a class description.
        inner_size: width of the unit's inner layer.
    """

    def __init__(self, size: int, semantic_size: int, inner_size: int = 256) -> None:
        super().__init__()
        self.unit = FusionUnit(semantic_size, inner_size, size)
        for parameter in self.unit.knowledge[2].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, prototypes: Float[Tensor, "classes dim"], descriptions: Float[Tensor, "classes semantic"]
    ) -> Float[Tensor, "classes dim"]:
        """Corrected prototypes of prepared descriptions."""
        residual: Tensor = self.unit(prototypes, self.unit.semantic_term(descriptions))
        return prototypes + residual
