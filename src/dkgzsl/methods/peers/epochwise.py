"""Shared by peers that train for epochs: which epochs the selector sees, a cap on minutes, exact repetition."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch

from dkgzsl.errors import ConfigError, RunError
from dkgzsl.methods.base import Model, Selector, Setting, Task
from dkgzsl.methods.shared.training import is_evaluation_epoch


@runtime_checkable
class Training(Protocol):
    """A training on its way; all that it draws depends on the seed and the epoch's number."""

    def train_epoch(self) -> Mapping[str, float]:
        """Train one more epoch; returns its figures, means over its steps."""
        ...

    def models(self) -> Iterator[tuple[Setting, Model]]:
        """Models of the training as it stands, each with what else makes it; the training stays as it is."""
        ...


class EpochwiseMethod(ABC):
    """Train epoch by epoch, and show the selector a model now and then.

    The epoch of a model is its setting, so that `fit` trains to the same state again: the clock only decides after
    which epoch exploration ends.

    Args:
        epochs: most epochs to train.
        minutes: wall-clock minutes after which exploration ends with the epoch in progress; None sets no limit.
        seed: 0 or more.
        device: where to compute.
        options: further settings to try, one training each, which share the minutes. Every one becomes part of the
            setting.

    Raises:
        ConfigError: epochs or minutes are out of range.
    """

    name: str
    first_evaluation: int = 2
    """No look comes before this epoch, but for one at the end."""

    def __init__(
        self,
        *,
        epochs: int,
        minutes: float | None,
        seed: int,
        device: str,
        options: Sequence[Setting] = ({},),
    ) -> None:
        if epochs < 1:
            raise ConfigError(f"epochs must be at least 1, not {epochs}")
        if minutes is not None and not minutes > 0:
            raise ConfigError(f"minutes must be above 0, not {minutes}")
        self.epochs, self.minutes, self.seed = epochs, minutes, seed
        self.device = torch.device(device)
        self.options = tuple(options)

    @abstractmethod
    def begin(self, task: Task, option: Setting) -> Training:
        """A training that has not begun."""

    def options_for(self, task: Task) -> Sequence[Setting]:
        """Those of the options that the task allows; by default all."""
        del task
        return self.options

    def explore(self, task: Task, selector: Selector) -> None:
        """Show the selector the models of the epochs 2, 3, 4, 6, 8 ... from the first look on, and of the end."""
        options = self.options_for(task)
        seconds = math.inf if self.minutes is None else 60 * self.minutes / len(options)
        for option in options:
            started = time.monotonic()
            training = self.begin(task, option)
            for epoch in range(1, self.epochs + 1):
                self._train(training, epoch)
                last = epoch == self.epochs or time.monotonic() - started >= seconds
                if last or (epoch >= self.first_evaluation and is_evaluation_epoch(epoch)):
                    for further, model in training.models():
                        selector({**option, "epochs": epoch, **further}, model)
                if last:
                    break

    def fit(self, task: Task, setting: Setting) -> Model:
        """Train for exactly the setting's epochs.

        Raises:
            ConfigError: the setting is none that `explore` shows.
        """
        training = self.begin(task, setting)
        for epoch in range(1, int(setting["epochs"]) + 1):
            self._train(training, epoch)
        for further, model in training.models():
            if all(setting[name] == value for name, value in further.items()):
                return model
        raise ConfigError(f"{self.name} has no such setting: {dict(setting)}", fix="name one that it has shown")

    def _train(self, training: Training, epoch: int) -> None:
        figures = training.train_epoch()
        if not all(math.isfinite(value) for value in figures.values()):
            raise RunError(
                f"the training of {self.name} diverged in epoch {epoch}: {dict(figures)}",
                fix="lower its learning rate",
            )
