"""SOVR, semantic-oriented visual refinement: FDE and ARA, trained on region tokens, then applied to any image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from dkgzsl.config import RefinementConfig
from dkgzsl.device import resolved, sent
from dkgzsl.distributed import ALONE, Processes, current
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.features.stream import TokenArray, read_ahead
from dkgzsl.representation.attribute_attention import (
    AttentionOutput,
    AttributeAttention,
    class_scores,
    seen_class_loss,
)
from dkgzsl.representation.feature_denoising import Denoised, FeatureDenoising


def balanced_positions(
    labels: Integer[np.ndarray, " images"], *, batch_size: int, steps: int, seed: int
) -> Iterator[Integer[np.ndarray, " batch"]]:
    """Positions for batches in which every class comes equally often, however few images it has.

    Classes come in an endless series of permutations, and so do the images of each class: a class is drawn again
    only after all others, an image only after all others of its class.

    Args:
        labels: class of each image.
        batch_size: images a batch.
        steps: number of batches.
        seed: of the permutations.
    """
    generator = np.random.default_rng(seed)

    def shuffles(values: np.ndarray) -> Iterator[int]:
        while True:
            yield from generator.permutation(values)

    images = {int(c): shuffles(np.flatnonzero(labels == c)) for c in np.unique(labels)}
    classes = shuffles(np.array(list(images)))
    for _ in range(steps):
        yield np.array([next(images[int(c)]) for c in islice(classes, batch_size)])


FeatureKind = Literal["refined", "scores"]
STEPS = 600
"""Training steps where the configuration names none."""
Progress = Callable[[int, Mapping[str, float]], None]
"""Called after each step with the number of steps done and the losses."""


class SavedRefiner(NamedTuple):
    """A refiner as a run folder holds it: tensors and JSON values, each by name."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


class Shape(NamedTuple):
    """Sizes that a refiner is built for.

    Attributes:
        grid: rows and columns of the regions.
        channels: size of a token.
        seen: number of seen classes, the outputs of FDE's auxiliary head.
        attributes: number of attributes, and size of their vectors.
    """

    grid: tuple[int, int]
    channels: int
    seen: int
    attributes: tuple[int, int]


class Refiner(nn.Module):
    """FDE and ARA: tokens in, refined features and attribute scores out. Either part may be off.

    Training runs in the configured precision. Inference runs in float32, except FDE's convolution, which would
    cost a fifth to a quarter of the backbone's time in float32.

    Without FDE, ARA takes the raw regions. Without ARA, the refined feature is the mean of FDE's regions; without
    both, the mean of the raw regions. Features are unscaled: the published scaling to [0, 1] is the task of the
    method that takes them, with the minimum and maximum of its training part.

    Args:
        shape: the sizes.
        config: which parts are on, and the precision.
        seed: of the weights.
        vectors: where the attributes' vectors start; None where they are loaded afterwards.
        record: JSON values to save along (steps, losses, the vectors' source).
    """

    def __init__(
        self,
        shape: Shape,
        config: RefinementConfig,
        *,
        seed: int,
        vectors: Float[Tensor, "attributes word"] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.config, self.seed = shape, config, seed
        self.record: dict[str, Any] = dict(record or {})
        self.denoising = _initial_denoising(shape, seed, config) if config.denoising != "off" else None
        if self.denoising is not None and config.denoising == "untrained":
            self.denoising.requires_grad_(False)
        self.attention_layer: AttributeAttention | None = None
        if config.attention == "on":
            self.attention_layer = AttributeAttention(
                torch.ones(shape.attributes) if vectors is None else vectors,
                shape.channels,
                generator=torch.Generator().manual_seed(seed),
            )

    @torch.inference_mode()
    def read(
        self, tokens: Float[Tensor, "batch tokens channels"], which: Sequence[FeatureKind]
    ) -> dict[str, Float[Tensor, "batch features"]]:
        """Compute features of several kinds in one pass.

        Args:
            tokens: the global token first.
            which: the kinds.

        Returns:
            The features by kind.

        Raises:
            ConfigError: attribute scores are asked for, and there is no ARA.
        """
        regions = self._regions(tokens)
        output = None if self.attention_layer is None else self.attention_layer(regions)
        if output is not None:
            features: dict[str, Tensor] = {"refined": output.refined, "scores": output.scores}
        elif "scores" not in which:
            features = {"refined": regions.float().mean(dim=1)}
        else:
            raise _no_attention()
        return {kind: features[kind] for kind in which}

    @torch.inference_mode()
    def attend(self, tokens: Float[Tensor, "batch tokens channels"]) -> AttentionOutput:
        """Attention maps, attribute scores and refined features, from one pass.

        Raises:
            ConfigError: there is no ARA.
        """
        if self.attention_layer is None:
            raise _no_attention()
        output: AttentionOutput = self.attention_layer(self._regions(tokens))
        return output

    @torch.inference_mode()
    def saliency(self, tokens: Float[Tensor, "batch tokens channels"]) -> Float[Tensor, "batch regions"]:
        """FDE's saliency map: of unit length, then small and weak parts set to zero.

        Raises:
            ConfigError: there is no FDE.
        """
        if self.denoising is None:
            raise ConfigError("there is no saliency without FDE", fix="train with refinement.denoising trained")
        denoised: Denoised = self.denoising(tokens)
        return denoised.saliency

    @torch.inference_mode()
    def initial_saliency(self, tokens: Float[Tensor, "batch tokens channels"]) -> Float[Tensor, "batch regions"]:
        """FDE's saliency map as it was before training."""
        before = _initial_denoising(self.shape, self.seed, self.config).to(tokens.device)
        denoised: Denoised = before(tokens)
        return denoised.saliency

    def losses(
        self,
        tokens: Float[Tensor, "batch tokens channels"],
        labels: Int[Tensor, " batch"],
        attributes: Float[Tensor, "seen attributes"],
    ) -> dict[str, Tensor]:
        """The training losses of a batch by part, `denoising` and `attention`.

        Args:
            tokens: the global token first.
            labels: class of each image, numbered among the seen classes.
            attributes: of the seen classes.
        """
        losses: dict[str, Tensor] = {}
        with self._precision():
            regions = tokens[:, 1:]
            if self.denoising is not None:
                denoised = self.denoising(tokens)
                regions = denoised.regions
                if self.config.denoising == "trained":
                    logits = self.denoising.class_logits(denoised)
                    losses["denoising"] = nn.functional.cross_entropy(logits.float(), labels)
            if self.attention_layer is not None:
                scores = class_scores(self.attention_layer(regions).scores, attributes)
                seen = torch.arange(len(attributes), device=labels.device)
                losses["attention"] = seen_class_loss(scores, labels, seen)
        return losses

    def save(self) -> SavedRefiner:
        """Tensors and JSON values that `load` takes."""
        values = {
            "grid": list(self.shape.grid),
            "channels": self.shape.channels,
            "seen": self.shape.seen,
            "attributes": list(self.shape.attributes),
            "config": asdict(self.config),
            "seed": self.seed,
            "record": self.record,
        }
        return SavedRefiner({k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}, values)

    @classmethod
    def load(cls, saved: SavedRefiner) -> Refiner:
        """The refiner whose `save` returned `saved`, in evaluation mode."""
        values = saved.values
        shape = Shape(
            grid=(values["grid"][0], values["grid"][1]),
            channels=values["channels"],
            seen=values["seen"],
            attributes=(values["attributes"][0], values["attributes"][1]),
        )
        refiner = cls(shape, RefinementConfig(**values["config"]), seed=values["seed"], record=values["record"])
        refiner.load_state_dict(dict(saved.tensors))
        return refiner.eval()

    def _regions(self, tokens: Tensor) -> Tensor:
        return tokens[:, 1:] if self.denoising is None else self.denoising(tokens).regions

    def _precision(self) -> AbstractContextManager[Any]:
        device = next(self.parameters(), torch.zeros(0)).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.config.precision == "bfloat16")


def train_refiner(
    tokens: TokenArray,
    labels: Integer[np.ndarray, " images"],
    training: Integer[np.ndarray, " training"],
    *,
    grid: tuple[int, int],
    attributes: Float[np.ndarray, "classes columns"],
    vectors: Float[np.ndarray, "attributes word"],
    config: RefinementConfig,
    seed: int,
    device: str = "cpu",
    record: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Refiner:
    """Train FDE and ARA jointly on the training images, streamed: memory does not grow with the store.

    RMSprop on class-balanced batches; the loss is the sum of ARA's cross-entropy over the seen classes and FDE's
    auxiliary one. Rows of `attributes` that belong to other classes are never read. In a `joined` block process 0
    calls it, `dkgzsl.runs.follow` calls it in the others, and each reads the tokens of its own slice of a batch.

    Args:
        tokens: [images, 1 + regions, channels], the global token first.
        labels: class of each image; read at `training` only.
        training: positions of the training images, all of seen classes.
        grid: rows and columns of the regions.
        attributes: the named attributes of every class.
        vectors: where ARA's attribute vectors start.
        config: parts, steps and rates; the precision `auto` is resolved for the device, and saved so.
        seed: of weights and batches.
        device: where the computation runs.
        record: JSON values to save with the refiner.
        progress: called after each step.

    Raises:
        ConfigError: a batch has fewer images than there are processes.
        DataError: grid, tokens and attributes do not fit one another, or a loss is not finite.
    """
    _check(tokens, grid, attributes, vectors)
    seen, own = np.unique(labels[training], return_inverse=True)
    shape = Shape(grid, tokens.shape[2], len(seen), (vectors.shape[0], vectors.shape[1]))
    config = replace(config, precision=resolved(config.precision, device))
    refiner = Refiner(shape, config, seed=seed, vectors=torch.from_numpy(np.asarray(vectors)), record=record)
    refiner.to(device)
    processes = current()
    learns = any(parameter.requires_grad for parameter in refiner.parameters())
    steps = (STEPS if config.steps is None else config.steps) if learns else 0
    losses: dict[str, float] = {}
    if steps:
        mine = processes.own(config.batch_size)
        if processes.leads and processes.size > 1:
            _call_followers(processes, labels, training, attributes, vectors, grid, config, seed, device)
        processes.wait()  # the others may have to find the tokens first
        order = balanced_positions(own, batch_size=config.batch_size, steps=steps, seed=seed)
        places = (np.asarray(training)[batch[mine]] for batch in order)
        own_of = dict(zip(np.asarray(training).tolist(), own.tolist(), strict=True))
        descriptions = torch.from_numpy(attributes[seen]).float().to(device)
        batches = read_ahead(tokens, places)
        losses = _optimize(refiner, batches, own_of, descriptions, progress, processes=processes)
    refiner.record |= {"steps": steps, "final_losses": losses}
    return refiner.eval()


def _optimize(
    refiner: Refiner,
    batches: Iterator[tuple[Integer[np.ndarray, " batch"], Tensor]],
    own_of: Mapping[int, int],
    descriptions: Float[Tensor, "seen attributes"],
    progress: Progress | None,
    *,
    processes: Processes = ALONE,
) -> dict[str, float]:
    """Take a step for each batch.

    Args:
        refiner: changed in place.
        batches: positions of the images, and their tokens; of several processes, each process's slice.
        own_of: number of each training image's class among the seen ones, by the image's position.
        descriptions: attributes of the seen classes, on the device of the computation.
        progress: called after each step.
        processes: that share the work. Every loss is a mean over images, so that sums of gradients are exact.

    Returns:
        The losses of the last step.
    """
    config, device = refiner.config, descriptions.device
    parameters = [parameter for parameter in refiner.parameters() if parameter.requires_grad]
    processes.same(parameters)
    optimizer = torch.optim.RMSprop(
        parameters,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
    )
    losses: dict[str, float] = {}
    for step, (positions, stored) in enumerate(batches, start=1):
        targets = torch.tensor([own_of[i] for i in positions.tolist()], device=device)
        parts = refiner.losses(sent(stored, device).float(), targets, descriptions)
        optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        means = processes.summed(parameters, list(parts.values()), of=config.batch_size)
        optimizer.step()
        losses = {name: value.item() for name, value in zip(parts, means, strict=True)}
        if processes.leads and not np.isfinite(list(losses.values())).all():
            raise DataError(f"refinement diverged at step {step}: {losses}", fix="lower refinement.learning_rate")
        if progress is not None:
            progress(step, losses)
    return losses


def _call_followers(
    processes: Processes,
    labels: Integer[np.ndarray, " images"],
    training: Integer[np.ndarray, " training"],
    attributes: Float[np.ndarray, "classes columns"],
    vectors: Float[np.ndarray, "attributes word"],
    grid: tuple[int, int],
    config: RefinementConfig,
    seed: int,
    device: str,
) -> None:
    """Let the other processes call `train_refiner` with the same arguments; the tokens they have themselves."""
    arrays = {"labels": labels, "training": training, "attributes": attributes, "vectors": vectors}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    values = {"grid": list(grid), "config": asdict(config), "seed": seed, "device": device}
    processes.send("sovr", values, tensors)


def _no_attention() -> ConfigError:
    return ConfigError("there are no attribute scores without ARA", fix="train with refinement.attention on")


def _initial_denoising(shape: Shape, seed: int, config: RefinementConfig) -> FeatureDenoising:
    reads_in = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FeatureDenoising(shape.channels, shape.grid, shape.seen, reads_in=reads_in)


def _check(tokens: TokenArray, grid: tuple[int, int], attributes: np.ndarray, vectors: np.ndarray) -> None:
    if tokens.ndim != 3 or tokens.shape[1] != 1 + grid[0] * grid[1]:
        raise DataError(
            f"tokens of shape {tokens.shape} do not hold one global token and {grid[0]} x {grid[1]} regions",
            fix="refinement needs a feature store [images, 1 + regions, channels]",
        )
    if attributes.shape[1] != vectors.shape[0]:
        raise DataError(
            f"{attributes.shape[1]} attributes a class, but {vectors.shape[0]} attribute vectors",
            fix="give one vector for each column of the attribute table, in its order",
        )
