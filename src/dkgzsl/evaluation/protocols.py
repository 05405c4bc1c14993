"""The two protocols: `validated`, which looks at the test images once, and `paper`, which chooses on them.

Both are the same few lines, since a method does not know whom its judge looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dkgzsl.data.problem import Problem
from dkgzsl.errors import ConfigError
from dkgzsl.evaluation.calibration import Calibration, calibrate
from dkgzsl.evaluation.held_out import POOLED, final_of, validation_of
from dkgzsl.evaluation.metrics import Figures, Scored
from dkgzsl.evaluation.selection import Look, TestJudge, ValidationJudge, Watch
from dkgzsl.methods.base import Method, Model
from dkgzsl.representation.representation import Fitted, Representation

ProtocolName = Literal["validated", "paper"]


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
        calibration: the same constant, with the temperature and the threshold that go with it; likewise.
        validation: figures of the choice on validation images; None under `paper`.
        looks: how many models were judged, on validation images or, under `paper`, on the test images.
        representation: name of the chosen representation.
        fitted: the representation as fitted for the final model.
    """

    protocol: ProtocolName
    figures: Figures
    scored: Scored
    model: Model
    setting: Mapping[str, Any]
    constant: float | None
    calibration: Calibration | None
    validation: Figures | None
    looks: int
    representation: str
    fitted: Fitted


def run_protocol(
    name: ProtocolName,
    method: Method,
    problem: Problem,
    *,
    seed: int,
    representations: Sequence[Representation] = (POOLED,),
    watch: Watch | None = None,
    memory: Path | None = None,
) -> Outcome:
    """Run a method under a protocol.

    Args:
        name: the protocol.
        method: fitted as the protocol says.
        problem: the data.
        seed: draws the held-out images of validation.
        representations: ways to turn features into vectors; the best is chosen as settings are.
        watch: told of each look at held-out images.
        memory: folder that keeps what was looked at, so that an interrupted run goes on; None keeps nothing.
    """
    protocol = {"validated": validated, "paper": best_on_test}[name]
    return protocol(method, problem, seed=seed, representations=representations, watch=watch, memory=memory)


def validated(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    representations: Sequence[Representation] = (POOLED,),
    watch: Watch | None = None,
    memory: Path | None = None,
) -> Outcome:
    """Choose on validation classes, fit again on all training images, score the test images once.

    Settings are chosen by AUSUC, which needs no constant, and a little by raw H (`RAW_SHARE`); the constant is the
    one with the best H for the choice.
    """
    chosen: tuple[float, Look, Scored, Representation] | None = None
    looks = 0
    for representation in representations:
        task, examination = validation_of(problem, seed, representation)
        judge = ValidationJudge(examination, watch, memory, representation.name)
        method.explore(task, judge)
        looks += judge.looks
        if judge.best is not None and (chosen is None or judge.worth_of_best > chosen[0]):
            assert judge.best_scored is not None, "kept with the look"
            chosen = judge.worth_of_best, judge.best, judge.best_scored, representation
        del task, examination  # before the next one is made
    if chosen is None:
        raise _unjudged()
    _, look, held, representation = chosen
    task, examination = final_of(problem, representation)
    model = method.fit(task, look.setting)
    scored = examination.score(model)
    return Outcome(
        protocol="validated",
        figures=scored.figures(look.constant),
        scored=scored,
        model=model,
        setting=look.setting,
        constant=look.constant,
        calibration=calibrate(held, look.constant),
        validation=look.figures,
        looks=looks,
        representation=representation.name,
        fitted=examination.fitted,
    )


def best_on_test(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    representations: Sequence[Representation] = (POOLED,),
    watch: Watch | None = None,
    memory: Path | None = None,
) -> Outcome:
    """The best of everything on the test images, as published: T1 by its own best model, U, S and H by theirs.

    Only to compare with printed tables: it chooses on test images, as often as `looks` says.
    """
    del seed  # the methods hold it; this protocol draws nothing
    best: tuple[TestJudge, Representation] | None = None
    looks, conventional = 0, 0.0
    for representation in representations:
        task, examination = final_of(problem, representation)
        judge = TestJudge(examination, watch, memory, representation.name)
        method.explore(task, judge)
        looks += judge.looks
        conventional = max(conventional, judge.best_conventional or 0.0)
        if best is None or judge.worth_of_best > best[0].worth_of_best:
            best = judge, representation
    if best is None or best[0].best is None or best[0].best_model is None:
        raise _unjudged()
    judge, representation = best
    assert judge.best is not None, "told above"
    assert judge.best_model is not None, "told above"
    model, scored = judge.best_model
    return Outcome(
        protocol="paper",
        figures=replace(scored.figures(), t1=conventional),
        scored=scored,
        model=model,
        setting=judge.best.setting,
        constant=None,
        calibration=None,
        validation=None,
        looks=looks,
        representation=representation.name,
        fitted=judge.examination.fitted,
    )


def _unjudged() -> ConfigError:
    return ConfigError(
        "nothing could be judged: the held-out images have no seen class, or no unseen one",
        fix="give the problem held-out images of both kinds",
    )
