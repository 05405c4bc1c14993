"""Loggers: they get what `metrics.jsonl` gets, line by line, while a run trains.

`--log tensorboard` and `--log wandb` use the two that are here. From Python, `train(config, loggers=[...])` takes
any object with the methods of `Logger`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from dkgzsl.errors import ConfigError, nearest


@runtime_checkable
class Logger(Protocol):
    """What a logger must offer."""

    def log(self, event: str, values: Mapping[str, Any]) -> None:
        """One event of a training.

        Args:
            event: `evaluation`, `epoch`, `refinement` or `result`, as in `metrics.jsonl`.
            values: what the line of `metrics.jsonl` has; `seconds` since the command began.
        """

    def close(self) -> None:
        """The run is over, or was broken off."""


def numbers_of(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of an event, by their path, such as `figures/h`; settings are no figures and are left out."""
    for name, value in values.items():
        if isinstance(value, Mapping) and name != "setting":
            yield from numbers_of(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name, float(value)


class _Steps:
    """The step of an event: its epoch or step, or how many events of its kind there were."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Any]] = Counter()

    def of(self, event: str, values: Mapping[str, Any]) -> int:
        self._counts[event, values.get("seed")] += 1
        known = values.get("epoch", values.get("step"))
        return int(known) if known is not None else self._counts[event, values.get("seed")]


def _named(event: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers under names such as `seed 0/evaluation/figures/h`."""
    place = f"seed {values['seed']}/{event}" if "seed" in values else event
    counters = {"seed", "epoch", "step"}
    return {f"{place}/{name}": number for name, number in numbers_of(values) if name not in counters}


class TensorBoard:
    """Writes event files to `tensorboard/` in the run folder: `tensorboard --logdir runs` shows all runs."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        writer = _library("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._writer, self._steps = writer(str(folder / "tensorboard")), _Steps()
        self._writer.add_text("config", "\n".join(f"    {name}: {value}" for name, value in config.items()))

    def log(self, event: str, values: Mapping[str, Any]) -> None:
        """See `Logger.log`."""
        step = self._steps.of(event, values)
        for name, number in _named(event, values).items():
            self._writer.add_scalar(name, number, step)
        self._writer.flush()

    def close(self) -> None:
        """See `Logger.close`."""
        self._writer.close()


class WeightsAndBiases:
    """Sends events to Weights & Biases, or keeps them on this machine where WANDB_MODE is `offline`."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        wandb = _library("wandb", "wandb")
        self._run = wandb.init(project="dkgzsl", name=folder.name, dir=str(folder), config=dict(config))

    def log(self, event: str, values: Mapping[str, Any]) -> None:
        """See `Logger.log`."""
        self._run.log(_named(event, values))

    def close(self) -> None:
        """See `Logger.close`."""
        self._run.finish()


LOGGERS: Final[Mapping[str, Callable[[Path, Mapping[str, Any]], Logger]]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def check_loggers(names: Sequence[str]) -> None:
    """That there is a logger of each name.

    Raises:
        ConfigError: there is none.
    """
    for name in names:
        if name not in LOGGERS:
            raise ConfigError(f"there is no logger {name!r}", fix=nearest(name, LOGGERS, of="loggers"))


def start_loggers(names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> list[Logger]:
    """Start loggers by name.

    Args:
        names: of `LOGGERS`.
        folder: of the run.
        config: its settings, which loggers show.

    Raises:
        ConfigError: a library is missing.
    """
    return [LOGGERS[name](folder, config) for name in names]


def _library(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f"--log {package} needs the package {package}", fix=f"pip install {package}") from error
