"""The two protocols: `validated`, which looks at the test images once, and `oracle`, which chooses on them.

Both are the same few lines, since a method does not know whom its selector looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dkgzsl.data.problem import Problem
from dkgzsl.errors import ConfigError
from dkgzsl.evaluation.calibration import Calibration, calibrate
from dkgzsl.evaluation.held_out import POOLED, final_task, validation_task
from dkgzsl.evaluation.metrics import Figures, Scored
from dkgzsl.evaluation.selection import Evaluation, TestSelector, ValidationSelector, Watch
from dkgzsl.methods.base import Method, Model
from dkgzsl.representation.representation import Fitted, Representation

ProtocolName = Literal["validated", "oracle"]


@dataclass(frozen=True)
class Outcome:
    """What a protocol found for one method and seed.

    Attributes:
        protocol: which one.
        figures: on the test images.
        scored: the final model's scores behind them; under `oracle`, T1 may come from another model.
        model: the final model.
        setting: what was chosen.
        constant: calibration constant on unseen scores; None under `oracle`, which has no validation.
        calibration: the same constant, with the temperature and the threshold that go with it; likewise.
        validation: figures of the choice on validation images; None under `oracle`.
        evaluations: how many models were scored, on validation images or, under `oracle`, on the test images.
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
    evaluations: int
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
    protocol = {"validated": validated, "oracle": oracle}[name]
    return protocol(method, problem, seed=seed, representations=representations, watch=watch, memory=memory)


def validated(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    representations: Sequence[Representation] = (POOLED,),
    watch: Watch | None = None,
    memory: Path | None = None,
    calibrated: bool = True,
) -> Outcome:
    """Choose on validation classes, fit again on all training images, score the test images once.

    Settings are chosen by AUSUC, which needs no constant, and a little by raw H (`RAW_SHARE`); the constant is the
    one with the best H for the choice.
    """
    chosen: tuple[float, Evaluation, Scored, Representation] | None = None
    evaluations = 0
    for representation in representations:
        task, held_out = validation_task(problem, seed, representation)
        selector = ValidationSelector(held_out, watch, memory, representation.name)
        method.explore(task, selector)
        evaluations += selector.evaluations
        if selector.best is not None and (chosen is None or selector.worth_of_best > chosen[0]):
            assert selector.best_scored is not None, "kept with the look"
            chosen = selector.worth_of_best, selector.best, selector.best_scored, representation
        del task, held_out  # before the next one is made
    if chosen is None:
        raise _nothing_scored()
    _, look, held, representation = chosen
    constant = look.constant if calibrated else 0.0
    task, held_out = final_task(problem, representation)
    model = method.fit(task, look.setting)
    scored = held_out.score(model)
    return Outcome(
        protocol="validated",
        figures=scored.figures(constant),
        scored=scored,
        model=model,
        setting=look.setting,
        constant=constant,
        calibration=calibrate(held, constant),
        validation=look.figures,
        evaluations=evaluations,
        representation=representation.name,
        fitted=held_out.fitted,
    )


def oracle(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    representations: Sequence[Representation] = (POOLED,),
    watch: Watch | None = None,
    memory: Path | None = None,
) -> Outcome:
    """The best of everything on the test images, as published: T1 by its own best model, U, S and H by theirs.

    Only to compare with printed tables: it chooses on test images, as often as `evaluations` says.
    """
    del seed  # the methods hold it; this protocol draws nothing
    best: tuple[TestSelector, Representation] | None = None
    evaluations, conventional = 0, 0.0
    for representation in representations:
        task, held_out = final_task(problem, representation)
        selector = TestSelector(held_out, watch, memory, representation.name)
        method.explore(task, selector)
        evaluations += selector.evaluations
        conventional = max(conventional, selector.best_conventional or 0.0)
        if best is None or selector.worth_of_best > best[0].worth_of_best:
            best = selector, representation
    if best is None or best[0].best is None or best[0].best_model is None:
        raise _nothing_scored()
    selector, representation = best
    assert selector.best is not None, "told above"
    assert selector.best_model is not None, "told above"
    model, scored = selector.best_model
    return Outcome(
        protocol="oracle",
        figures=replace(scored.figures(), t1=conventional),
        scored=scored,
        model=model,
        setting=selector.best.setting,
        constant=None,
        calibration=None,
        validation=None,
        evaluations=evaluations,
        representation=representation.name,
        fitted=selector.held_out.fitted,
    )


def _nothing_scored() -> ConfigError:
    return ConfigError(
        "nothing could be scored: the held-out images have no seen class, or no unseen one",
        fix="give the problem held-out images of both kinds",
    )
