"""A search by Optuna for settings on a user's own data, scored on validation classes only.

Each trial's sampler is seeded by the search's seed and the number of trials done, so that a search that was broken
off goes on as if it had not been. The journal is a file of JSON lines.

Source: the tree-structured Parzen estimator, Bergstra et al. (NeurIPS 2011).
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dkgzsl.benchmark.run import write
from dkgzsl.compatibility import FORMAT, check_format
from dkgzsl.config import TrainConfig, TuneConfig
from dkgzsl.data.problem import Problem
from dkgzsl.data.splits import validation_cuts
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.evaluation.cuts import CutsSelector, mean_figures
from dkgzsl.evaluation.held_out import HeldOut, validation_task
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.evaluation.protocols import constant_for
from dkgzsl.evaluation.selection import RAW_SHARE, ValidationSelector
from dkgzsl.files import write_whole
from dkgzsl.methods.base import Method, MethodInfo, Task
from dkgzsl.methods.cuts import CutMethod
from dkgzsl.methods.registry import BUILT_IN, method_info
from dkgzsl.methods.search import Choice, Space, grid_of, start_of, with_values
from dkgzsl.reading import read_json
from dkgzsl.representation.representation import learns
from dkgzsl.runs.environment import split_hash
from dkgzsl.runs.plan import Plan, make_plan

_JOURNAL, _SEARCH = "journal.jsonl", "search.json"
_STARTUP = 10
"""Trials at random before the estimator has something to go by."""
Values = Mapping[str, Any]
"""A trial's settings, by the names that `train` has for them; numbers and words."""
_REPRESENTATION = "representation"
_FIGURES = ("ausuc", "h", "u", "s", "h_calibrated")


@dataclass(frozen=True)
class TrialRecord:
    """A trial that is done.

    Attributes:
        number: from 0.
        values: its settings, by the names of `train`.
        score: AUSUC and a little raw H (`RAW_SHARE`) on validation images; None where it could not be fitted.
        figures: on validation images, fractions of 1; empty where there are none.
        seconds: wall-clock time.
        error: why it could not be fitted, or None.
    """

    number: int
    values: Values
    score: float | None
    figures: dict[str, float | None]
    seconds: float
    error: str | None


@dataclass(frozen=True)
class Tuned:
    """A search as it stands.

    Attributes:
        folder: `best.yaml`, `trials.csv`, and the journal that the search goes on from.
        plan: what was searched.
        trials: all that are done, those of earlier calls, too.
        best: the one with the highest score.
    """

    folder: Path
    plan: Plan
    trials: list[TrialRecord]
    best: TrialRecord


def tune(
    config: TuneConfig,
    *,
    on_trial: Callable[[TrialRecord, float | None], None] | None = None,
    on_begin: Callable[[Plan, int], None] | None = None,
) -> Tuned:
    """Search until `trials` are done or the minutes are over.

    Args:
        config: the settings; see `TuneConfig`.
        on_trial: called with each trial, and of the best score so far.
        on_begin: called with the plan and of how many trials the folder holds, before the first one.

    Raises:
        ConfigError: Optuna is missing, settings that clash, or no trial could be fitted.
        DataError: data that is missing or unfit.
        RunError: a folder that cannot be written, or holds another search.
    """
    optuna = _optuna()
    if config.out is None:
        raise ConfigError("the search needs a folder", fix="name one: --out FOLDER")
    plan = make_plan(_train_config(config))
    folder, space = Path(config.out), space_of(plan)
    _begin(folder, plan, config.seed)
    study = _study(optuna, folder)
    runner = TrialRunner(plan, config.seed)
    done = _records(optuna, study)
    if on_begin is not None:
        on_begin(plan, len(done))
    end = time.monotonic() + 60 * config.minutes if config.minutes else None
    while len(done) < config.trials and (end is None or time.monotonic() < end):
        study.sampler = _sampler(optuna, config.seed, len(done))
        if not done:
            study.enqueue_trial(first_trial(plan, space), skip_if_exists=False)
        trial = study.ask()
        values = {name: one.suggest(trial, name) for name, one in space.items()}
        record = _record(runner, len(done), values)
        trial.set_user_attr("record", json.loads(json.dumps(asdict(record))))
        study.tell(trial, record.score, state=None if record.score is not None else optuna.trial.TrialState.FAIL)
        done.append(record)
        best = _best(done)
        _write(folder, plan, done, best)
        if on_trial is not None:
            on_trial(record, None if best is None else best.score)
    best = _best(done)
    if best is None:
        why = next((one.error for one in done if one.error), "the time was over before the first one")
        raise ConfigError(f"no trial came to a score: {why}", fix="look at the data (dkgzsl data check)")
    _write(folder, plan, done, best)
    return Tuned(folder, plan, done, best)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("optuna is not installed", fix="pip install 'dkgzsl[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _train_config(config: TuneConfig) -> TrainConfig:
    shared = {f.name for f in fields(TrainConfig)} & {f.name for f in fields(TuneConfig)}
    shared -= {"config", "json", "out"}
    return TrainConfig(first_seed=config.seed, **{name: getattr(config, name) for name in shared})


def _begin(folder: Path, plan: Plan, seed: int) -> None:
    """Make the folder; one that holds something else, or a search by other settings, is left alone."""
    what = {"seed": seed, "split_sha256": split_hash(plan.problem), "settings": plan.recorded()}
    if folder.exists() and not folder.is_dir():
        raise RunError("the search's folder is a file", where=str(folder), fix="name another --out")
    file = folder / _SEARCH
    if not file.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise RunError("the folder holds something else", where=str(folder), fix="name another --out")
        write(folder, _SEARCH, json.dumps(what, indent=1, ensure_ascii=False) + "\n")
        return
    found = read_json(file, dict[str, Any], "the search cannot be read", error=RunError, fix="name another --out")
    if not isinstance(found.get("settings"), dict):
        raise RunError("the search cannot be read: no settings", where=str(file), fix="name another --out")
    if check_format(found["settings"], where=str(file)) != FORMAT:
        raise RunError("dkgzsl 0.1 (format 1) began this search", where=str(folder), fix="name another --out")
    if found != json.loads(json.dumps(what)):
        raise RunError(
            "the folder holds a search by other settings or on other data",
            where=str(folder),
            fix="the settings it was begun with continue it; otherwise name another --out",
        )


def _study(optuna: Any, folder: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    file = folder / _JOURNAL
    try:
        if file.is_file():  # a last line that was broken off must not be glued to the next one
            content = file.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                write_whole(file, whole)
        Path(f"{file}.lock").unlink(missing_ok=True)  # left by a process that was killed as it wrote
        backend = JournalFileBackend(str(file), lock_obj=JournalFileOpenLock(str(file)))
        return optuna.create_study(
            study_name="tune", storage=JournalStorage(backend), direction="maximize", load_if_exists=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"the search's journal cannot be read or written: {error}", where=str(file), fix="name another --out"
        ) from error


def _sampler(optuna: Any, seed: int, done: int) -> Any:
    drawn = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=drawn, n_startup_trials=_STARTUP)


def space_of(plan: Plan) -> Space:
    """What is searched: the method's ranges under the names of its section, and the representation where several
    are named.

    Raises:
        ConfigError: there is nothing to search for.
    """
    assert plan.config.representation is not None, "the plan fills it"
    within = _own_space(plan.info, plan.config.settings, plan.problem)
    chosen: dict[str, Any] = {}
    if len(plan.config.representation) > 1:
        chosen[_REPRESENTATION] = Choice(plan.config.representation)
    if not within and not chosen:
        raise _nothing_to_search(plan)
    return chosen | {f"{plan.info.section}.{name}": part for name, part in within.items()}


def _own_space(info: MethodInfo, settings: Any, problem: Problem) -> Space:
    return grid_of(settings) if info.search is None else info.search(settings, len(problem.parts.trainval))


def _nothing_to_search(plan: Plan) -> ConfigError:
    infos = map(method_info, BUILT_IN)
    others = [one.name for one in infos if _own_space(one, one.settings(), plan.problem)]
    if plan.method in others:
        return ConfigError(
            f"every setting of {plan.method} has one value", fix="give one of them several, or leave it out"
        )
    return ConfigError(
        f"{plan.method} has no setting to search for", fix=f"tune with --method {', '.join(others)}"
    )


def first_trial(plan: Plan, space: Space) -> dict[str, Any]:
    """Where the search begins: the first representation, and what the method says or its settings have."""
    prefix = f"{plan.info.section}."
    within = {name.removeprefix(prefix): part for name, part in space.items() if name.startswith(prefix)}
    begin = {prefix + name: value for name, value in start_of(within, plan.config.settings).items()}
    if _REPRESENTATION in space:
        assert plan.config.representation is not None, "the plan fills it"
        begin[_REPRESENTATION] = plan.config.representation[0]
    return begin


def settings_of(plan: Plan, values: Values) -> TrainConfig:
    """The settings of `train` that a trial stands for: each list of things to try has one entry."""
    config, prefix = plan.config, f"{plan.info.section}."
    if _REPRESENTATION in values:
        config = replace(config, representation=(values[_REPRESENTATION],))
    own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    return replace(config, settings=with_values(config.settings, own))


class Scores(NamedTuple):
    """What validation says of a trial.

    Attributes:
        score: what is maximised; minus infinity where nothing could be scored.
        figures: on validation images, means over the cuts; None where nothing could be scored.
    """

    score: float
    figures: Figures | None


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
        """Score of all that `train` would show its selector under these settings, on the same validation cuts."""
        config = settings_of(self.plan, values)
        assert config.representation is not None, "the plan fills it"
        [representation] = config.representation
        method = replace(self.plan, config=config).make_method(self.seed, shared=self._shared)
        if isinstance(method, CutMethod):
            return self._on_cuts(method, representation)
        task, held_out = self._part(representation, 0)
        selector = ValidationSelector(held_out, None, None, representation)
        method.explore(task, selector)
        return Scores(selector.best_score, None if selector.best is None else selector.best.figures)

    def _on_cuts(self, method: Method, representation: str) -> Scores:
        assert isinstance(method, CutMethod), "chosen by it"
        cuts = validation_cuts(self.plan.problem, self.seed)
        parts = [self._part(representation, cut) for cut in (cuts[:1] if learns(representation) else cuts)]
        held_out = [held for _, held in parts]
        selector = CutsSelector(held_out, None, None, representation, raw_share=RAW_SHARE)
        method.explore_cuts([task for task, _ in parts], selector)
        setting = selector.setting
        if setting is None:
            return Scores(float("-inf"), None)
        scored = [held.score(method.fit(task, setting)) for task, held in parts]
        constant = constant_for(method, setting, scored).value
        return Scores(float(selector.lead.mean()), mean_figures([one.figures(constant) for one in scored])[0])

    def _part(self, representation: str, cut: int) -> tuple[Task, HeldOut]:
        key = representation, cut
        if key not in self._parts:
            way = self._ways[representation]
            self._parts[key] = validation_task(self.plan.problem, self.seed, way, cut=cut)
        return self._parts[key]


def _record(runner: TrialRunner, number: int, values: Values) -> TrialRecord:
    start = time.monotonic()
    try:
        found = runner(values)
    except (LinAlgError, RunError) as error:  # no solution, or the training diverged: a bad setting
        message = str(error).splitlines()[0]
        return TrialRecord(number, values, None, {}, time.monotonic() - start, message)
    seconds = time.monotonic() - start
    if found.figures is None:
        return TrialRecord(number, values, None, {}, seconds, "the scores are no numbers")
    figures = {name: getattr(found.figures, name) for name in _FIGURES}
    return TrialRecord(number, values, found.score, figures, seconds, None)


def _records(optuna: Any, study: Any) -> list[TrialRecord]:
    """What is done; a trial that was broken off is tried again."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
    found = (one.user_attrs.get("record") for one in study.get_trials(deepcopy=False, states=states))
    return [TrialRecord(**record) for record in found if record is not None]


def _best(done: list[TrialRecord]) -> TrialRecord | None:
    scored = [one for one in done if one.score is not None]
    return max(scored, key=lambda one: one.score or 0.0, default=None)


def _write(folder: Path, plan: Plan, done: list[TrialRecord], best: TrialRecord | None) -> None:
    import yaml

    names = list(done[0].values)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["trial", "score", *_FIGURES, "seconds", *names, "error"])
    for one in done:
        figures = [one.figures.get(name) for name in _FIGURES]
        row = [one.number, one.score, *figures, round(one.seconds, 2), *(one.values[name] for name in names)]
        writer.writerow([*row, one.error])
    write(folder, "trials.csv", table.getvalue())
    if best is not None:
        settings = replace(plan, config=settings_of(plan, best.values)).recorded()
        head = f"# Trial {best.number} of {len(done)} by dkgzsl tune: {best.score:.4f} on validation classes.\n"
        write(folder, "best.yaml", head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
