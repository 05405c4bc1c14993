"""A trial of a search: settings of `train`, fitted and scored on validation classes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dkgzsl.config import TrainConfig
from dkgzsl.data.problem import Problem
from dkgzsl.data.samples import bounded_sample
from dkgzsl.data.splits import validation_cuts
from dkgzsl.errors import RunError
from dkgzsl.evaluation.bootstrap import deviations
from dkgzsl.evaluation.cuts import CutsSelector, mean_figures
from dkgzsl.evaluation.held_out import HeldOut, validation_task
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.evaluation.protocols import constant_for
from dkgzsl.evaluation.selection import RAW_SHARE, ValidationSelector
from dkgzsl.methods.base import Method, Task
from dkgzsl.methods.cuts import CutMethod
from dkgzsl.methods.search import with_values
from dkgzsl.representation.representation import learns
from dkgzsl.runs.plan import Plan
from dkgzsl.runs.shares import SentPlan

Values = Mapping[str, Any]
"""A trial's settings, by the names that `train` has for them; numbers and words."""
REPRESENTATION = "representation"
FIGURES = ("ausuc", "h", "u", "s", "h_calibrated")


@dataclass(frozen=True)
class TrialRecord:
    """A trial that is done.

    Attributes:
        number: from 0.
        values: its settings, by the names of `train`; empty for the defaults.
        score: AUSUC and a little raw H (`RAW_SHARE`) on validation images; None where it could not be fitted.
        figures: on validation images, fractions of 1; empty where there are none.
        seconds: wall-clock time.
        error: why it could not be fitted, or None.
        spread: deviation of the score over the validation cuts, or, where there is one, over draws of its classes;
            None where it could not be fitted.
    """

    number: int
    values: Values
    score: float | None
    figures: dict[str, float | None]
    seconds: float
    error: str | None
    spread: float | None = None


def settings_of(plan: Plan, values: Values) -> TrainConfig:
    """The settings of `train` that a trial stands for: each list of things to try has one entry.

    Without values they are the defaults, whose lists have all their entries.
    """
    config, prefix = plan.config, f"{plan.info.section}."
    if REPRESENTATION in values:
        config = replace(config, representation=(values[REPRESENTATION],))
    own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    return replace(config, settings=with_values(config.settings, own))


class Scores(NamedTuple):
    """What validation says of a trial.

    Attributes:
        score: what is maximised; minus infinity where nothing could be scored.
        figures: on validation images, means over the cuts; None where nothing could be scored.
        spread: deviation of the score over the cuts, or over draws of the classes of the one there is.
    """

    score: float
    figures: Figures | None
    spread: float = 0.0


class TrialRunner:
    """Fits and scores trials of one plan on validation images; what trials share is computed once.

    Args:
        plan: what is searched.
        seed: of what is learned.
    """

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan, self.seed = plan, seed
        self._ways = {one.name: one for one in plan.representations(seed)}
        self._parts: dict[tuple[str, int], tuple[Task, HeldOut]] = {}
        self._shared: dict[Any, Any] = {}

    def __call__(self, values: Values) -> Scores:
        """Score of all that `train` would show its selector under these settings, on the same validation cuts.

        Of several representations, as the defaults may have, the best score counts.
        """
        config = settings_of(self.plan, values)
        assert config.representation is not None, "the plan fills it"
        return max((self._scores(config, one) for one in config.representation), key=lambda found: found.score)

    def _scores(self, config: TrainConfig, representation: str) -> Scores:
        method = replace(self.plan, config=config).make_method(self.seed, shared=self._shared)
        if isinstance(method, CutMethod):
            return self._on_cuts(method, representation)
        task, held_out = self._part(representation, 0, self.plan.problem)
        selector = ValidationSelector(held_out, None, None, representation)
        method.explore(task, selector)
        if selector.best is None or selector.best_scored is None:
            return Scores(selector.best_score, None)
        spread = deviations(selector.best_scored.decisions, selector.best.constant).get("ausuc", 0.0)
        return Scores(selector.best_score, selector.best.figures, spread)

    def _on_cuts(self, method: Method, representation: str) -> Scores:
        assert isinstance(method, CutMethod), "chosen by it"
        problem, _ = bounded_sample(self.plan.problem, self.seed)
        cuts = validation_cuts(problem, self.seed)
        chosen = cuts[:1] if learns(representation) else cuts
        parts = [self._part(representation, cut, problem) for cut in chosen]
        held_out = [held for _, held in parts]
        selector = CutsSelector(held_out, None, None, representation, raw_share=RAW_SHARE)
        method.explore_cuts([task for task, _ in parts], selector)
        setting = selector.setting
        if setting is None:
            return Scores(float("-inf"), None)
        scored = [held.score(method.fit(task, setting)) for task, held in parts]
        constant = constant_for(method, setting, scored).value
        figures = mean_figures([one.figures(constant) for one in scored])[0]
        if len(scored) > 1:
            return Scores(float(selector.lead.mean()), figures, float(selector.lead.std(ddof=1)))
        return Scores(
            float(selector.lead.mean()), figures, deviations(scored[0].decisions, constant).get("ausuc", 0.0)
        )

    def _part(self, representation: str, cut: int, problem: Problem) -> tuple[Task, HeldOut]:
        key = representation, cut
        if key not in self._parts:
            way = self._ways[representation]
            self._parts[key] = validation_task(problem, self.seed, way, cut=cut)
        return self._parts[key]


def record_trial(runner: TrialRunner, number: int, values: Values) -> TrialRecord:
    """Fit and score a trial; one that cannot be fitted is recorded with the reason."""
    start = time.monotonic()
    try:
        found = runner(values)
    except (LinAlgError, RunError) as error:  # no solution, or the training diverged: a bad setting
        message = str(error).splitlines()[0]
        return TrialRecord(number, values, None, {}, time.monotonic() - start, message)
    seconds = time.monotonic() - start
    if found.figures is None:
        return TrialRecord(number, values, None, {}, seconds, "the scores are no numbers")
    figures = {name: getattr(found.figures, name) for name in FIGURES}
    return TrialRecord(number, values, found.score, figures, seconds, None, found.spread)


class SentSearch(NamedTuple):
    """What all trials of a search have in common, on a cluster.

    Attributes:
        plan: what is searched; each worker loads the data.
        seed: of what is learned.
        key: of the call: a worker keeps what its trials share, and no longer than for one call.
    """

    plan: SentPlan
    seed: int
    key: str


_RUNNERS: dict[str, TrialRunner] = {}
"""In a worker: the runner of the call, by its key."""


def trial_of_share(sent: SentSearch, share: tuple[int, Values]) -> TrialRecord:
    """Fit and score a trial on a worker.

    Args:
        sent: the search.
        share: number and settings of the trial.
    """
    if sent.key not in _RUNNERS:
        _RUNNERS.clear()
        _RUNNERS[sent.key] = TrialRunner(sent.plan.plan(), sent.seed)
    return record_trial(_RUNNERS[sent.key], *share)
