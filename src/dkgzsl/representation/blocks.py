"""From region tokens to the one vector an image that methods take: pooled, refined, or several concatenated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from dkgzsl.device import sent
from dkgzsl.errors import DataError
from dkgzsl.features.arrays import MultiBackboneFeatures
from dkgzsl.features.checked_rows import CheckedRows
from dkgzsl.features.stream import TokenArray, chunks, read_ahead
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.representation.attribute_attention import AttentionOutput
from dkgzsl.representation.sovr import FeatureKind, Refiner, SavedRefiner

Pooling = Literal["pooled", "mean", "maximum", "generalised"]
POWER = 3.0
"""Exponent of the generalised mean: between the mean (1) and the maximum (infinite)."""


def pool(
    tokens: Float[Tensor, "batch tokens channels"], which: Sequence[Pooling]
) -> dict[str, Float[Tensor, "batch channels"]]:
    """Pool the tokens of each image in several ways.

    `pooled` is the global token itself (average pool of a CNN, class token of a ViT). The others pool the regions;
    `generalised` is (mean x^3)^(1/3) (GeM; Radenovic et al., 2019, arXiv 1711.02512).

    Args:
        tokens: the global token first, then the regions.
        which: the poolings to compute.

    Returns:
        The pooled vectors by pooling.

    Raises:
        DataError: the generalised mean is asked for, and a feature is negative.
    """
    regions = tokens[:, 1:]
    pooled: dict[str, Tensor] = {}
    for kind in which:
        if kind == "pooled":
            pooled[kind] = tokens[:, 0]
        elif kind == "mean":
            pooled[kind] = regions.mean(dim=1)
        elif kind == "maximum":
            pooled[kind] = regions.amax(dim=1)
        else:
            if bool((regions < 0).any()):
                raise DataError(
                    "the generalised mean needs features that are never negative",
                    fix="take the maximum, or the mean, for this backbone",
                )
            pooled[kind] = regions.pow(POWER).mean(dim=1).pow(1 / POWER)
    return pooled


Blocks = Mapping[str, Float[Tensor, "images _"]]


@dataclass(frozen=True)
class Concatenation:
    """Blocks of features, each centred, brought to a total variance of its weight squared, then concatenated.

    What comes after (principal components, whitening) weighs directions by their variance, so a block's total
    variance is its weight. A block that is never negative in training is replaced by its square root first, which
    evens out the few large activations of a rectified network. A single block is passed on as it is.

    Attributes:
        names: the blocks in their order.
        roots: for each block, whether it is replaced by its square root.
        means: for each block, what is subtracted after the root.
        scales: for each block, the factor that it is multiplied by at last.
    """

    names: tuple[str, ...]
    roots: tuple[bool, ...]
    means: tuple[Float[Tensor, " _"], ...]
    scales: tuple[float, ...]

    @classmethod
    def fit(
        cls, blocks: Blocks, weights: Mapping[str, float], training: Integer[Tensor, " training"]
    ) -> Concatenation:
        """Fit means and scales on the training images alone.

        Args:
            blocks: by name; rows are images.
            weights: by block: the standard deviation of the block in the result, all its features taken together.
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
        """Concatenate blocks.

        Args:
            blocks: those of `names`, unscaled. A negative value in a block with square roots counts as 0.
        """
        if len(self.names) == 1:
            return blocks[self.names[0]]
        parts = [
            ((blocks[name].clamp(min=0).sqrt() if root else blocks[name]) - mean) * scale
            for name, root, mean, scale in zip(self.names, self.roots, self.means, self.scales, strict=True)
        ]
        return torch.cat(parts, dim=1)


Block = Literal["pooled", "mean", "maximum", "generalised", "refined", "scores", "extra"]
"""Poolings of the regions, SOVR's refined feature, its attribute scores, or the vectors of extra features."""
WEIGHTS: Final[Mapping[str, float]] = {
    "pooled": 1.0,
    "mean": 1.0,
    "maximum": 1.0,
    "generalised": 1.0,
    "refined": 1.0,
    "scores": 0.5,
    "extra": 1.0,
}
"""Standard deviation of a block in a concatenation; chosen on validation classes of CUB100 (docs/lab-notes.md)."""
_CHUNK = 64


@dataclass(frozen=True)
class VisualFeatures:
    """Turns an image's tokens into its vector: fitted on training images, applied to any image.

    Attributes:
        blocks: the blocks that are concatenated, in their order.
        scaling: their roots, means and scales.
        refiner: SOVR, where a block needs it; else None.
    """

    blocks: tuple[Block, ...]
    scaling: Concatenation
    refiner: Refiner | None

    def __call__(self, tokens: Float[Tensor, "batch tokens channels"]) -> Float[Tensor, "batch features"]:
        """The vectors of a batch of images.

        Raises:
            DataError: the blocks contain `extra`, which tokens of one backbone do not have.
        """
        return self.scaling(read_blocks(tokens, self.blocks, self.refiner))

    @torch.inference_mode()
    def with_attention(
        self, tokens: Float[Tensor, "batch tokens channels"]
    ) -> tuple[Float[Tensor, "batch features"], AttentionOutput | None]:
        """The vectors, and ARA's output (None where there is no ARA), from one pass.

        Raises:
            DataError: the blocks contain `extra`, which tokens of one backbone do not have.
        """
        if self.refiner is None or self.refiner.attention_layer is None:
            return self(tokens), None
        output = self.refiner.attend(tokens)
        others: list[Block] = [block for block in self.blocks if block not in get_args(FeatureKind)]
        found = {**read_blocks(tokens, others, None), "refined": output.refined, "scores": output.scores}
        return self.scaling({block: found[block] for block in self.blocks}), output

    def save(self) -> SavedRefiner:
        """Tensors and JSON values that `load` takes."""
        tensors = {f"mean.{name}": mean for name, mean in zip(self.blocks, self.scaling.means, strict=True)}
        values: dict[str, Any] = {
            "blocks": list(self.blocks),
            "roots": list(self.scaling.roots),
            "scales": list(self.scaling.scales),
            "refiner": None,
        }
        if self.refiner is not None:
            saved = self.refiner.save()
            tensors |= {f"refiner.{name}": tensor for name, tensor in saved.tensors.items()}
            values["refiner"] = dict(saved.values)
        return SavedRefiner(tensors, values)

    @classmethod
    def load(cls, saved: SavedRefiner) -> VisualFeatures:
        """The features whose `save` returned `saved`."""
        values, tensors = saved.values, saved.tensors
        blocks = tuple(values["blocks"])
        means = tuple(tensors[f"mean.{name}"] for name in blocks)
        scaling = Concatenation(blocks, tuple(values["roots"]), means, tuple(values["scales"]))
        refiner = None
        if values["refiner"] is not None:
            own = {k.removeprefix("refiner."): v for k, v in tensors.items() if k.startswith("refiner.")}
            refiner = Refiner.load(SavedRefiner(own, values["refiner"]))
        return cls(blocks, scaling, refiner)

    def write(self, path: Path) -> None:
        """Write one safetensors file.

        Raises:
            RunError: it cannot be written.
        """
        saved = self.save()
        write_checkpoint(path, saved.tensors, saved.values)

    @classmethod
    def read(cls, path: Path) -> VisualFeatures | None:
        """Read what `write` wrote; None where there is no such file.

        Raises:
            RunError: the file cannot be read.
        """
        found = read_checkpoint(path)
        return None if found is None else cls.load(SavedRefiner(*found))


def read_blocks(
    tokens: Float[Tensor, "batch tokens channels"], blocks: Sequence[Block], refiner: Refiner | None
) -> dict[str, Float[Tensor, "batch _"]]:
    """Compute blocks of a batch.

    Args:
        tokens: of one backbone, the global token first.
        blocks: which to compute.
        refiner: SOVR, for the blocks that need it.

    Returns:
        The blocks by name, in the order of `blocks`.

    Raises:
        DataError: `extra` is among the blocks: one backbone's tokens do not have it.
    """
    poolings: list[Pooling] = [b for b in blocks if b in get_args(Pooling)]  # type: ignore[misc]
    refined: list[FeatureKind] = [b for b in blocks if b in get_args(FeatureKind)]  # type: ignore[misc]
    if "extra" in blocks:
        raise DataError(
            "one backbone's tokens are not enough: this representation concatenates several backbones",
            fix="give the features of all of them, with --extra-features",
        )
    found = pool(tokens, poolings)
    if refined:
        if refiner is None:
            raise ValueError(f"{refined} need a refiner")
        found |= refiner.read(tokens, refined)
    return {block: found[block] for block in blocks}


def read_store(
    tokens: TokenArray,
    positions: Integer[np.ndarray, " images"],
    blocks: Sequence[Block],
    refiner: Refiner | None,
) -> dict[str, Float[Tensor, "images _"]]:
    """Compute blocks of many images in one streamed pass over their features.

    Args:
        tokens: [images, 1 + regions, channels] with the global token first, or pooled features [images, channels].
        positions: rows of the images.
        blocks: which to compute.
        refiner: SOVR, for the blocks that need it; the pass runs on its device.

    Returns:
        The blocks by name, a row a position, on the CPU.

    Raises:
        DataError: `extra` is among the blocks, and `tokens` holds one backbone alone.
    """
    if "extra" in blocks:
        other = [block for block in blocks if block != "extra"]
        known = read_store(tokens, positions, other, refiner) if other else {}
        return {**known, "extra": _read_extra(tokens, positions)}
    if tokens.ndim == 2 or tokens.shape[1] == 1:  # without regions every block is the one vector
        return {block: global_vectors(tokens, positions) for block in blocks}
    device = torch.device("cpu") if refiner is None else next(refiner.parameters(), torch.zeros(0)).device
    found: dict[str, Tensor] = {}
    done = 0
    for _, stored in read_ahead(tokens, chunks(positions, _CHUNK)):
        for block, features in read_blocks(sent(stored, device).float(), blocks, refiner).items():
            # Copied: a pooled block is a view that would keep all of its batch's tokens in memory.
            rows = found.setdefault(block, torch.empty(len(positions), features.shape[1]))
            rows[done : done + len(features)] = features
        done += len(stored)
    return found


def global_vectors(
    features: TokenArray, positions: Integer[np.ndarray, " images"]
) -> Float[Tensor, "images visual"]:
    """The backbone's own vectors, unscaled: rows of pooled features, or global tokens.

    Args:
        features: [images, channels], or [images, 1 + regions, channels] with the global token first.
        positions: rows of the images.
    """
    if features.ndim == 2:
        rows = features[positions]
    elif isinstance(features, np.ndarray | CheckedRows):  # a memory map reads the chosen tokens alone
        rows = features[positions, 0]
    else:
        stream = read_ahead(features, chunks(positions, 256))
        rows = np.concatenate([stored[:, 0].numpy() for _, stored in stream])
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))


def _read_extra(features: TokenArray, positions: Integer[np.ndarray, " images"]) -> Float[Tensor, "images visual"]:
    """The vectors of the extra features, each of unit length, so that every backbone has the same weight."""
    if not isinstance(features, MultiBackboneFeatures):
        raise DataError(
            "this representation needs the extra features that it was trained with",
            fix="name them with --extra-features",
        )
    vectors = [global_vectors(other, positions) for other in features.others.values()]
    return torch.cat([torch.nn.functional.normalize(one, dim=1) for one in vectors], dim=1)


def fit_visual(
    features: Mapping[str, Float[Tensor, "images _"]],
    training: Integer[np.ndarray, " training"],
    *,
    blocks: Sequence[Block],
    refiner: Refiner | None,
) -> VisualFeatures:
    """Fit the concatenation of some blocks on the training images alone.

    Args:
        features: blocks of all images, as `read_store` returns them.
        training: rows of the training images.
        blocks: those to concatenate, in their order.
        refiner: SOVR that the blocks were computed with; kept only where one of `blocks` needs it.
    """
    chosen: dict[str, Tensor] = {block: features[block] for block in blocks}
    scaling = Concatenation.fit(chosen, WEIGHTS, torch.from_numpy(training.astype(np.int64)))
    needed = any(block in get_args(FeatureKind) for block in blocks)
    return VisualFeatures(tuple(blocks), scaling, refiner if needed else None)
