"""From pixels to the vector that a model takes, as pure modules that torch can trace."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.data import number_features as drawn
from dkgzsl.features.backbones import Backbone
from dkgzsl.features.pooling import POWER
from dkgzsl.learning.refinement import Refiner
from dkgzsl.learning.visual import VisualFeatures
from dkgzsl.model.connected_components import component_areas
from dkgzsl.model.feature_denoising import FeatureDenoising, keep_largest


class PixelTokens(nn.Module):
    """Resized pixels 0 to 255 to a backbone's tokens, rounded to half precision as a feature store holds them."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.model, self._backbone = backbone.model, backbone
        shape = (1, 3, 1, 1)
        self.register_buffer("mean", torch.tensor(backbone.preprocessing.mean).reshape(shape))
        self.register_buffer("std", torch.tensor(backbone.preprocessing.std).reshape(shape))

    def forward(self, pixels: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch tokens channels"]:
        """The global token, then the regions row by row."""
        scaled = (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        return self._backbone.tokens(scaled).half().float()


class NumberTokens(nn.Module):
    """Pictures of `numbers` (0 paper to 16 ink) to their oriented gradients, and those seen by each patch.

    The same as `dkgzsl.data.number_features.image_features`, in tensors.
    """

    directions: Tensor
    binomial: Tensor
    masks: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(
            "directions", torch.arange(drawn.DIRECTIONS, dtype=torch.float32).reshape(1, -1, 1, 1)
        )
        self.register_buffer("binomial", torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16)
        self.register_buffer("masks", torch.from_numpy(drawn.region_masks().astype(np.float32)))

    def forward(self, pixels: UInt8[Tensor, "batch 8 16"]) -> Float[Tensor, "batch tokens channels"]:
        """The pooled feature, then each patch's own part of it."""
        paper = functional.pad(pixels.float(), (1, 1, 1, 1))
        across = (paper[:, 1:-1, 2:] - paper[:, 1:-1, :-2]) / 2
        down = (paper[:, 2:, 1:-1] - paper[:, :-2, 1:-1]) / 2
        length = (across.square() + down.square()).sqrt()
        # By the arctangent of a quotient: two arguments are no operation of ONNX. Right of the axis first, then
        # the left half turned by half a circle; where there is no gradient, the length of 0 takes it out.
        slope = down / torch.where(across == 0, torch.full_like(across, 1e-20), across)
        turn = torch.atan(slope) / (2 * math.pi) * drawn.DIRECTIONS
        turn = torch.where(across < 0, turn + drawn.DIRECTIONS / 2, turn)
        away = (turn[:, None] - self.directions).abs()
        away = torch.minimum(away, (drawn.DIRECTIONS - away).abs())
        maps = length[:, None] * (1 - away).clamp(min=0)
        smooth = functional.conv2d(maps.flatten(0, 1)[:, None], self.binomial, padding=1)
        cells = functional.avg_pool2d(smooth, drawn.CELL) * drawn.CELL**2
        pooled = cells.reshape(-1, 1, drawn.CHANNELS)
        return torch.cat([pooled, pooled * self.masks], dim=1)


class TokenFeatures(nn.Module):
    """Tokens to the one vector an image that the model takes; without `visual` the global token."""

    def __init__(self, visual: VisualFeatures | None) -> None:
        super().__init__()
        self.blocks: tuple[str, ...] = ("pooled",) if visual is None else visual.blocks
        self.refiner = None if visual is None else visual.refiner
        self.roots: tuple[bool, ...] = (False,) if visual is None else visual.scaling.roots
        self.scales: tuple[float, ...] = (1.0,) if visual is None else visual.scaling.scales
        if visual is not None:
            for name, mean in zip(self.blocks, visual.scaling.means, strict=True):
                self.register_buffer(f"mean_{name}", mean)

    def forward(self, tokens: Float[Tensor, "batch tokens channels"]) -> Float[Tensor, "batch features"]:
        """The blocks side by side."""
        found = self._blocks(tokens)
        if len(self.blocks) == 1:
            return found[self.blocks[0]]
        parts = []
        for name, root, scale in zip(self.blocks, self.roots, self.scales, strict=True):
            block = found[name].clamp(min=0).sqrt() if root else found[name]
            parts.append((block - getattr(self, f"mean_{name}")) * scale)
        return torch.cat(parts, dim=1)

    def _blocks(self, tokens: Tensor) -> dict[str, Tensor]:
        regions = tokens[:, 1:]
        found = {
            "pooled": tokens[:, 0],
            "mean": regions.mean(dim=1),
            "maximum": regions.amax(dim=1),
            # Training has refused negative features where this block is used.
            "generalised": regions.pow(POWER).mean(dim=1).pow(1 / POWER),
        }
        if self.refiner is not None:
            found |= _refined(self.refiner, tokens)
        return {name: found[name] for name in self.blocks}


def _refined(refiner: Refiner, tokens: Tensor) -> dict[str, Tensor]:
    """SOVR as `Refiner.read` has it."""
    regions = tokens[:, 1:] if refiner.denoising is None else denoised_regions(refiner.denoising, tokens)
    if refiner.attention_layer is None:
        return {"refined": regions.mean(dim=1)}
    attended = refiner.attention_layer(regions)
    return {"refined": attended.refined, "scores": attended.scores}


def denoised_regions(
    layer: FeatureDenoising, tokens: Float[Tensor, "batch tokens channels"]
) -> Float[Tensor, "batch regions channels"]:
    """FDE's regions, its connected components found by max-pooling."""
    encoded = layer.encode(tokens[:, 1:])
    saliency = layer.saliency(encoded, tokens[:, 0])
    areas = component_areas(saliency > layer.limits.threshold, layer.grid)
    cleaned = saliency * (areas >= layer.limits.area).to(saliency)
    return keep_largest(encoded * torch.sigmoid(cleaned).unsqueeze(2), layer.limits.kept)
