"""Settings of DKGZSL, and what was published of them: settings and results by data set.

One YAML file a data set in `published/`, checked when it is read; `default.yaml` serves every other data set.
Notes say what the publication leaves out, and what was chosen instead. This module imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from math import ceil
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field

from dkgzsl.config import SoftmaxConfig, check_ranges
from dkgzsl.errors import ConfigError

EVALUATIONS = 10
"""Evaluations on held-out images, unless `evaluate_every` says otherwise."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]

T = TypeVar("T")


@dataclass(frozen=True)
class DKGZSLSettings:
    """A generator, trained against a critic and guided by a knowledge transfer network; then a softmax. A data set
    without published settings has settings of this package.

    Raises:
        ConfigError: a value is out of its range.
    """

    epochs: int | None = None
    """Passes over the training images, each unguided and then guided (default: as published for the data set)."""
    batch_size: int | None = None
    """Images per step (default: as published for the data set)."""
    hidden_size: int | None = None
    """Width of the hidden layers (default: as published, 4096)."""
    learning_rate: float | None = None
    """Adam's learning rate of generator, critic and knowledge transfer network (default: as published for the data
    set)."""
    fusion_learning_rate: float | None = None
    """Adam's learning rate of the meta-fusion units (default: as published for the data set)."""
    gamma: float | None = None
    """Weight of the adversarial objective (default: as published for the data set)."""
    penalty_weight: float = 10.0
    """Initial weight of the gradient penalty; it adapts from there."""
    critic_steps: int = 5
    """Critic steps per generator step."""
    knowledge_weight: float = 0.1
    """Weight of the knowledge transfer network's reconstruction loss."""
    fusion_weight: float = 0.1
    """Length of the guidance that is added at each generator layer."""
    evaluate_every: int | None = None
    """Epochs between evaluations on held-out images (default: 10 in all, and always at the end)."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Precision of the matrix products (default: float32; within a benchmark's minutes bfloat16, three times as
    fast).
    """
    softmax: SoftmaxConfig = field(default_factory=SoftmaxConfig)

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "dkgzsl.",
            at_least={
                "epochs": 1,
                "batch_size": 1,
                "hidden_size": 2,
                "critic_steps": 1,
                "evaluate_every": 1,
                "knowledge_weight": 0,
                "fusion_weight": 0,
            },
            above_zero=("learning_rate", "fusion_learning_rate", "gamma", "penalty_weight"),
        )


class Checked(BaseModel):
    """A part of a YAML file: no key too many, nothing changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PublishedFigures(Checked):
    """Published figures with one backbone, as fractions of 1, chosen on the test set by their authors."""

    t1: Share
    u: Share
    s: Share
    h: Share


class TrainingPreset(Checked):
    """Length and seed of the training."""

    epochs: Count
    batch_size: Count
    seed: Annotated[int, Field(ge=0)]


class GeneratorPreset(Checked):
    """The training of generator and critic; names as in `DKGZSLSettings`."""

    hidden_size: Annotated[int, Field(ge=2)]
    learning_rate: Positive
    fusion_learning_rate: Positive
    gamma: Positive


class ClassifierPreset(Checked):
    """The softmax classifier; names as in `SoftmaxConfig`."""

    per_class: Count
    learning_rate: Positive


class Preset(Checked):
    """What is known to work on a data set.

    Attributes:
        dataset: its name; `default` for every data set without a file of its own.
        semantics: which class descriptions; None: the data set's own default.
        training: length and seed.
        generator: the training of generator and critic.
        softmax: the classifier.
        refinement_steps: steps of SOVR's training, where region features are refined.
        published: published figures by backbone; empty where the settings are ours.
        notes: what the publication leaves out, and what was chosen instead.
    """

    dataset: str
    semantics: str | None
    training: TrainingPreset
    generator: GeneratorPreset
    softmax: ClassifierPreset
    refinement_steps: Count
    published: dict[str, PublishedFigures]
    notes: tuple[str, ...]


def preset_names() -> tuple[str, ...]:
    """Data sets with a preset of their own, in alphabetical order."""
    return tuple(sorted(preset.dataset for preset in _presets() if preset.dataset != "default"))


def preset_of(dataset: str | None) -> Preset:
    """The preset of a data set (upper and lower case alike), or else the default one."""
    by_name = {preset.dataset.casefold(): preset for preset in _presets()}
    return by_name.get((dataset or "default").casefold(), by_name["default"])


@cache
def _presets() -> tuple[Preset, ...]:
    here = sorted(
        (
            file
            for file in files("dkgzsl.methods.dkgzsl").joinpath("published").iterdir()
            if file.name.endswith(".yaml")
        ),
        key=lambda f: f.name,
    )
    return tuple(Preset.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))) for file in here)


def filled(settings: DKGZSLSettings, preset: Preset, *, capped: bool = False) -> DKGZSLSettings:
    """The settings with nothing left open.

    Args:
        settings: as they were given.
        preset: of the data set.
        capped: a training within minutes, which ends long before DKGZSL has learned anything: its
            networks are narrower, its products in bfloat16, its classifier shorter. Such figures are not the
            publication's.
    """
    softmax = settings.softmax
    epochs = _or(settings.epochs, preset.training.epochs)
    return replace(
        settings,
        epochs=epochs,
        batch_size=_or(settings.batch_size, preset.training.batch_size),
        hidden_size=_or(settings.hidden_size, _CAPPED_HIDDEN if capped else preset.generator.hidden_size),
        learning_rate=_or(settings.learning_rate, preset.generator.learning_rate),
        fusion_learning_rate=_or(settings.fusion_learning_rate, preset.generator.fusion_learning_rate),
        gamma=_or(settings.gamma, preset.generator.gamma),
        evaluate_every=_or(settings.evaluate_every, ceil(epochs / EVALUATIONS)),
        precision=_or(settings.precision, "bfloat16" if capped else "float32"),
        softmax=replace(
            softmax,
            per_class=_or(softmax.per_class, _CAPPED_PER_CLASS if capped else preset.softmax.per_class),
            learning_rate=_or(softmax.learning_rate, preset.softmax.learning_rate),
            epochs=_or(softmax.epochs, _CAPPED_EPOCHS if capped else SOFTMAX_EPOCHS),
        ),
    )


_CAPPED_HIDDEN, _CAPPED_PER_CLASS, _CAPPED_EPOCHS = 1024, 200, 5
SOFTMAX_EPOCHS = 25
"""Passes of the softmax classifier, as published."""


def _or(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value


@dataclass(frozen=True)
class AdversarialSettings:
    """All that decides the training, given features and descriptions; meanings and ranges as in the configuration.

    Raises:
        ConfigError: a number is out of its range.
    """

    hidden_size: int
    batch_size: int
    learning_rate: float
    fusion_learning_rate: float
    gamma: float
    penalty_weight: float = 10.0
    critic_steps: int = 5
    knowledge_weight: float = 0.1
    fusion_weight: float = 0.1
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("batch_size", "critic_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.hidden_size < 2:
            raise ConfigError(f"hidden_size must be at least 2, not {self.hidden_size}")
        for name in ("learning_rate", "fusion_learning_rate", "gamma", "penalty_weight"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("knowledge_weight", "fusion_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be 0 or above, not {getattr(self, name)}")
