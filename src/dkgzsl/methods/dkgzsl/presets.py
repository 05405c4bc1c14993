"""Settings by data set: the published ones beside the published results, ours where nothing was published.

One YAML file a data set, checked when it is read; `default.yaml` serves every other data set. Notes say what
the publication leaves out, and what was chosen instead. This package imports no torch.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files
from math import ceil
from typing import TYPE_CHECKING, Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from dkgzsl.config import AdversarialConfig, ClassifierConfig, TrainConfig


EVALUATIONS = 10
"""Looks at held-out images where `evaluate_every` does not say otherwise."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]

T = TypeVar("T")


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


class AdversarialPreset(Checked):
    """The adversarial training; names as in `AdversarialConfig`."""

    hidden_size: Annotated[int, Field(ge=2)]
    learning_rate: Positive
    fusion_learning_rate: Positive
    gamma: Positive


class ClassifierPreset(Checked):
    """The softmax classifier; names as in `ClassifierConfig`."""

    per_class: Count
    learning_rate: Positive


class Preset(Checked):
    """What is known to work on a data set.

    Attributes:
        dataset: its name; `default` for every data set without a file of its own.
        semantics: which class descriptions; None: the data set's own default.
        training: length and seed.
        adversarial: the adversarial training.
        softmax: the classifier.
        refinement_steps: steps of SOVR's training, where region features are refined.
        published: published figures by backbone; empty where the settings are ours.
        notes: what the publication leaves out, and what was chosen instead.
    """

    dataset: str
    semantics: str | None
    training: TrainingPreset
    adversarial: AdversarialPreset
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


def resolve_adversarial(config: AdversarialConfig, preset: Preset, *, epochs: int) -> AdversarialConfig:
    """The configuration with every None filled, for a training of so many epochs."""
    chosen = preset.adversarial
    return replace(
        config,
        hidden_size=_or(config.hidden_size, chosen.hidden_size),
        learning_rate=_or(config.learning_rate, chosen.learning_rate),
        fusion_learning_rate=_or(config.fusion_learning_rate, chosen.fusion_learning_rate),
        gamma=_or(config.gamma, chosen.gamma),
        evaluate_every=_or(config.evaluate_every, ceil(epochs / EVALUATIONS)),
    )


def resolve_softmax(config: ClassifierConfig, preset: Preset) -> ClassifierConfig:
    """The configuration with every None filled."""
    chosen = preset.softmax
    return replace(
        config,
        per_class=_or(config.per_class, chosen.per_class),
        learning_rate=_or(config.learning_rate, chosen.learning_rate),
    )


def resolve_paper(config: TrainConfig, dataset: str | None) -> TrainConfig:
    """The configuration of variant `paper` with everything filled that the data set's preset knows."""
    preset = preset_of(dataset)
    epochs = _or(config.epochs, preset.training.epochs)
    return replace(
        config,
        epochs=epochs,
        batch_size=_or(config.batch_size, preset.training.batch_size),
        first_seed=_or(config.first_seed, preset.training.seed),
        semantics=_or(config.semantics, preset.semantics),
        adversarial=resolve_adversarial(config.adversarial, preset, epochs=epochs),
        softmax=resolve_softmax(config.softmax, preset),
        refinement=replace(
            config.refinement,
            steps=_or(config.refinement.steps, preset.refinement_steps),
            precision="float32" if config.refinement.precision == "auto" else config.refinement.precision,
        ),
    )


def _or(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value
