"""Parts of peers that train by epochs: which epochs the selector sees, a cap on minutes, exact repetition,
checkpoints."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from dkgzsl.errors import ConfigError, RunError
from dkgzsl.methods.base import Model, Selector, Setting, Setup, Task
from dkgzsl.methods.shared.training import Checkpoint, Stopwatch, clock_of, fingerprint, is_evaluation_epoch

T = TypeVar("T")

Precision = Literal["float32", "bfloat16"]
"""Of the matrix products; bfloat16 is about three times as fast on recent processors."""


@runtime_checkable
class EpochSettings(Protocol):
    """Settings of a method that trains by epochs."""

    @property
    def epochs(self) -> int:
        """Most epochs to train, 1 or more."""
        ...


@runtime_checkable
class Training(Protocol):
    """A training on its way; all that it draws depends on the seed and the epoch's number."""

    def train_epoch(self) -> Mapping[str, float]:
        """Train one more epoch; returns its figures, means over its steps."""
        ...

    def models(self) -> Iterator[tuple[Setting, Model]]:
        """Models of the training as it stands, each with what else makes it; the training stays as it is."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """Capability of a `Training`: its state can be kept in a file, and taken back by one that has just begun."""

    def state(self) -> Mapping[str, Tensor]:
        """All that the next epoch depends on, besides what it began with and the number of epochs done."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], *, epoch: int) -> None:
        """Go on from a `state` as it was after `epoch` epochs, bit for bit.

        Raises:
            ValueError: the state belongs to a training of another size.
        """
        ...


class EpochwiseMethod(ABC):
    """Train epoch by epoch, and show the selector a model now and then.

    The epoch of a model is its setting, so that `fit` trains to the same state again: the clock only decides after
    which epoch exploration ends.

    Where the setup names a folder for checkpoints, exploration and fit keep there once a minute how far they are,
    and go on from there when they are called again: a `Resumable` training after its last epoch, any other with
    the option that was not finished. What the selector was shown before is not shown again; it has kept it.

    Args:
        settings: of the method.
        setup: exploration ends with the epoch in which its minutes are over, those before an interruption counted.
        options: further settings to try, one training each, which share the minutes. Every one becomes part of the
            setting.

    Raises:
        ConfigError: the minutes are out of range.
    """

    name: str
    first_evaluation: int = 2
    """No evaluation comes before this epoch, but for one at the end."""

    def __init__(self, settings: EpochSettings, setup: Setup | None, options: Sequence[Setting] = ({},)) -> None:
        self.setup, self._given = setup or Setup(), settings
        self.epochs, self.minutes, self.seed = settings.epochs, self.setup.minutes, self.setup.seed
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"minutes must be above 0, not {self.minutes}")
        self.device, self.options = torch.device(self.setup.device), tuple(options)

    @abstractmethod
    def begin(self, task: Task, option: Setting) -> Training:
        """A training that has not begun."""

    def options_for(self, task: Task) -> Sequence[Setting]:
        """Those of the options that the task allows; by default all."""
        del task
        return self.options

    def explore(self, task: Task, selector: Selector) -> None:
        """Show the selector models of the epochs 2, 3, 4, 6, 8 ... from `first_evaluation` on, and of the end."""
        options = self.options_for(task)
        limit = math.inf if self.minutes is None else 60 * self.minutes / len(options)
        clock, kept = clock_of(self.setup), _Kept(self._checkpoint("explore", task, options))
        for number in range(kept.option, len(options)):
            watch, option = Stopwatch(clock, kept.seconds), options[number]
            training = self.begin(task, option)
            for epoch in range(kept.restore(training) + 1, self.epochs + 1):
                self._train(training, epoch)
                last = epoch == self.epochs or watch.seconds >= limit
                if last or (epoch >= self.first_evaluation and is_evaluation_epoch(epoch)):
                    for further, model in training.models():
                        selector({**option, "epochs": epoch, **further}, model)
                if last:
                    break
                kept.keep(number, epoch, watch, training)
            kept.keep(number + 1)
        kept.finish(len(options))

    def fit(self, task: Task, setting: Setting) -> Model:
        """Train for exactly the setting's epochs.

        Raises:
            ConfigError: the setting is none that `explore` shows.
        """
        training, kept = self.begin(task, setting), _Kept(self._checkpoint("fit", task, dict(setting)))
        for epoch in range(kept.restore(training) + 1, int(setting["epochs"]) + 1):
            self._train(training, epoch)
            kept.keep(0, epoch, None, training)
        for further, model in training.models():
            if all(setting[name] == value for name, value in further.items()):
                return model
        raise ConfigError(f"{self.name} has no such setting: {dict(setting)}", fix="name one that it has shown")

    def _checkpoint(self, name: str, task: Task, tried: Any) -> Checkpoint:
        """A file of its own for each task: the representations of one run have one folder."""
        if self.setup.checkpoints is None:
            return Checkpoint(None, name, {})
        capped = self.minutes is not None
        key = {"method": self.name, "settings": repr(self._given), "capped": capped, "seed": self.seed}
        key |= {"tried": json.dumps(tried, sort_keys=True), "task": fingerprint(task)}
        digest = hashlib.sha256(json.dumps([name, key]).encode()).hexdigest()
        return Checkpoint(self.setup.checkpoints, f"{name}-{digest[:16]}", key)

    def _train(self, training: Training, epoch: int) -> None:
        figures = training.train_epoch()
        if not all(math.isfinite(value) for value in figures.values()):
            raise RunError(
                f"the training of {self.name} diverged in epoch {epoch}: {dict(figures)}",
                fix="lower its learning rate",
            )
        if self.setup.on_epoch is not None:
            self.setup.on_epoch(epoch, figures)


class _Kept:
    """How far a method is, as its checkpoint has it.

    Attributes:
        option: number of the option in training; those before it are done.
        seconds: that its training has taken.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        tensors, values = checkpoint.read() or ({}, {})
        self.option, self.seconds = int(values.get("option", 0)), float(values.get("seconds", 0.0))
        self._epoch, self._tensors = int(values.get("epoch", 0)), tensors

    def restore(self, training: Training) -> int:
        """Take back the state of the option in training, once; returns the epochs done, 0 if nothing was kept."""
        epoch, tensors = self._epoch, self._tensors
        self._epoch, self._tensors, self.seconds = 0, {}, 0.0
        if epoch and isinstance(training, Resumable):
            training.restore(tensors, epoch=epoch)
            return epoch
        return 0

    def keep(
        self, option: int, epoch: int = 0, watch: Stopwatch | None = None, training: Training | None = None
    ) -> None:
        """Write how far the method is, if a minute has gone by and the training's state, if any, can be kept."""
        if self.checkpoint.is_due and (training is None or isinstance(training, Resumable)):
            state = {} if training is None else training.state()
            seconds = watch.seconds if watch is not None else 0.0
            self.checkpoint.write(state, {"option": option, "epoch": epoch, "seconds": seconds})

    def finish(self, options: int) -> None:
        """Write that all options are done, whose states are needed no longer."""
        self.checkpoint.write({}, {"option": options})


def filled(settings: T, values: Mapping[str, Any]) -> T:
    """The settings, a dataclass, with the values for those of these fields that are None."""
    given = {one.name: getattr(settings, one.name) for one in fields(settings)}  # type: ignore[arg-type]
    return replace(settings, **{n: v for n, v in values.items() if given[n] is None})  # type: ignore[type-var]


def known(value: T | None) -> T:
    """A setting that `filled` has filled."""
    assert value is not None, "filled before"
    return value
