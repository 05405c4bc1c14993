"""Two protocols: `validated` chooses on validation images and scores test images once, `oracle` chooses on test.

Both are short, since a method does not know which images its selector scores. A method that explores several
cuts at once (`CutMethod`) gets them under `validated`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dkgzsl.data.problem import Problem
from dkgzsl.data.samples import Sample, bounded_sample
from dkgzsl.data.splits import validation_cuts
from dkgzsl.errors import ConfigError
from dkgzsl.evaluation.adaptation import adaptation_worth, mean_worth
from dkgzsl.evaluation.calibration import THRESHOLD, Calibration, Reliability, calibrate
from dkgzsl.evaluation.cuts import KEPT, Constant, CutsSelector, constant_of, mean_figures
from dkgzsl.evaluation.held_out import POOLED, HeldOut, final_task, validation_task
from dkgzsl.evaluation.in_distribution import InDistribution, in_distribution_of, least_clearness, level_of
from dkgzsl.evaluation.metrics import Decisions, Figures, Scored
from dkgzsl.evaluation.selection import RAW_SHARE, Evaluation, TestSelector, ValidationSelector, Watch
from dkgzsl.memory import give_memory_back, used_behind
from dkgzsl.methods.base import Method, Model, Setting, Task
from dkgzsl.methods.cuts import CutMethod
from dkgzsl.methods.registry import method_info
from dkgzsl.representation.representation import Fitted, Representation, learns

ProtocolName = Literal["validated", "oracle"]


@dataclass(frozen=True)
class Outcome:
    """The result of a protocol for one method and seed.

    Attributes:
        protocol: its name.
        figures: on the test images.
        scored: what the final model decides for the test images; under `oracle`, the figure T1 may be another
            model's.
        model: the final model.
        setting: the chosen setting.
        constant: calibration constant, added to unseen scores; None under `oracle`, which has no validation.
        calibration: the same constant with temperature and threshold; None under `oracle`.
        validation: figures of the chosen setting on validation images, means over the cuts; None under `oracle`.
        validation_spread: their deviations from cut to cut; None where there was one cut, or none.
        cuts: number of validation cuts that the setting was chosen on; 0 under `oracle`.
        constant_found: the constant with the best mean H over the cuts, before it was shrunk; None under `oracle`.
        constant_spread: deviation of the cuts' own best constants; None where there was one cut, or none.
        adaptation: what adaptation to unlabelled photos was worth on the cuts (`mean_worth`); None: not measured.
        in_distribution: what an image needs to be taken for one of the classes; None: nothing is known of that.
        reliability: of the probabilities on the test images; None under `oracle`, and where nothing is tested.
        evaluations: number of models that were scored: on validation images, under `oracle` on the test images.
        sample: how much of the training part the setting was chosen on; None: all of it.
        representation: name of the chosen representation.
        fitted: that representation, fitted for the final model.
    """

    protocol: ProtocolName
    figures: Figures
    scored: Decisions
    model: Model
    setting: Mapping[str, Any]
    constant: float | None
    calibration: Calibration | None
    validation: Figures | None
    evaluations: int
    representation: str
    fitted: Fitted
    validation_spread: Figures | None = None
    cuts: int = 0
    constant_found: float | None = None
    constant_spread: float | None = None
    adaptation: Mapping[str, Any] | None = None
    in_distribution: InDistribution | None = None
    reliability: Reliability | None = None
    sample: Sample | None = None


class _Choice(NamedTuple):
    """What validation chose.

    Attributes:
        setting: of the method.
        representation: the way from features to vectors.
        scored: held-out images of each cut, scored by the chosen setting's model.
        constant: of calibration.
        evaluations: number of settings that were evaluated, of all representations.
        training: scores of some training images of each cut by the same models; None where they are not known.
        adaptation: what adaptation to unlabelled photos was worth on the cuts; None: not measured.
        sample: how much of the training part the cuts were made of; None: all of it.
    """

    setting: Setting
    representation: Representation
    scored: Sequence[Scored]
    constant: Constant
    evaluations: int
    training: Sequence[Float[np.ndarray, "some classes"] | None]
    adaptation: Mapping[str, Any] | None = None
    sample: Sample | None = None


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
    constant is the one with the best H for the chosen setting, over several cuts shrunk by its spread; 0 where
    `calibrated` is False. The other arguments are those of `run_protocol`.
    """
    choose = _choose_on_cuts if isinstance(method, CutMethod) else _choose_on_one
    choice = choose(method, problem, seed, representations, watch, memory, raw_share)
    if choice is None:
        raise _nothing_scored()
    constant = choice.constant.value if calibrated else 0.0
    give_memory_back()  # exploration leaves much of it in small pieces, and the final fit wants a large one
    task, held_out = final_task(problem, choice.representation)
    model = method.fit(task, choice.setting)
    validation, spread = mean_figures([one.figures(constant) for one in choice.scored])
    found, scales = _in_distribution(choice, constant, task, held_out, model)
    threshold = None if found is None else THRESHOLD
    calibration = replace(
        calibrate(choice.scored, constant, scales=scales, threshold=threshold),
        found=choice.constant.found,
        spread=choice.constant.spread,
    )
    tested = score_test(held_out, model, calibration, found)
    return Outcome(
        protocol="validated",
        figures=tested.decisions.figures(constant),
        scored=tested.decisions,
        model=model,
        setting=choice.setting,
        constant=constant,
        calibration=calibration,
        validation=validation,
        evaluations=choice.evaluations,
        representation=choice.representation.name,
        fitted=held_out.fitted,
        validation_spread=spread,
        cuts=len(choice.scored),
        constant_found=choice.constant.found,
        constant_spread=choice.constant.spread,
        adaptation=choice.adaptation,
        in_distribution=found,
        reliability=calibration.reliability_of(tested.decisions, tested.confidence, tested.fit),
        sample=choice.sample,
    )


def _in_distribution(
    choice: _Choice, constant: float, task: Task, held_out: HeldOut, model: Model
) -> tuple[InDistribution | None, list[float] | None]:
    """What images need, and the final model's scores in units of those of each cut's."""
    usual = held_out.training_scores(model)
    training = [one for one in choice.training if one is not None]
    levels, level = [], 1.0
    if usual is not None and len(training) == len(choice.scored):
        level = level_of(usual, held_out.is_unseen)
        cuts = zip(training, choice.scored, strict=True)
        levels = [level_of(scores, scored.is_unseen) for scores, scored in cuts]
    least = least_clearness(choice.scored, constant, levels) if levels else None
    found = in_distribution_of(task.features, task.labels.numpy(), level=level, least=least)
    return found, [level / one for one in levels] if levels else None


class Tested(NamedTuple):
    """What came of scoring the test images.

    Attributes:
        decisions: from which every figure follows.
        confidence: probability of each decision, the constant included.
        fit: in-distribution scores; None: nothing is known of that.
    """

    decisions: Decisions
    confidence: Float[np.ndarray, " images"]
    fit: Float[np.ndarray, " images"] | None


def score_test(held_out: HeldOut, model: Model, calibration: Calibration, found: InDistribution | None) -> Tested:
    """Score the test images, block by block.

    Args:
        held_out: the images.
        model: the final one.
        calibration: of its scores.
        found: what an image needs to be taken for one of the classes.
    """

    def tested(block: tuple[Float[Tensor, "block visual"], Scored]) -> Tested:
        vectors, scored = block
        constants = np.where(scored.is_unseen, calibration.constant, 0.0).astype(scored.scores.dtype)
        scores = scored.scores + constants
        fit = None if found is None else found.score(scores, scored.is_unseen, vectors)
        return Tested(scored.decisions, calibration.confidence(scores), fit)

    blocks = list(used_behind(tested, held_out.score_in_blocks(model)))
    fits = [block.fit for block in blocks if block.fit is not None]
    return Tested(
        Decisions.joined([block.decisions for block in blocks]),
        np.concatenate([block.confidence for block in blocks]),
        np.concatenate(fits) if fits else None,
    )


def _choose_on_one(
    method: Method,
    problem: Problem,
    seed: int,
    representations: Sequence[Representation],
    watch: Watch | None,
    memory: Path | None,
    raw_share: float,
) -> _Choice | None:
    """Setting and representation with the best score on the first cut."""
    chosen: tuple[float, Evaluation, Scored, Any, Representation] | None = None
    evaluations = 0
    for representation in representations:
        task, held_out = validation_task(problem, seed, representation)
        selector = ValidationSelector(held_out, watch, memory, representation.name, raw_share=raw_share)
        method.explore(task, selector)
        evaluations += selector.evaluations
        if selector.best is not None and (chosen is None or selector.best_score > chosen[0]):
            assert selector.best_scored is not None, "kept with the best evaluation"
            best, training = selector.best_scored, selector.best_training
            chosen = selector.best_score, selector.best, best, training, representation
        del task, held_out  # frees their memory before the next representation is fitted
    if chosen is None:
        return None
    _, evaluation, scored, training, representation = chosen
    constant = Constant(evaluation.constant, evaluation.constant, None)
    return _Choice(evaluation.setting, representation, [scored], constant, evaluations, [training])


def _choose_on_cuts(
    method: Method,
    problem: Problem,
    seed: int,
    representations: Sequence[Representation],
    watch: Watch | None,
    memory: Path | None,
    raw_share: float,
) -> _Choice | None:
    """Setting and representation that lead over several cuts of a bounded sample; see `dkgzsl.evaluation.cuts`.

    A representation that is learned is fitted on the first cut alone, since each fit is a training. It is compared
    there, and the spread of its constant is that of the best one that learns nothing.
    """
    assert isinstance(method, CutMethod), "chosen by it"
    whole, (problem, size) = problem, bounded_sample(problem, seed)
    every = validation_cuts(problem, seed)
    chosen: _Choice | None = None
    lead, spread, evaluations = np.empty(0), None, 0
    for representation in representations:
        cuts = every[:1] if learns(representation.name) else every
        parts = [validation_task(problem, seed, representation, cut=cut) for cut in cuts]
        tasks, held_out = [task for task, _ in parts], [held for _, held in parts]
        selector = CutsSelector(held_out, watch, memory, representation.name, raw_share=raw_share)
        method.explore_cuts(tasks, selector)
        evaluations += selector.evaluations
        shared = min(len(lead), len(selector.lead))
        if selector.setting is None or (shared and not selector.is_better(selector.lead[:shared], lead[:shared])):
            continue
        setting, lead = selector.setting, selector.lead
        models = [(method.fit(task, setting), held) for task, held in parts]
        scored = [held.score(model) for model, held in models]
        worth = mean_worth([adaptation_worth(held, model, seed=seed) for model, held in models])
        constant = constant_for(method, setting, scored, spread=spread)
        spread = constant.spread
        usual = [held.training_scores(model) for model, held in models]
        chosen = _Choice(setting, representation, scored, constant, 0, usual, worth)
    sample = None if problem is whole else size
    return None if chosen is None else chosen._replace(evaluations=evaluations, sample=sample)


def constant_for(
    method: Method, setting: Setting, scored: Sequence[Scored], *, spread: float | None = None
) -> Constant:
    """The calibration constant of a setting: see `constant_of`.

    Args:
        method: where it solves the balance of seen and unseen classes by itself, `KEPT` of the constant is used.
        setting: of the models that scored.
        scored: held-out images of each cut.
        spread: deviation of the constant, where it is known from elsewhere.
    """
    balance = method_info(method.name).balance
    balanced = balance is not None and balance(setting)
    return constant_of(scored, spread=spread, share=KEPT if balanced else 1.0)


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
        scored=scored.decisions,
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
