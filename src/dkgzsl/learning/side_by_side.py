"""Several features of an image as one vector, each with its say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

Blocks = Mapping[str, Float[Tensor, "images _"]]


@dataclass(frozen=True)
class SideBySide:
    """Blocks of features, each centred and brought to one total variance, times its weight, then put in a row.

    What comes after (principal components, whitening) weighs directions by their variance, so a block's say is
    its total variance. A block that is never negative in training is replaced by its square root first, which
    evens out the few large activations of a rectified network; a lone block is passed on as it is.

    Attributes:
        names: the blocks in their order.
        roots: which are replaced by their square roots.
        means: subtracted after that.
        scales: multiplied after that.
    """

    names: tuple[str, ...]
    roots: tuple[bool, ...]
    means: tuple[Float[Tensor, " _"], ...]
    scales: tuple[float, ...]

    @classmethod
    def fit(
        cls, blocks: Blocks, weights: Mapping[str, float], training: Integer[Tensor, " training"]
    ) -> SideBySide:
        """Fit on the training images alone.

        Args:
            blocks: by name, rows are images.
            weights: of each block; its standard deviation, over all its features together, in the result.
            training: rows of the training images.
        """
        roots, means, scales = [], [], []
        for name, block in blocks.items():
            own = block[training]
            roots.append(bool((own >= 0).all()))
            own = own.sqrt() if roots[-1] else own
            means.append(own.mean(dim=0))
            spread = float((own - means[-1]).square().sum(dim=1).mean().sqrt())
            scales.append(weights[name] / spread if spread > 0 else 0.0)
        return cls(tuple(blocks), tuple(roots), tuple(means), tuple(scales))

    def __call__(self, blocks: Blocks) -> Float[Tensor, "images features"]:
        """The blocks side by side; a negative value in a block with square roots counts as 0."""
        if len(self.names) == 1:
            return blocks[self.names[0]]
        parts = [
            ((blocks[name].clamp(min=0).sqrt() if root else blocks[name]) - mean) * scale
            for name, root, mean, scale in zip(self.names, self.roots, self.means, self.scales, strict=True)
        ]
        return torch.cat(parts, dim=1)
