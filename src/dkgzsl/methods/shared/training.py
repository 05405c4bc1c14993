"""Parts of training: random streams by name, evaluation epochs, batches, checkpoints, layers that keep memory."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from dkgzsl.errors import RunError
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.methods.base import Setup, Task

SECONDS_BETWEEN_CHECKPOINTS = 60.0


def seeded(seed: int, *place: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator for one place in a run, such as an epoch: independent of what was drawn elsewhere.

    Args:
        seed: the run's seed, 0 or more.
        place: integers that name the place, each 0 or more.
        device: where the generator draws; another kind of device gives other numbers for the same place.
    """
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def is_evaluation_epoch(epoch: int) -> bool:
    """Whether an epoch is 2^k or 3 * 2^k: evaluations are dense at first, where models change most, and few later.

    Args:
        epoch: 1 or more.
    """
    power: int = epoch & -epoch
    return epoch // power in (1, 3)


@dataclass(frozen=True)
class Batches:
    """Batches of images, a row each.

    Attributes:
        images: positions of the batch's images.
        labels: their classes.
        classes: the different classes of the batch, padded to the width of the widest batch by one of them.
        slots: for each image, the column of its class in `classes`; never one of the padding.
    """

    images: Int[Tensor, "batches size"]
    labels: Int[Tensor, "batches size"]
    classes: Int[Tensor, "batches width"]
    slots: Int[Tensor, "batches size"]


def draw_batches(labels: Int[Tensor, " images"], *, number: int, size: int, random: torch.Generator) -> Batches:
    """Draw batches: permutations of the images, one after the other, cut into batches.

    The released code draws every batch independently; with permutations no image is left out. The function waits
    for the device once.

    Args:
        labels: class of each image.
        number: of batches.
        size: images a batch.
        random: on the device of `labels`, where the result is, too.
    """
    rounds = ceil(number * size / len(labels))
    order = [torch.randperm(len(labels), generator=random, device=labels.device) for _ in range(rounds)]
    images = torch.cat(order)[: number * size].view(number, size)
    rows = labels[images]
    ascending, position = rows.sort(dim=1, stable=True)
    is_new = torch.ones_like(ascending)
    is_new[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    rank = is_new.cumsum(dim=1) - 1
    slots = torch.empty_like(rank).scatter_(1, position, rank)
    width = int(rank.max()) + 1
    classes = rows[:, :1].repeat(1, width).scatter_(1, rank, ascending)
    return Batches(images, rows, classes, slots)


class Drawn(NamedTuple):
    """All that chance decides in one iteration of an adversarial training, a row for each critic step.

    Attributes:
        images: positions of the batch's images.
        labels: their classes.
        classes: the different classes of the batch, padded by one of them.
        slots: for each image, the column of its class in `classes`.
        noise: of the generator for each critic step.
        mix: share of the real feature in each interpolate.
        last_noise: of the generator's own step.
    """

    images: Int[Tensor, "steps size"]
    labels: Int[Tensor, "steps size"]
    classes: Int[Tensor, "steps width"]
    slots: Int[Tensor, "steps size"]
    noise: Float[Tensor, "steps images semantic"]
    mix: Float[Tensor, "steps images 1"]
    last_noise: Float[Tensor, "images semantic"]


class Stopwatch:
    """Seconds since it was made, and those of the stretches before an interruption.

    Args:
        clock: seconds since any point in time.
        before: seconds of earlier stretches, 0 or more.
    """

    def __init__(self, clock: Callable[[], float], before: float = 0.0) -> None:
        self._clock, self._start, self.before = clock, clock(), before

    @property
    def seconds(self) -> float:
        """In all so far."""
        return self.before + self._clock() - self._start


def clock_of(setup: Setup) -> Callable[[], float]:
    """The clock, in seconds, that the minutes of a setup are counted by."""
    on_processor = setup.clock == "processor" and torch.device(setup.device).type == "cpu"
    return time.process_time if on_processor else time.monotonic


class Checkpoint:
    """The file in which a training keeps how far it is, once a minute; nothing is kept where there is no folder.

    Args:
        folder: of the file; None: no folder.
        name: of the file.
        key: JSON values: all that the training depends on.
    """

    def __init__(self, folder: Path | None, name: str, key: Mapping[str, Any]) -> None:
        self.path = None if folder is None else folder / f"{name}.safetensors"
        self.key = dict(key)
        self._written = time.monotonic() if self.path is not None else 0.0

    def read(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]] | None:
        """Tensors and JSON values that were written last; None where nothing was.

        Raises:
            RunError: the file is damaged, or belongs to a training with another key.
        """
        try:
            found = None if self.path is None else read_checkpoint(self.path)
        except RunError as error:
            fix = "delete the file and continue: what it kept is done again"
            raise RunError(error.what, where=error.where, fix=fix) from error
        if found is not None and found[1]["key"] != self.key:
            raise RunError(
                "the checkpoint belongs to other settings or other data",
                where=str(self.path),
                fix="continue with the settings it was made with, or start again with --overwrite",
            )
        return found

    @property
    def is_due(self) -> bool:
        """Whether a minute has gone by since the last one was written, or since the stretch began."""
        return self.path is not None and time.monotonic() - self._written > SECONDS_BETWEEN_CHECKPOINTS

    def write(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Replace what was written before.

        Args:
            tensors: the training's state.
            values: JSON values.

        Raises:
            RunError: the file cannot be written; the one before is still there.
        """
        if self.path is not None:
            write_checkpoint(self.path, tensors, {"key": self.key, **values})
            self._written = time.monotonic()


def fingerprint(task: Task) -> str:
    """A hash of all that a method sees of a task, but for the names."""
    digest = hashlib.sha256()
    for tensor in (task.features, task.labels, task.semantics, task.seen, task.unseen):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def state_of(optimizers: Mapping[str, Optimizer], others: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the next step depends on, for a checkpoint.

    Args:
        optimizers: by name; the state has their moments and the parameters that they step.
        others: tensors that change besides, such as running means, by names that no optimizer has.

    Returns:
        The tensors themselves, not copies, by name.
    """
    tensors = dict(others)
    for name, optimizer in optimizers.items():
        for position, parameter in enumerate(_parameters(optimizer)):
            moments = optimizer.state.get(parameter, {})
            tensors |= {f"{name}.{position}.{key}": value for key, value in moments.items()}
            tensors[f"{name}.{position}"] = parameter.detach()
    return tensors


@torch.no_grad()
def restore(
    tensors: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer], others: Mapping[str, Tensor]
) -> None:
    """Take back in place what `state_of` gave; learning rates stay as they are.

    Args:
        tensors: the state.
        optimizers: as for `state_of`.
        others: as for `state_of`.

    Raises:
        ValueError: the state has other names or shapes.
    """
    own = {name: tensor.shape for name, tensor in state_of(optimizers, others).items()}
    if any(name not in tensors or tensors[name].shape != shape for name, shape in own.items()):
        raise ValueError("the state belongs to a training of another size")
    for name, tensor in others.items():
        tensor.copy_(tensors[name])
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        for position, parameter in enumerate(_parameters(optimizer)):
            parameter.copy_(tensors[f"{name}.{position}"])
            prefix = f"{name}.{position}."
            moments = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            if moments:
                state["state"][position] = moments
        optimizer.load_state_dict(state)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def gradient_memory(parameter: Tensor) -> Tensor:
    """The parameter's gradient, to be overwritten; made where there is none yet.

    Fresh memory for every gradient costs a CPU up to half of the product's time.
    """
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad


def transposed_product(
    left: Float[Tensor, "terms rows"], right: Float[Tensor, "terms columns"], out: Float[Tensor, "rows columns"]
) -> Float[Tensor, "rows columns"]:
    """left^T right, written to `out`: the gradient of a layer's weight.

    Args:
        left: derivatives by the layer's output.
        right: the layer's input; the product runs in its precision.
        out: memory in the precision of the weight.
    """
    if right.dtype == out.dtype:
        return torch.mm(left.T, right, out=out)
    return out.copy_(left.to(right.dtype).T @ right)


class Linear(nn.Linear):
    """`torch.nn.Linear` whose gradients overwrite those of the step before, in their memory.

    The optimizer's `zero_grad` is not needed, and would give the memory back. Gradients are not added up: within
    one derivation the layer may be used once. Inputs are matrices.
    """

    def forward(self, input: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """input W^T + b, in the precision of autocast where that is on."""
        low, kind = input.dtype, input.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            low = torch.get_autocast_dtype(kind)
        needed = torch.is_grad_enabled() and self.weight.requires_grad
        function = _InMemory.apply if needed else _output
        found: Tensor = function(input.to(low), self.weight, self.bias)
        return found


def _output(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found = rows @ weight.to(rows.dtype).T
    return found if bias is None else found.add_(bias)  # on a CPU quicker than torch.addmm


class _InMemory(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight, bias)
        return _output(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *derivatives: Tensor) -> tuple[Tensor | None, None, None]:
        (by_output,) = derivatives
        rows, weight, bias = ctx.saved_tensors
        transposed_product(by_output, rows, gradient_memory(weight))
        if bias is not None:
            torch.sum(by_output, dim=0, dtype=bias.dtype, out=gradient_memory(bias))
        return by_output @ weight.to(by_output.dtype) if ctx.needs_input_grad[0] else None, None, None
