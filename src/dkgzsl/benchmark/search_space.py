"""What a search tries, by variant: ranges, where it begins, and the settings of `train` that a trial is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from dkgzsl.config import AdversarialConfig, ClassifierConfig, ClosedFormSettings, TrainConfig
from dkgzsl.evaluation.held_out import HeldOut
from dkgzsl.evaluation.selection import ValidationSelector
from dkgzsl.methods.base import Model, Setting, Task
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.runs.plan import Plan
from dkgzsl.runs.training import make_method

Values = Mapping[str, Any]
"""A trial's settings, by the names that `train` has for them; numbers and words."""


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
    """A range of numbers, ends included; `log`: even in the logarithm; `whole`: integers."""

    low: float | int
    high: float | int
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
    """One of several."""

    among: tuple[Any, ...]

    def suggest(self, trial: Trial, name: str) -> Any:
        """What the trial proposes."""
        return trial.suggest_categorical(name, self.among)

    def nearest(self, value: Any) -> Any:
        """The value, or for a number that is not among them the nearest one."""
        return value if value in self.among else min(self.among, key=lambda one: abs(one - value))


Space = dict[str, Range | Choice]

# Components are halved from step to step: what was computed for a step serves every trial on it.
_COMPONENTS = (32, 64, 128, 256, 512, 1024, 2048)
_KNOWLEDGE: Space = {
    "knowledge.shrinkage": Range(0.05, 0.95),
    "knowledge.kernel_width": Range(0.0, 8.0),
    "knowledge.feature_kernel_width": Choice((0.0, 0.5, 1.0, 2.0, 4.0)),
    "knowledge.ridge": Range(1e-3, 1.0, log=True),
    "knowledge.seen_blend": Range(0.0, 1.0),
    "knowledge.episodes": Choice(("off", "weights")),
}
_KNOWLEDGE_START = {
    "knowledge.components": 512,
    "knowledge.shrinkage": 0.6,
    "knowledge.kernel_width": 2.0,
    "knowledge.feature_kernel_width": 0.0,
    "knowledge.ridge": 0.03,
    "knowledge.seen_blend": 0.5,
    "knowledge.episodes": "weights",
}
_PAPER: Space = {
    "adversarial.learning_rate": Range(1e-5, 1e-2, log=True),
    "adversarial.fusion_learning_rate": Range(1e-6, 1e-2, log=True),
    "adversarial.gamma": Range(0.1, 100.0, log=True),
    "adversarial.hidden_size": Range(128, 4096, log=True, whole=True),
    "adversarial.fusion_weight": Range(0.01, 1.0, log=True),
    "softmax.learning_rate": Range(1e-4, 1e-2, log=True),
}


def space_of(plan: Plan) -> Space:
    """The ranges for a plan's variant and data; several representations are searched, too."""
    assert plan.config.representation is not None, "the plan fills it"
    chosen: Space = {}
    if len(plan.config.representation) > 1:
        chosen["representation"] = Choice(plan.config.representation)
    if plan.variant == "paper":
        return {**chosen, **_PAPER}
    most = len(plan.problem.parts.trainval)  # with a kernel between images there may be more than channels
    within = tuple(step for step in _COMPONENTS if step <= most)
    return {**chosen, "knowledge.components": Choice(within or (most,)), **_KNOWLEDGE}


def start_of(plan: Plan, space: Space) -> dict[str, Any]:
    """The first trial: the preset of `paper`, the middle of what the default form tries."""
    config = plan.config
    begin: dict[str, Any] = dict(_KNOWLEDGE_START)
    if plan.variant == "paper":
        begin = {name: _value(config, name) for name in _PAPER}
    if config.representation:
        begin["representation"] = config.representation[0]
    return {name: one.nearest(begin[name]) for name, one in space.items()}


def settings_of(plan: Plan, values: Values) -> TrainConfig:
    """The settings of `train` that a trial stands for: each list of things to try has one entry."""
    config = plan.config
    if "representation" in values:
        config = replace(config, representation=(values["representation"],))
    sections: dict[str, dict[str, Any]] = {"knowledge": {}, "adversarial": {}, "softmax": {}}
    for name, value in values.items():
        section, _, key = name.partition(".")
        if section == "knowledge" and key != "episodes":
            sections[section][key] = (value,)
        elif section in sections:
            sections[section][key] = value
    knowledge: ClosedFormSettings = replace(config.knowledge, **sections["knowledge"])
    adversarial: AdversarialConfig = replace(config.adversarial, **sections["adversarial"])
    softmax: ClassifierConfig = replace(config.softmax, **sections["softmax"])
    return replace(config, knowledge=knowledge, adversarial=adversarial, softmax=softmax)


def _value(config: TrainConfig, name: str) -> Any:
    section, _, key = name.partition(".")
    return getattr(getattr(config, section), key)


class TrialRunner:
    """Fits and selectors trials of one plan on validation images; what trials share is kept.

    Args:
        plan: what is searched.
        seed: of what is learned.
        cut: gives a representation's task and held_out, the same each time.
    """

    def __init__(self, plan: Plan, seed: int, cut: Callable[[str], tuple[Task, HeldOut]]) -> None:
        self.plan, self.seed, self.cut = plan, seed, cut
        self._fitters: dict[tuple[str, int], Callable[[Setting], Model]] = {}

    def __call__(self, values: Values) -> ValidationSelector:
        """The selector that saw all that `train` would show it under these settings."""
        config = settings_of(self.plan, values)
        assert config.representation is not None, "the plan fills it"
        [representation] = config.representation
        task, held_out = self.cut(representation)
        selector = ValidationSelector(held_out, None, None, representation)
        method = make_method(replace(self.plan, config=config), self.seed)
        if not isinstance(method, ClosedForm):
            method.explore(task, selector)
            return selector
        knowledge = config.knowledge
        [components] = knowledge.components
        key = (representation, components)
        if key not in self._fitters:
            self._fitters[key] = method.fitter(task)
        setting = {
            "components": components,
            "shrinkage": knowledge.shrinkage[0],
            "kernel_width": knowledge.kernel_width[0],
            "feature_kernel_width": knowledge.feature_kernel_width[0],
            "ridge": knowledge.ridge[0],
            "seen_blend": knowledge.seen_blend[0],
            "uncertainty": False,
            "balance": True,
            "episodes": knowledge.episodes,
            "fusion": False,
        }
        selector(setting, self._fitters[key](setting))
        return selector
