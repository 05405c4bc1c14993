"""Parts of peers that train by epochs: which epochs the selector sees, a cap on minutes, exact repetition."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch

from dkgzsl.errors import ConfigError, RunError
from dkgzsl.methods.base import Model, Selector, Setting, Setup, Task
from dkgzsl.methods.shared.training import is_evaluation_epoch

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


class EpochwiseMethod(ABC):
    """Train epoch by epoch, and show the selector a model now and then.

    The epoch of a model is its setting, so that `fit` trains to the same state again: the clock only decides after
    which epoch exploration ends.

    Args:
        settings: of the method.
        setup: exploration ends with the epoch in which its minutes are over.
        options: further settings to try, one training each, which share the minutes. Every one becomes part of the
            setting.

    Raises:
        ConfigError: the minutes are out of range.
    """

    name: str
    first_evaluation: int = 2
    """No evaluation comes before this epoch, but for one at the end."""

    def __init__(self, settings: EpochSettings, setup: Setup | None, options: Sequence[Setting] = ({},)) -> None:
        self.setup = setup or Setup()
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
        if self.setup.on_epoch is not None:
            self.setup.on_epoch(epoch, figures)


def filled(settings: T, values: Mapping[str, Any]) -> T:
    """The settings, a dataclass, with the values for those of these fields that are None."""
    given = {one.name: getattr(settings, one.name) for one in fields(settings)}  # type: ignore[arg-type]
    return replace(settings, **{n: v for n, v in values.items() if given[n] is None})  # type: ignore[type-var]


def known(value: T | None) -> T:
    """A setting that `filled` has filled."""
    assert value is not None, "filled before"
    return value
