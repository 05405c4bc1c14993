"""From a problem's features to one vector an image, fitted on training images alone.

A representation is named by its blocks, joined by `+`: `pooled`, `mean`, `maximum` and `generalised` learn
nothing; `refined` and `scores` are outputs of SOVR, which is trained on the training images first; `extra` are the
vectors of extra features. The representation is chosen on validation classes, as every setting is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
    """A fitted representation: turns features of the backbone into one vector an image."""

    def __call__(self, features: Features, positions: ImageIndices) -> Float[Tensor, "images visual"]:
        """The vectors of some images.

        Args:
            features: pooled features [images, channels], or tokens [images, 1 + regions, channels].
            positions: rows of the images.
        """
        ...


@runtime_checkable
class Representation(Protocol):
    """A representation before it is fitted."""

    @property
    def name(self) -> str:
        """Its blocks, joined by `+`."""
        ...

    def fit(self, problem: Problem, training: ImageIndices) -> Fitted:
        """Fit on the training images alone.

        Args:
            problem: the data.
            training: positions of the training images.
        """
        ...


@dataclass(frozen=True)
class Pooled:
    """The backbone's own vector: pooled features as they are, or the global token. It learns nothing."""

    name: str = "pooled"

    def fit(self, problem: Problem, training: ImageIndices) -> Pooled:
        """Itself: there is nothing to learn."""
        del problem, training
        return self

    def __call__(self, features: Features, positions: ImageIndices) -> Float[Tensor, "images visual"]:
        """Rows of pooled features, or global tokens, unscaled."""
        return global_vectors(features, positions)


@dataclass
class BlockCache:
    """Keeps SOVR and the blocks of all images, by training images: SOVR is trained once for all representations.

    Args:
        config: of SOVR's training.
        seed: of its weights and batches.
        device: where to compute.
        progress: called after each training step.
    """

    config: RefinementConfig
    seed: int
    device: str = "cpu"
    progress: Progress | None = None
    _refiners: dict[bytes, Refiner] = field(default_factory=dict)
    _blocks: dict[tuple[bytes, str], Tensor] = field(default_factory=dict)

    def refiner(self, problem: Problem, training: ImageIndices) -> Refiner:
        """SOVR, trained on the images at positions `training`."""
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
        """Blocks of all images by name; those that are not in the cache are computed in one pass."""
        learned = np.sort(training).tobytes()
        keys: dict[str, tuple[bytes, str]] = {n: (learned if n in _LEARNED else b"", n) for n in names}
        missing = [name for name in names if keys[name] not in self._blocks]
        if missing:
            refiner = self.refiner(problem, training) if set(missing) & set(_LEARNED) else None
            computed = read_store(problem.features, np.arange(len(problem.labels)), missing, refiner)
            self._blocks |= {keys[name]: block for name, block in computed.items()}
        return {name: self._blocks[keys[name]] for name in names}


@dataclass(frozen=True)
class ConcatenatedBlocks:
    """The concatenation of some blocks, each with its weight (`blocks.WEIGHTS`).

    Args:
        names: the blocks, in their order.
        cache: computes the blocks, and keeps them for other representations.
    """

    names: tuple[Block, ...]
    cache: BlockCache

    @property
    def name(self) -> str:
        """The blocks, joined by `+`."""
        return "+".join(self.names)

    def fit(self, problem: Problem, training: ImageIndices) -> FittedBlocks:
        """Train SOVR where a block needs it, and fit the concatenation on the training images."""
        blocks = self.cache.blocks(problem, training, self.names)
        refiner = self.cache.refiner(problem, training) if set(self.names) & set(_LEARNED) else None
        visual = fit_visual(blocks, training, blocks=self.names, refiner=refiner)
        return FittedBlocks(visual, problem.features, blocks)


@dataclass(frozen=True)
class FittedBlocks:
    """A fitted concatenation of blocks.

    Attributes:
        visual: turns tokens into vectors; it is what a run saves.
        known: features whose blocks have been computed already, compared by identity; None: no such features.
        blocks: the blocks of `known` by name, a row an image.
    """

    visual: VisualFeatures
    known: Features | None = None
    blocks: dict[str, Tensor] | None = None

    def __call__(self, features: Features, positions: ImageIndices) -> Float[Tensor, "images visual"]:
        """The concatenated blocks of some images."""
        if self.blocks is not None and features is self.known:
            rows = torch.from_numpy(np.asarray(positions, dtype=np.int64))
            return self.visual.scaling({name: block[rows] for name, block in self.blocks.items()})
        return self.visual.scaling(read_store(features, positions, self.visual.blocks, self.visual.refiner))


def read_fitted(path: Path) -> Fitted:
    """The fitted representation that a run saved in a file; the backbone's own vector where there is no file.

    Raises:
        RunError: the file cannot be read.
    """
    visual = VisualFeatures.read(path)
    return Pooled() if visual is None else FittedBlocks(visual)


def on_device(fitted: Fitted, device: torch.device) -> Fitted:
    """The representation with SOVR, where it has it, on a device: there the tokens are refined.

    Args:
        fitted: changed in place.
        device: of the computation; the vectors come back on the CPU.
    """
    if isinstance(fitted, FittedBlocks) and fitted.visual.refiner is not None:
        fitted.visual.refiner.to(device)
    return fitted


def learns(name: str) -> bool:
    """Whether SOVR must be trained for the representation of that name."""
    return any(part.strip() in _LEARNED for part in name.split("+"))


def grid_of(problem: Problem) -> tuple[int, int]:
    """Rows and columns of the regions: as recorded with the features, or else those of a square.

    Raises:
        ConfigError: nothing is recorded, and the number of regions is no square.
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
    """The representations of some names, which share one training of SOVR.

    Args:
        names: each the names of blocks, joined by `+`.
        config: of SOVR's training.
        seed: of SOVR's weights and batches.
        device: where to compute.
        progress: called after each training step of SOVR.

    Raises:
        ConfigError: a block is unknown, or named twice.
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
