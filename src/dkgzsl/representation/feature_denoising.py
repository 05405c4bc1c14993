"""FDE, the feature denoising encoder: keeps the salient regions, weakens the others (DKGZSL, TCSVT 2025)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor, nn

from dkgzsl.cache import WeightCache, is_recording_graph
from dkgzsl.device import multiplies_in_bfloat16


class LowLinear(nn.Linear):
    """x W^T + b, in a lower precision where no gradient is wanted: x, W and b rounded to `reads_in`.

    The result is in float32. For a single image the product costs less than casting the weights, so they are cast
    once and cached. Where the device would emulate products in `reads_in`, and in a recorded graph, the same
    rounded numbers are multiplied in float32.

    Args:
        inputs: size of a row of x.
        outputs: size of a row of the result.
        reads_in: precision of inference; with float32 this is an ordinary linear layer.
    """

    def __init__(self, inputs: int, outputs: int, *, reads_in: torch.dtype) -> None:
        super().__init__(inputs, outputs)
        self.reads_in = reads_in
        self._cache: WeightCache[list[Tensor]] = WeightCache()

    def forward(self, values: Tensor) -> Tensor:
        """x W^T + b of the last axis; the axes in front may be any."""
        recording = is_recording_graph()
        if self.reads_in == torch.float32 or (torch.is_grad_enabled() and not recording):
            return super().forward(values)
        rounded = values.to(self.reads_in)
        if recording:
            return self._emulated(rounded, self._cast(torch.float32))
        if not multiplies_in_bfloat16(values.device):
            return self._emulated(rounded, self._cast_once(torch.float32))
        weight, bias = self._cast_once(self.reads_in)
        return nn.functional.linear(rounded, weight, bias).float()

    def _emulated(self, rounded: Tensor, weights: list[Tensor]) -> Tensor:
        weight, bias = weights
        return nn.functional.linear(rounded.float(), weight, bias).to(self.reads_in).float()

    def _cast_once(self, dtype: torch.dtype) -> list[Tensor]:
        return self._cache.get((self.weight, self.bias), dtype, lambda: self._cast(dtype))

    def _cast(self, dtype: torch.dtype) -> list[Tensor]:
        """The weights, rounded to `reads_in` and stored as `dtype`."""
        return [weight.detach().to(self.reads_in).to(dtype) for weight in (self.weight, self.bias)]


# Published for 196 regions; `RegionLimits` scales them to other grids.
_PUBLISHED_REGIONS = 196
_PUBLISHED_THRESHOLD = 0.05
_PUBLISHED_AREA = 30
_PUBLISHED_KEPT = 120

# Two cells of one map are neighbours along either diagonal, too; two maps of a batch never are.
_NEIGHBOURS = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])


class RegionLimits(NamedTuple):
    """The encoder's three limits for a grid of regions.

    Attributes:
        threshold: saliency below which a cell is background.
        area: cells that a connected component must have to stay.
        kept: number of regions that each channel keeps.
    """

    threshold: float
    area: int
    kept: int

    @classmethod
    def of(cls, regions: int) -> RegionLimits:
        """The published limits (0.05, 30, 120 at 196 regions) scaled to `regions`.

        Counts scale with the number of regions, rounded, at least 1. An even map of unit length over R regions is
        1 / sqrt(R) everywhere; the threshold stays at the same share of that, 0.7.
        """
        share = regions / _PUBLISHED_REGIONS
        return cls(
            threshold=_PUBLISHED_THRESHOLD / math.sqrt(share),
            area=max(1, round(_PUBLISHED_AREA * share)),
            kept=max(1, round(_PUBLISHED_KEPT * share)),
        )


class Denoised(NamedTuple):
    """FDE's output for a batch.

    Attributes:
        regions: gated region features, from 0 to 1; 0 where a channel drops the region.
        saliency: the cleaned map, of unit length before cleaning; exactly 0 where a cell was dropped.
    """

    regions: Float[Tensor, "batch regions channels"]
    saliency: Float[Tensor, "batch regions"]


class FeatureDenoising(nn.Module):
    """FDE: region tokens to gated region features.

    x = sigmoid(convolution over the region axis). The affinity of x with R learned unit queries, each multiplied
    by the global token, gives a saliency map. Cells below a threshold and small components are set to 0. The map
    gates x, and each channel keeps its largest regions only.

    Deviations from the released code: the encoder is trained (there it never takes a step), the cleaned map
    passes its gradient where cells stay, and the second auxiliary head, which has no loss, is left out.

    Args:
        channels: size of a token.
        grid: rows and columns of the regions.
        classes: number of classes of the auxiliary head.
        reads_in: precision of the convolution where no gradient is wanted; all else is in float32 then.
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        classes: int,
        *,
        reads_in: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.grid = grid
        regions = grid[0] * grid[1]
        self.limits = RegionLimits.of(regions)
        # Conv1d(channels, channels, 3) as one product: weights of the region before, the region, the region after.
        self.convolution = LowLinear(3 * channels, channels, reads_in=reads_in)
        self.queries = nn.Parameter(torch.randn(regions, channels))
        self.class_head = auxiliary_head(channels, classes)

    def encode(self, regions: Float[Tensor, "batch regions channels"]) -> Float[Tensor, "batch regions channels"]:
        """x: the regions after convolution and sigmoid, from 0 to 1, before the gate.

        Computed as a matrix product over the channels of three neighbouring regions: it takes a third of a
        convolution's time on a CPU, and the layout stays.
        """
        padded = nn.functional.pad(regions, (0, 0, 1, 1))
        before, after = padded[:, :-2], padded[:, 2:]
        return torch.sigmoid(self.convolution(torch.cat([before, regions, after], dim=2)))

    def saliency(
        self,
        encoded: Float[Tensor, "batch regions channels"],
        global_token: Float[Tensor, "batch channels"],
    ) -> Float[Tensor, "batch regions"]:
        """The saliency map of unit length, before cleaning, in float32 whatever the precision around it."""
        queries = nn.functional.normalize(self.queries, dim=1)
        # x^T (query * global) = (x * global)^T query: one product over the batch instead of a query set an image.
        affinity = (encoded * global_token.unsqueeze(1)) @ queries.T.to(encoded.dtype)
        return nn.functional.normalize(affinity.float().softmax(dim=2).mean(dim=1), dim=1)

    def forward(self, tokens: Float[Tensor, "batch tokens channels"]) -> Denoised:
        """Denoise tokens: the global token first, then the regions, row by row from the top."""
        encoded = self.encode(tokens[:, 1:])
        saliency = self.saliency(encoded, tokens[:, 0])
        saliency = saliency * large_components(saliency.detach(), self.grid, self.limits)
        gated = encoded * torch.sigmoid(saliency).unsqueeze(2).to(encoded.dtype)
        return Denoised(keep_largest(gated, self.limits.kept), saliency)

    def class_logits(self, denoised: Denoised) -> Float[Tensor, "batch classes"]:
        """Scores of the auxiliary head, for training alone: of the largest region of each channel."""
        logits: Tensor = self.class_head(denoised.regions.amax(dim=1))
        return logits


def auxiliary_head(channels: int, outputs: int) -> nn.Sequential:
    """C -> C/2 -> C/2 -> outputs with ReLU between."""
    hidden = channels // 2
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def large_components(
    saliency: Float[Tensor, "batch regions"], grid: tuple[int, int], limits: RegionLimits
) -> Bool[Tensor, "batch regions"]:
    """Cells above the threshold that belong to an 8-connected component of at least `limits.area` cells.

    Components are found in one call for the whole batch, on the CPU: only B x R booleans move between devices.
    """
    rows, columns = grid
    above = (saliency > limits.threshold).cpu().numpy().reshape(-1, rows, columns)
    components, _ = ndimage.label(above, structure=_NEIGHBOURS)
    large = np.bincount(components.ravel()) >= limits.area
    large[0] = False  # component 0 is the background
    return torch.from_numpy(large[components].reshape(len(saliency), -1)).to(saliency.device)


def keep_largest(
    features: Float[Tensor, "batch regions channels"], kept: int
) -> Float[Tensor, "batch regions channels"]:
    """Keep each channel's `kept` largest regions, and those equal to the smallest of them; set the rest to 0."""
    border = features.detach().topk(kept, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    return features * (features >= border)
