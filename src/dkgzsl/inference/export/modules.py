"""A trained recognizer as one pure module: pixels, tokens or features in, calibrated probabilities out.

Training and prediction use caches, masks of -inf, SciPy's labelling and Python's branches. Here fixed tensor
operations replace them, so that the whole can be traced into a graph. A model brings its own part (`Exportable`).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.errors import RunError
from dkgzsl.evaluation.in_distribution import InDistribution
from dkgzsl.features.backbones import Backbone
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.methods.base import Exportable
from dkgzsl.methods.registry import unable
from dkgzsl.representation.blocks import POWER, VisualFeatures
from dkgzsl.representation.feature_denoising import FeatureDenoising, keep_largest
from dkgzsl.representation.sovr import Refiner


def longest_way(grid: tuple[int, int]) -> int:
    """Steps that any two cells of one 8-connected component are apart within it, at most.

    A shortest way has no shortcuts, so of the four cells of a 2 x 2 block, all neighbours of each other, it
    visits two at most; ceil(rows / 2) x ceil(columns / 2) such blocks cover the grid.
    """
    rows, columns = grid
    return 2 * ((rows + 1) // 2) * ((columns + 1) // 2) - 1


def component_areas(above: Bool[Tensor, "batch regions"], grid: tuple[int, int]) -> Float[Tensor, "batch regions"]:
    """Cells of the 8-connected component that each marked cell belongs to; 0 for the others.

    Every marked cell starts with a different number and takes the largest among its marked neighbours, as many
    times as the longest way within a component has steps; by then a component's cells share one number. The grid
    fixes the count of steps, so that the graph has neither loops nor branches.

    Args:
        above: marked cells, the grid's rows from top to bottom.
        grid: rows and columns.
    """
    marked = above.to(torch.float32).reshape(-1, 1, *grid)
    numbers = torch.arange(1, grid[0] * grid[1] + 1, dtype=torch.float32, device=above.device).reshape(1, 1, *grid)
    numbers = numbers * marked
    for _ in range(longest_way(grid)):
        numbers = functional.max_pool2d(numbers, 3, stride=1, padding=1) * marked
    own = numbers.flatten(1)
    areas: Tensor = (own[:, :, None] == own[:, None, :]).to(torch.float32).sum(dim=2)
    return areas * marked.flatten(1)


class PixelTokens(nn.Module):
    """Resized pixels 0 to 255 to a backbone's tokens, rounded as the features that were trained on.

    Args:
        backbone: what to run.
        stored: precision of the features that were trained on; a feature store holds half precision.
    """

    def __init__(self, backbone: Backbone, stored: torch.dtype = torch.float16) -> None:
        super().__init__()
        self.model, self._backbone, self._stored = backbone.model, backbone, stored

    def forward(self, pixels: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch tokens channels"]:
        """The global token, then the regions row by row."""
        scaled = self._backbone.preprocessing.scale(pixels.permute(0, 3, 1, 2))
        return self._backbone.tokens(scaled).to(self._stored).float()


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
        """The blocks, concatenated."""
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
    output = refiner.attention_layer(regions)
    return {"refined": output.refined, "scores": output.scores}


def denoised_regions(
    layer: FeatureDenoising, tokens: Float[Tensor, "batch tokens channels"]
) -> Float[Tensor, "batch regions channels"]:
    """FDE's regions, its connected components found by max-pooling."""
    encoded = layer.encode(tokens[:, 1:])
    saliency = layer.saliency(encoded, tokens[:, 0])
    areas = component_areas(saliency > layer.limits.threshold, layer.grid)
    cleaned = saliency * (areas >= layer.limits.area).to(saliency)
    return keep_largest(encoded * torch.sigmoid(cleaned).unsqueeze(2), layer.limits.kept)


class Decision(nn.Module):
    """Vectors to calibrated probabilities and in-distribution scores (see `dkgzsl.evaluation.in_distribution`).

    Args:
        scores: vectors to the model's scores.
        recognizer: whose decision it is.
        kept: columns of the classes that are recognised.
    """

    kept: Tensor
    offsets: Tensor

    def __init__(self, scores: nn.Module, recognizer: Recognizer, kept: Int[Tensor, " classes"]) -> None:
        super().__init__()
        self.scores, self.temperature = scores, recognizer.calibration.temperature
        self.register_buffer("kept", kept)
        known = torch.from_numpy(recognizer.is_known)
        self.register_buffer("offsets", torch.from_numpy(recognizer.offsets)[known].float())
        found = recognizer.in_distribution
        described = torch.zeros(len(recognizer.class_names), dtype=torch.bool)
        described[recognizer.model.unseen.cpu()] = True
        usual = torch.ones_like(described) if found is None or described[known].all() else ~described
        self.register_buffer("usual", usual[known].nonzero()[:, 0])
        self.in_distribution = None if found is None else InDistributionScore(found, described[known])

    def forward(
        self, vectors: Float[Tensor, "batch features"]
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, " batch"]]:
        """softmax((scores + offsets) / temperature); how well the image fits the classes."""
        stacked = self.scores(vectors).index_select(1, self.kept) + self.offsets
        clear = stacked.amax(dim=1) - stacked.index_select(1, self.get_buffer("usual")).mean(dim=1)
        fit = clear if self.in_distribution is None else self.in_distribution(vectors, stacked, clear)
        return torch.softmax(stacked / self.temperature, dim=1), fit


class InDistributionScore(nn.Module):
    """`InDistribution.score` as tensor operations.

    Args:
        found: what an image needs.
        described: which of the columns are classes known by a description.
    """

    def __init__(self, found: InDistribution, described: Bool[Tensor, " classes"]) -> None:
        super().__init__()
        known = found.features
        least = (0.0, 0.0) if found.clearness is None else tuple(found.level * one for one in found.clearness)
        self.root, self.rest, self.asked = known.root, known.rest, found.clearness is not None
        kind = described.long()
        constants = {
            "mean": known.mean, "axes": known.axes, "variances": known.variances,
            "largest": torch.tensor(found.distance)[kind], "least": torch.tensor(least)[kind],
        }  # fmt: skip
        for name, value in constants.items():
            self.register_buffer(name, value.float())

    def forward(
        self,
        vectors: Float[Tensor, "batch features"],
        stacked: Float[Tensor, "batch classes"],
        clear: Float[Tensor, " batch"],
    ) -> Float[Tensor, " batch"]:
        """The smaller of accepted distance to distance, and clearness to least clearness."""
        mean, axes, variances = self.get_buffer("mean"), self.get_buffer("axes"), self.get_buffer("variances")
        centred = (vectors.clamp(min=0).sqrt() if self.root else vectors) - mean
        along = centred @ axes
        left = (centred.square().sum(1) - along.square().sum(1)).clamp(min=0)
        distance = ((along.square() / variances).sum(1) + left / self.rest) / mean.shape[0]
        best = stacked.argmax(dim=1)
        tiny = torch.finfo(torch.float32).tiny
        near = self.get_buffer("largest").index_select(0, best) / distance.clamp(min=tiny)
        if not self.asked:
            return near
        return torch.minimum(near, clear / self.get_buffer("least").index_select(0, best))


def recognition_module(recognizer: Recognizer, first: nn.Module | None) -> nn.Module:
    """From tokens, or from vectors where the recognizer takes pooled features, to the decision.

    Columns are `recognizer.known_names`.

    Args:
        recognizer: what is exported.
        first: what makes tokens of pixels; None leaves that outside.

    Raises:
        RunError: its model or representation cannot be exported.
    """
    visual = recognizer.visual
    if visual is not None and "extra" in visual.blocks:
        raise RunError(
            "features of several backbones are not exported",
            fix="train on one backbone's features to export",
        )
    if not isinstance(recognizer.model, Exportable):
        raise unable(recognizer.model, "exportable")
    task = torch.cat([recognizer.model.seen, recognizer.model.unseen]).sort().values
    known = torch.from_numpy(recognizer.is_known)
    stages: list[nn.Module] = [
        Decision(recognizer.model.scores_module(), recognizer, known[task].nonzero()[:, 0]),
    ]
    if first is not None:
        stages = [first, TokenFeatures(visual), *stages]
    elif visual is not None:
        stages = [TokenFeatures(visual), *stages]
    return nn.Sequential(*stages).eval()
