"""Two protocols: `validated` chooses on validation images and scores test images once, `oracle` chooses on test.

Both are short, since a method does not know which images its selector scores.
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
from dkgzsl.evaluation.selection import RAW_SHARE, Evaluation, TestSelector, ValidationSelector, Watch
from dkgzsl.methods.base import Method, Model
from dkgzsl.representation.representation import Fitted, Representation

ProtocolName = Literal["validated", "oracle"]


@dataclass(frozen=True)
class Outcome:
    """The result of a protocol for one method and seed.

    Attributes:
        protocol: its name.
        figures: on the test images.
        scored: scores of the test images by the final model; under `oracle`, the figure T1 may be another model's.
        model: the final model.
        setting: the chosen setting.
        constant: calibration constant, added to unseen scores; None under `oracle`, which has no validation.
        calibration: the same constant with temperature and threshold; None under `oracle`.
        validation: figures of the chosen setting on validation images; None under `oracle`.
        evaluations: number of models that were scored: on validation images, under `oracle` on the test images.
        representation: name of the chosen representation.
        fitted: that representation, fitted for the final model.
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
    raw_share: float = RAW_SHARE,
) -> Outcome:
    """Run a method under a protocol.

    Args:
        name: the protocol.
        method: explores its settings, then is fitted with the chosen one.
        problem: the data.
        seed: draws the held-out images of validation.
        representations: those to choose from; the best is chosen together with the setting.
        watch: called after each evaluation.
        memory: folder where evaluations are written, so that an interrupted run can be resumed; None: nowhere.
        raw_share: weight of raw H next to AUSUC in the choice under `validated`; 0: AUSUC alone decides.

    Raises:
        ConfigError: no model could be scored, because the held-out images lack seen or unseen classes.
    """
    ways = representations
    if name == "oracle":
        return oracle(method, problem, seed=seed, representations=ways, watch=watch, memory=memory)
    return validated(
        method, problem, seed=seed, representations=ways, watch=watch, memory=memory, raw_share=raw_share
    )


def validated(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    representations: Sequence[Representation] = (POOLED,),
    watch: Watch | None = None,
    memory: Path | None = None,
    calibrated: bool = True,
    raw_share: float = RAW_SHARE,
) -> Outcome:
    """Choose on validation classes, fit again on all training images, score the test images once.

    Setting and representation are chosen by AUSUC, which needs no constant, plus `raw_share` times raw H. The
    constant is the one with the best H for the chosen setting; 0 where `calibrated` is False. The other arguments
    are those of `run_protocol`.
    """
    chosen: tuple[float, Evaluation, Scored, Representation] | None = None
    evaluations = 0
    for representation in representations:
        task, held_out = validation_task(problem, seed, representation)
        selector = ValidationSelector(held_out, watch, memory, representation.name, raw_share=raw_share)
        method.explore(task, selector)
        evaluations += selector.evaluations
        if selector.best is not None and (chosen is None or selector.best_score > chosen[0]):
            assert selector.best_scored is not None, "kept with the best evaluation"
            chosen = selector.best_score, selector.best, selector.best_scored, representation
        del task, held_out  # frees their memory before the next representation is fitted
    if chosen is None:
        raise _nothing_scored()
    _, evaluation, validation, representation = chosen
    constant = evaluation.constant if calibrated else 0.0
    task, held_out = final_task(problem, representation)
    model = method.fit(task, evaluation.setting)
    scored = held_out.score(model)
    return Outcome(
        protocol="validated",
        figures=scored.figures(constant),
        scored=scored,
        model=model,
        setting=evaluation.setting,
        constant=constant,
        calibration=calibrate(validation, constant),
        validation=evaluation.figures,
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
    """Choose on the test images, as printed tables do: T1 and H are each the best of any model.

    U, S and AUSUC are those of the model with the best H. For comparison with printed tables only: the number of
    choices on test images is `evaluations`. Arguments as in `run_protocol`.
    """
    del seed  # nothing is held out, so nothing is drawn
    best: tuple[TestSelector, Representation] | None = None
    evaluations, best_t1 = 0, 0.0
    for representation in representations:
        task, held_out = final_task(problem, representation)
        selector = TestSelector(held_out, watch, memory, representation.name)
        method.explore(task, selector)
        evaluations += selector.evaluations
        best_t1 = max(best_t1, selector.best_conventional or 0.0)
        if best is None or selector.best_score > best[0].best_score:
            best = selector, representation
    if best is None or best[0].best is None or best[0].best_model is None:
        raise _nothing_scored()
    selector, representation = best
    assert selector.best is not None
    assert selector.best_model is not None
    model, scored = selector.best_model
    return Outcome(
        protocol="oracle",
        figures=replace(scored.figures(), t1=best_t1),
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
