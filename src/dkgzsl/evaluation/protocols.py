"""The two protocols: `validated`, which looks at the test images once, and `paper`, which chooses on them.

PROTOCOL.md, "Two protocols". Both are the same few lines, since a method does not know whom its judge looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from dkgzsl.data.problem import Problem
from dkgzsl.errors import ConfigError
from dkgzsl.evaluation.examination import Examination, Represent, final_of, pooled, validation_of
from dkgzsl.evaluation.metrics import Figures, Scored
from dkgzsl.methods.base import Method, Model, Setting

ProtocolName = Literal["validated", "paper"]
Watch = Callable[[Setting, Figures], None]
"""Told of each look at held-out images."""


@dataclass(frozen=True)
class Outcome:
    """What a protocol found for one method and seed.

    Attributes:
        protocol: which one.
        figures: on the test images.
        scored: the final model's scores behind them; under `paper`, T1 may come from another model.
        model: the final model.
        setting: what was chosen.
        constant: calibration constant on unseen scores; None under `paper`, which has no validation.
        validation: figures of the choice on validation images; None under `paper`.
        looks: how many models were judged, on validation images or, under `paper`, on the test images.
    """

    protocol: ProtocolName
    figures: Figures
    scored: Scored
    model: Model
    setting: Mapping[str, Any]
    constant: float | None
    validation: Figures | None
    looks: int


def run_protocol(
    name: ProtocolName,
    method: Method,
    problem: Problem,
    *,
    seed: int,
    represent: Represent = pooled,
    watch: Watch | None = None,
) -> Outcome:
    """Run a method under a protocol, by name."""
    protocol = {"validated": validated, "paper": best_on_test}[name]
    return protocol(method, problem, seed=seed, represent=represent, watch=watch)


def validated(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    represent: Represent = pooled,
    watch: Watch | None = None,
) -> Outcome:
    """Choose on validation classes, fit again on all training images, score the test images once.

    Settings are chosen by AUSUC, which needs no constant; the constant is the one with the best H for the choice.
    """
    task, examination = validation_of(problem, seed, represent)
    judge = _Judge(examination, watch)
    method.explore(task, judge)
    chosen = judge.best
    if chosen is None:
        raise _unjudged()
    del task, examination  # before the larger task is made
    task, examination = final_of(problem, represent)
    model = method.fit(task, chosen.setting)
    scored = examination.score(model)
    return Outcome(
        protocol="validated",
        figures=scored.figures(chosen.constant),
        scored=scored,
        model=model,
        setting=chosen.setting,
        constant=chosen.constant,
        validation=chosen.figures,
        looks=judge.looks,
    )


def best_on_test(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    represent: Represent = pooled,
    watch: Watch | None = None,
) -> Outcome:
    """The best of everything on the test images, as published: T1 by its own best model, U, S and H by theirs.

    Only to compare with printed tables: it chooses on test images, as often as `looks` says.
    """
    del seed  # the methods hold it; this protocol draws nothing
    task, examination = final_of(problem, represent)
    judge = _TestJudge(examination, watch)
    method.explore(task, judge)
    if judge.best is None or judge.best_model is None:
        raise _unjudged()
    model, scored = judge.best_model
    return Outcome(
        protocol="paper",
        figures=replace(scored.figures(), t1=judge.best_conventional),
        scored=scored,
        model=model,
        setting=judge.best.setting,
        constant=None,
        validation=None,
        looks=judge.looks,
    )


@dataclass(frozen=True)
class _Look:
    """One model's figures on held-out images."""

    setting: Setting
    figures: Figures
    constant: float


@dataclass
class _Judge:
    """Scores models on held-out images and remembers the best by AUSUC, which needs no constant."""

    examination: Examination
    watch: Watch | None = None
    looks: int = 0
    best: _Look | None = None

    def __call__(self, setting: Setting, model: Model) -> float:
        look, _ = self._look(setting, model)
        area = look.figures.ausuc
        if area is None:
            return float("-inf")
        if self.best is None or area > (self.best.figures.ausuc or 0.0):
            self.best = look
        return area

    def _look(self, setting: Setting, model: Model) -> tuple[_Look, Scored]:
        scored = self.examination.score(model)
        constant = scored.curve().best_constant()
        look = _Look(dict(setting), scored.figures(constant), constant)
        self.looks += 1
        if self.watch is not None:
            self.watch(setting, look.figures)
        return look, scored


@dataclass
class _TestJudge(_Judge):
    """Remembers the best T1 and the best raw H, each with its own model, as published tables do."""

    best_conventional: float | None = None
    best_model: tuple[Model, Scored] | None = None

    def __call__(self, setting: Setting, model: Model) -> float:
        look, scored = self._look(setting, model)
        if look.figures.t1 is not None:
            self.best_conventional = max(look.figures.t1, self.best_conventional or 0.0)
        harmonic = look.figures.h
        if harmonic is None:
            return float("-inf")
        if self.best is None or harmonic > (self.best.figures.h or 0.0):
            self.best, self.best_model = look, (model, scored)
        return harmonic


def _unjudged() -> ConfigError:
    return ConfigError(
        "nothing could be judged: the held-out images have no seen class, or no unseen one",
        fix="give the problem held-out images of both kinds",
    )
