"""A search by Optuna for settings on a user's own data, scored on validation classes only.

Trial 0 is the defaults, as `train` would use them. They are kept unless a trial beats them by more than the spread
of their own score: the best of many trials is better on validation by luck alone.

Trials are chosen in batches (`dkgzsl.benchmark.proposals`), whose size does not depend on where they are done:
a search gives the same trials in one process and on a cluster, broken off or not. The journal is a file of JSON
lines.

Source: the tree-structured Parzen estimator, Bergstra et al. (NeurIPS 2011).
"""

from __future__ import annotations

import csv
import io
import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from dkgzsl.benchmark.proposals import Proposal, proposals
from dkgzsl.benchmark.run import write
from dkgzsl.benchmark.trials import (
    FIGURES,
    REPRESENTATION,
    SentSearch,
    TrialRecord,
    TrialRunner,
    record_trial,
    settings_of,
    trial_of_share,
)
from dkgzsl.cluster.shares import kept_workers, map_shares
from dkgzsl.compatibility import FORMAT, check_format
from dkgzsl.config import TrainConfig, TuneConfig
from dkgzsl.data.problem import Problem
from dkgzsl.device import fast_products
from dkgzsl.errors import ConfigError, RunError, refuse_without
from dkgzsl.files import holds_something, sweep_inside, write_whole
from dkgzsl.methods.base import MethodInfo
from dkgzsl.methods.registry import BUILT_IN, method_info
from dkgzsl.methods.search import Choice, Space, grid_of, start_of
from dkgzsl.reading import read_json
from dkgzsl.runs.environment import split_hash
from dkgzsl.runs.plan import Plan, make_plan
from dkgzsl.runs.shares import SentPlan
from dkgzsl.writing import locked

_JOURNAL, _SEARCH = "journal.jsonl", "search.json"
_AT_ONCE = 4
"""Trials that are chosen together where nothing else is said, in one process as on a cluster."""


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


@fast_products()
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
        at_once = _begin(folder, plan, config)
        sweep_inside(folder)
        done = _searched(optuna, config, plan, space, at_once, on_trial=on_trial, on_begin=on_begin)
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
    at_once: int,
    *,
    on_trial: Callable[[TrialRecord, float | None], None] | None,
    on_begin: Callable[[Plan, int], None] | None,
) -> list[TrialRecord]:
    """All trials, those of earlier calls, too, until `trials` are done or the minutes are over."""
    folder = Path(str(config.out))
    study = _study(optuna, folder)
    done = [record for record, _ in _known(optuna, study)]
    if on_begin is not None:
        on_begin(plan, len(done))
    end = time.monotonic() + 60 * config.minutes if config.minutes else None
    runner, first = _runner(plan, config), first_trial(plan, space)
    with kept_workers(config.on if len(done) < config.trials else None):
        while len(done) < config.trials and (end is None or time.monotonic() < end):
            begin = len(done) // at_once * at_once
            earlier = [trial for record, trial in _known(optuna, study) if record.number < begin]
            numbers = range(begin, begin + at_once)
            batch = proposals(optuna, earlier, numbers, space, first=first, seed=config.seed)
            batch = [one for one in batch if len(done) <= one.number < config.trials]
            # In the order of their numbers, so that a search that is broken off has the first ones.
            for proposal, record in zip(batch, runner(batch, end), strict=False):
                _keep(optuna, study, proposal, record)
                done.append(record)
                _write(folder, plan, done, space)
                if on_trial is not None:
                    on_trial(record, max((one.score for one in done if one.score is not None), default=None))
    return done


_Runner = Callable[[Sequence[Proposal], float | None], Iterator[TrialRecord]]
"""(batch, when the time is over) -> the records of those that were begun before."""


def _runner(plan: Plan, config: TuneConfig) -> _Runner:
    """What does the trials of a batch: this process, or the workers of a cluster, which begin all at once."""
    if config.on is None:
        here = TrialRunner(plan, config.seed)

        def in_turn(batch: Sequence[Proposal], end: float | None) -> Iterator[TrialRecord]:
            for place, one in enumerate(batch):
                if place and end is not None and time.monotonic() >= end:
                    return
                yield record_trial(here, one.number, one.values)

        return in_turn
    sent, gpu = SentSearch(SentPlan.of(plan), config.seed, uuid4().hex), plan.device.type == "cuda"

    def on_workers(batch: Sequence[Proposal], _end: float | None) -> Iterator[TrialRecord]:
        shares = [(one.number, one.values) for one in batch]
        for _, record in map_shares(trial_of_share, sent, shares, on=config.on, gpu=gpu):
            yield record

    return on_workers


def _keep(optuna: Any, study: Any, proposal: Proposal, record: TrialRecord) -> None:
    """Write a trial into the journal: one line, so that it is there or not."""
    states = optuna.trial.TrialState
    study.add_trial(
        optuna.trial.create_trial(
            state=states.FAIL if record.score is None else states.COMPLETE,
            value=record.score,
            params=proposal.values,
            distributions=proposal.distributions,
            user_attrs={"record": json.loads(json.dumps(asdict(record)))},
        )
    )


def chosen(default: TrialRecord, highest: TrialRecord) -> TrialRecord:
    """The trial with the highest score, or the defaults where it does not beat them by more than their spread."""
    if default.score is None:
        return highest
    assert highest.score is not None, "the highest score is one"
    return highest if highest.score - default.score > (default.spread or 0.0) else default


def _optuna() -> Any:
    refuse_without("optuna")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _train_config(config: TuneConfig) -> TrainConfig:
    shared = {f.name for f in fields(TrainConfig)} & {f.name for f in fields(TuneConfig)}
    shared -= {"config", "json", "out", "on"}
    return TrainConfig(first_seed=config.seed, **{name: getattr(config, name) for name in shared})


def _begin(folder: Path, plan: Plan, config: TuneConfig) -> int:
    """Make the folder; one that holds something else, or a search by other settings, is left alone.

    Returns:
        How many trials are chosen together: a search that is continued goes on as it began.
    """
    what = {"seed": config.seed, "split_sha256": split_hash(plan.problem), "settings": plan.recorded()}
    if folder.exists() and not folder.is_dir():
        raise RunError("the search's folder is a file", where=str(folder), fix="name another --out")
    file = folder / _SEARCH
    if not file.is_file():
        if holds_something(folder):
            raise RunError("the folder holds something else", where=str(folder), fix="name another --out")
        at_once = config.at_once or _AT_ONCE
        content = json.dumps({"at_once": at_once, **what}, indent=1, ensure_ascii=False)
        write(folder, _SEARCH, content + "\n")
        return at_once
    found = read_json(file, dict[str, Any], "the search cannot be read", error=RunError, fix="name another --out")
    if not isinstance(found.get("settings"), dict):
        raise RunError("the search cannot be read: no settings", where=str(file), fix="name another --out")
    if check_format(found["settings"], where=str(file)) != FORMAT:
        raise RunError("dkgzsl 0.1 (format 1) began this search", where=str(folder), fix="name another --out")
    began = found.pop("at_once", 1)  # older versions chose one after the other
    if found != json.loads(json.dumps(what)) or config.at_once not in (None, began):
        raise RunError(
            "the folder holds a search by other settings or on other data",
            where=str(folder),
            fix="the settings it was begun with continue it; otherwise name another --out",
        )
    return int(began)


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


def _known(optuna: Any, study: Any) -> list[tuple[TrialRecord, Any]]:
    """What is done, with Optuna's frozen trials; one that an older version broke off is tried again."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
    trials = study.get_trials(deepcopy=False, states=states)
    found = [(TrialRecord(**one.user_attrs["record"]), one) for one in trials if "record" in one.user_attrs]
    return sorted(found, key=lambda one: one[0].number)


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
