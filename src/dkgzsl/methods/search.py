"""What `tune` tries of a method's settings: ranges of numbers, and choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Trial(Protocol):
    """What proposes values: the part of Optuna's trials that is used here."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number of the range."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number of the range."""
        ...

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""
        ...


@dataclass(frozen=True)
class Range:
    """A range of numbers, ends included.

    Attributes:
        low: the lower end.
        high: the upper end.
        start: where the search begins; None: at the value that the settings have.
        log: whether values are drawn evenly in the logarithm.
        whole: whether values are integers.
    """

    low: float | int
    high: float | int
    start: float | int | None = None
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Trial, name: str) -> float | int:
        """What the trial proposes."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def nearest(self, value: float | int) -> float | int:
        """The value, or the end of the range that is nearer to it."""
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Attributes:
        among: the values.
        start: where the search begins; None: at the value that the settings have, or the first.
    """

    among: tuple[Any, ...]
    start: Any = None

    def suggest(self, trial: Trial, name: str) -> Any:
        """What the trial proposes."""
        return trial.suggest_categorical(name, self.among)

    def nearest(self, value: Any) -> Any:
        """The value where it is among them, or the nearest number, or the first."""
        if value in self.among:
            return value
        numbers = all(isinstance(one, int | float) for one in (*self.among, value))
        return min(self.among, key=lambda one: abs(one - value)) if numbers else self.among[0]


Space = Mapping[str, Range | Choice]
"""What is searched, by the name of the setting; `softmax.epochs` names a setting of a section."""


def grid_of(settings: Any) -> dict[str, Range | Choice]:
    """One value of each setting that lists several: what a method's own exploration tries, one at a time."""
    listed = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {
        name: Choice(values) for name, values in listed.items() if isinstance(values, tuple) and len(values) > 1
    }


def start_of(space: Space, settings: Any) -> dict[str, Any]:
    """Where a search begins: at each part's own start, or at the value that the settings have."""
    begin = {}
    for name, part in space.items():
        value = part.start
        if value is None:
            value = _value(settings, name)
            value = value[0] if isinstance(value, tuple) else value
        begin[name] = part.nearest(value)
    return begin


def with_values(settings: Any, values: Mapping[str, Any]) -> Any:
    """The settings with a trial's values; a setting that lists several has the trial's value alone.

    Args:
        settings: a dataclass.
        values: by the names of a `Space`.
    """
    changed: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, rest = name.partition(".")
        if rest:
            inner.setdefault(section, {})[rest] = value
        else:
            changed[name] = (value,) if isinstance(getattr(settings, name), tuple) else value
    for section, parts in inner.items():
        changed[section] = with_values(getattr(settings, section), parts)
    return replace(settings, **changed)


def _value(settings: Any, name: str) -> Any:
    section, _, rest = name.partition(".")
    value = getattr(settings, section)
    return _value(value, rest) if rest and is_dataclass(value) else value
