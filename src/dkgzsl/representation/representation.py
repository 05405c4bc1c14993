"""From a problem's features to one vector an image, fitted on training images alone.

A representation is named by its blocks, joined by `+`: `pooled`, `mean`, `maximum` and `generalised` learn
nothing; `refined` and `scores` are read off SOVR, which is trained on the training images first. Which
representation serves is chosen on validation classes, as every setting is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dkgzsl.config import RefinementConfig
from dkgzsl.data.problem import Features, ImageIndices, Problem
from dkgzsl.errors import ConfigError, nearest
from dkgzsl.representation.attributes import attributes_for
from dkgzsl.representation.blocks import Block, VisualFeatures, fit_visual, global_vectors, read_store
from dkgzsl.representation.sovr import FeatureKind, Progress, Refiner, train_refiner

BLOCKS: tuple[Block, ...] = get_args(Block)
_LEARNED: tuple[str, ...] = get_args(FeatureKind)


@runtime_checkable
class Fitted(Protocol):
    """Turns features of any image of the backbone into one vector an image."""

    def __call__(self, features: Features, positions: ImageIndices) -> Float[Tensor, "images visual"]:
        """Vectors of the images at `positions` of an array of pooled features or region tokens."""
        ...


@runtime_checkable
class Representation(Protocol):
    """A way to turn features into vectors, before it is fitted."""

    @property
    def name(self) -> str:
        """Its blocks, joined by `+`."""
        ...

    def fit(self, problem: Problem, training: ImageIndices) -> Fitted:
        """Learn what is to be learned from the training images alone."""
        ...


@dataclass(frozen=True)
class Pooled:
    """The backbone's own vector: pooled features as they are, or the global token. Learns nothing."""

    name: str = "pooled"

    def fit(self, problem: Problem, training: ImageIndices) -> Pooled:
        """Nothing to learn."""
        del problem, training
        return self

    def __call__(self, features: Features, positions: ImageIndices) -> Float[Tensor, "images visual"]:
        """Rows, or global tokens, unscaled."""
        return global_vectors(features, positions)


@dataclass
class BlockCache:
    """Trains SOVR once for each set of training images, and reads each block once, whoever asks.

    Args:
        config: of SOVR's training.
        seed: of its weights and batches.
        device: where to compute.
        progress: told of each training step.
    """

    config: RefinementConfig
    seed: int
    device: str = "cpu"
    progress: Progress | None = None
    _refiners: dict[bytes, Refiner] = field(default_factory=dict)
    _blocks: dict[tuple[bytes, str], Tensor] = field(default_factory=dict)

    def refiner(self, problem: Problem, training: ImageIndices) -> Refiner:
        """SOVR, trained on these images."""
        key = np.sort(training).tobytes()
        if key not in self._refiners:
            attributes = attributes_for(problem, self.config, seed=self.seed)
            self._refiners[key] = train_refiner(
                problem.features,
                problem.labels,
                training,
                grid=grid_of(problem),
                attributes=attributes.table,
                vectors=attributes.vectors,
                config=self.config,
                seed=self.seed,
                device=self.device,
                record={"attributes": attributes.source, "vectors": attributes.vectors_from},
                progress=self.progress,
            )
        return self._refiners[key]

    def blocks(
        self, problem: Problem, training: ImageIndices, names: Sequence[Block]
    ) -> dict[str, Float[Tensor, "images _"]]:
        """Blocks of all images, missing ones read in one pass."""
        learned = np.sort(training).tobytes()
        keys: dict[str, tuple[bytes, str]] = {n: (learned if n in _LEARNED else b"", n) for n in names}
        missing = [name for name in names if keys[name] not in self._blocks]
        if missing:
            refiner = self.refiner(problem, training) if set(missing) & set(_LEARNED) else None
            read = read_store(problem.features, np.arange(len(problem.labels)), missing, refiner)
            self._blocks |= {keys[name]: block for name, block in read.items()}
        return {name: self._blocks[keys[name]] for name in names}


@dataclass(frozen=True)
class ConcatenatedBlocks:
    """Several blocks, each with its say.

    Args:
        names: the blocks.
        cache: where they come from.
    """

    names: tuple[Block, ...]
    cache: BlockCache

    @property
    def name(self) -> str:
        """The blocks, joined by `+`."""
        return "+".join(self.names)

    def fit(self, problem: Problem, training: ImageIndices) -> FittedBlocks:
        """Train SOVR where it is needed; weigh the blocks by the training images."""
        blocks = self.cache.blocks(problem, training, self.names)
        refiner = self.cache.refiner(problem, training) if set(self.names) & set(_LEARNED) else None
        visual = fit_visual(blocks, training, blocks=self.names, refiner=refiner)
        return FittedBlocks(visual, problem.features, blocks)


@dataclass(frozen=True)
class FittedBlocks:
    """Weighed blocks.

    Attributes:
        visual: tokens -> vectors, and what is saved.
        known: an array whose blocks have been read already.
        blocks: those blocks.
    """

    visual: VisualFeatures
    known: Features | None = None
    blocks: dict[str, Tensor] | None = None

    def __call__(self, features: Features, positions: ImageIndices) -> Float[Tensor, "images visual"]:
        """The blocks side by side."""
        if self.blocks is not None and features is self.known:
            rows = torch.from_numpy(np.asarray(positions, dtype=np.int64))
            return self.visual.scaling({name: block[rows] for name, block in self.blocks.items()})
        return self.visual.scaling(read_store(features, positions, self.visual.blocks, self.visual.refiner))


def learns(name: str) -> bool:
    """Whether a representation needs SOVR to be trained."""
    return any(part.strip() in _LEARNED for part in name.split("+"))


def grid_of(problem: Problem) -> tuple[int, int]:
    """Rows and columns of the regions: as the features' record has them, or else a square.

    Raises:
        ConfigError: they are not known.
    """
    recorded = problem.provenance.get("grid") or (problem.provenance.get("store") or {}).get("grid")
    if recorded:
        return int(recorded[0]), int(recorded[1])
    regions = problem.features.shape[1] - 1
    side = round(regions**0.5)
    if side * side != regions:
        raise ConfigError(f"the grid of the {regions} regions is not known", fix="use --representation pooled")
    return side, side


def representations(
    names: Sequence[str],
    config: RefinementConfig,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Representation]:
    """The named representations, sharing one training of SOVR.

    Raises:
        ConfigError: a block is unknown.
    """
    cache = BlockCache(config, seed, device, progress)
    made: list[Representation] = []
    for name in names:
        blocks: list[Block] = []
        for part in name.split("+"):
            known = next((block for block in BLOCKS if block == part.strip()), None)
            if known is None:
                raise ConfigError(
                    f"unknown block {part!r} of a representation", fix=nearest(part, BLOCKS, of="blocks")
                )
            if known in blocks:
                raise ConfigError(
                    f"the representation {name!r} names the block {known!r} twice", fix="once is enough"
                )
            blocks.append(known)
        made.append(Pooled() if blocks == ["pooled"] else ConcatenatedBlocks(tuple(blocks), cache))
    return made
