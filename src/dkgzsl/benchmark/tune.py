"""A search by Optuna for settings on a user's own data, scored on validation classes only.

Trial 0 is the defaults, as `train` would use them. They are kept unless a trial beats them by more than the spread
of their own score: the best of many trials is better on validation by luck alone.

Each trial's sampler is seeded by the search's seed and the number of trials done, so that a search that was broken
off goes on as if it had not been. The journal is a file of JSON lines.

Source: the tree-structured Parzen estimator, Bergstra et al. (NeurIPS 2011).
"""

from __future__ import annotations

import csv
import io
import json
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from dkgzsl.benchmark.run import write
from dkgzsl.benchmark.trials import FIGURES, REPRESENTATION, TrialRecord, TrialRunner, record_trial, settings_of
from dkgzsl.compatibility import FORMAT, check_format
from dkgzsl.config import TrainConfig, TuneConfig
from dkgzsl.data.problem import Problem
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.files import holds_something, sweep_inside, write_whole
from dkgzsl.methods.base import MethodInfo
from dkgzsl.methods.registry import BUILT_IN, method_info
from dkgzsl.methods.search import Choice, Space, grid_of, start_of
from dkgzsl.reading import read_json
from dkgzsl.runs.environment import split_hash
from dkgzsl.runs.plan import Plan, make_plan
from dkgzsl.writing import locked

_JOURNAL, _SEARCH = "journal.jsonl", "search.json"
_STARTUP = 10
"""Trials at random before the estimator has something to go by."""


@dataclass(frozen=True)
class Tuned:
    """A search as it stands.

    Attributes:
        folder: `best.yaml`, `highest.yaml`, `trials.csv`, and the journal that the search goes on from.
        plan: what was searched.
        trials: all that are done, those of earlier calls, too; the first is the defaults.
        highest: the one with the highest score of those after the defaults, or the defaults where there is none.
        best: what `best.yaml` has: `highest`, or the defaults where it beats them by no more than their spread.
    """

    folder: Path
    plan: Plan
    trials: list[TrialRecord]
    highest: TrialRecord
    best: TrialRecord

    @property
    def default(self) -> TrialRecord:
        """The defaults."""
        return self.trials[0]


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
        InUseError: another command writes the folder.
    """
    optuna = _optuna()
    if config.out is None:
        raise ConfigError("the search needs a folder", fix="name one: --out FOLDER")
    plan = make_plan(_train_config(config))
    folder, space = Path(config.out), space_of(plan)
    with locked(folder, what="this search"):
        _begin(folder, plan, config.seed)
        sweep_inside(folder)
        done = _searched(optuna, config, plan, space, on_trial=on_trial, on_begin=on_begin)
        highest = _highest(done)
        if highest is None:
            why = next((one.error for one in done if one.error), "the time was over before the first one")
            raise ConfigError(
                f"no trial came to a score: {why}",
                fix=shlex.join(["dkgzsl", "data", "check", str(plan.config.name)]),
            )
        _write(folder, plan, done, space)
    return Tuned(folder, plan, done, highest, chosen(done[0], highest))


def _searched(
    optuna: Any,
    config: TuneConfig,
    plan: Plan,
    space: Space,
    *,
    on_trial: Callable[[TrialRecord, float | None], None] | None,
    on_begin: Callable[[Plan, int], None] | None,
) -> list[TrialRecord]:
    """All trials, those of earlier calls, too, until `trials` are done or the minutes are over."""
    folder = Path(str(config.out))
    study = _study(optuna, folder)
    runner = TrialRunner(plan, config.seed)
    done = _records(optuna, study)
    if on_begin is not None:
        on_begin(plan, len(done))
    end = time.monotonic() + 60 * config.minutes if config.minutes else None
    while len(done) < config.trials and (end is None or time.monotonic() < end):
        done.append(_next_trial(optuna, study, runner, space, done))
        _write(folder, plan, done, space)
        if on_trial is not None:
            on_trial(done[-1], max((one.score for one in done if one.score is not None), default=None))
    return done


def _next_trial(
    optuna: Any, study: Any, runner: TrialRunner, space: Space, done: list[TrialRecord]
) -> TrialRecord:
    """Fit and record a trial: first the defaults, then where the method begins, then what the sampler proposes."""
    study.sampler, states = _sampler(optuna, runner.seed, len(done)), optuna.trial.TrialState
    if not done:  # the defaults try several values of a setting, so that they are no point of the space
        record = record_trial(runner, 0, {})
        state = states.COMPLETE if record.score is not None else states.FAIL
        attributes = {"record": json.loads(json.dumps(asdict(record)))}
        study.add_trial(optuna.trial.create_trial(state=state, value=record.score, user_attrs=attributes))
        return record
    waiting = study.get_trials(deepcopy=False, states=(states.WAITING,))  # of a command that was killed
    if len(done) == 1 and not waiting:
        study.enqueue_trial(first_trial(runner.plan, space), skip_if_exists=False)
    trial = study.ask()
    record = record_trial(runner, len(done), {name: one.suggest(trial, name) for name, one in space.items()})
    trial.set_user_attr("record", json.loads(json.dumps(asdict(record))))
    study.tell(trial, record.score, state=None if record.score is not None else states.FAIL)
    return record


def chosen(default: TrialRecord, highest: TrialRecord) -> TrialRecord:
    """The trial with the highest score, or the defaults where it does not beat them by more than their spread."""
    if default.score is None:
        return highest
    assert highest.score is not None, "the highest score is one"
    return highest if highest.score - default.score > (default.spread or 0.0) else default


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
        if holds_something(folder):
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
        chosen[REPRESENTATION] = Choice(plan.config.representation)
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
    """Where the search begins after the defaults: the first representation, and the method's start or settings."""
    prefix = f"{plan.info.section}."
    within = {name.removeprefix(prefix): part for name, part in space.items() if name.startswith(prefix)}
    begin = {prefix + name: value for name, value in start_of(within, plan.config.settings).items()}
    if REPRESENTATION in space:
        assert plan.config.representation is not None, "the plan fills it"
        begin[REPRESENTATION] = plan.config.representation[0]
    return begin


def _records(optuna: Any, study: Any) -> list[TrialRecord]:
    """What is done; a trial that was broken off is tried again."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
    found = (one.user_attrs.get("record") for one in study.get_trials(deepcopy=False, states=states))
    return [TrialRecord(**record) for record in found if record is not None]


def _highest(done: list[TrialRecord]) -> TrialRecord | None:
    """The best trial after the defaults; the defaults where there is none, None where nothing was scored."""
    scored = [one for one in done if one.score is not None]
    searched = [one for one in scored if one.values] or scored
    return max(searched, key=lambda one: one.score or 0.0, default=None)


def _write(folder: Path, plan: Plan, done: list[TrialRecord], space: Space) -> None:
    names, highest = list(space), _highest(done)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["trial", "score", "spread", *FIGURES, "seconds", *names, "error"])
    for one in done:
        figures = [one.figures.get(name) for name in FIGURES]
        row = [one.number, one.score, one.spread, *figures, round(one.seconds, 2)]
        writer.writerow([*row, *(one.values.get(name) for name in names), one.error])
    write(folder, "trials.csv", table.getvalue())
    if highest is not None:
        _write_settings(folder, "highest.yaml", plan, highest, len(done))
        _write_settings(folder, "best.yaml", plan, chosen(done[0], highest), len(done))


def _write_settings(folder: Path, name: str, plan: Plan, trial: TrialRecord, trials: int) -> None:
    import yaml

    settings = replace(plan, config=settings_of(plan, trial.values)).recorded()
    what = "" if trial.values else ", the defaults"
    head = f"# Trial {trial.number} of {trials}{what} by dkgzsl tune: {trial.score:.4f} on validation classes.\n"
    write(folder, name, head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
