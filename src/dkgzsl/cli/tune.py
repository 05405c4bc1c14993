"""`dkgzsl tune`: a search for settings on one's own data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dkgzsl.cli.clock import seconds_since_start
from dkgzsl.cli.next_step import command, next_line
from dkgzsl.config import TuneConfig as Config
from dkgzsl.display import percent
from dkgzsl.errors import refuse_without
from dkgzsl.writing import going_on

if TYPE_CHECKING:
    from dkgzsl.benchmark.trials import TrialRecord
    from dkgzsl.benchmark.tune import Tuned

__all__ = ["Config", "run"]


def run(config: Config) -> None:
    """Search, print the best settings."""
    refuse_without("optuna")
    from dkgzsl.benchmark.tune import tune
    from dkgzsl.runs.plan import Plan
    from dkgzsl.runs.progress import Reporter

    reporter = Reporter()

    def on_begin(plan: Plan, done: int) -> None:
        for note in plan.notes:
            reporter.log(note)
        if done:
            reporter.log(f"{done} trials are done already")
        else:
            reporter.log("trial 0 is the defaults")
        reporter.reach("trials", done, max(done, config.trials))

    def on_trial(record: TrialRecord, best: float | None) -> None:
        if record.error is not None:
            reporter.log(f"trial {record.number} gave no score: {record.error}")
        reporter.advance(note="" if best is None else f"best score {percent(best)}")

    with going_on("what is done is kept: the same command with the same --out goes on"), reporter:
        found = tune(config, on_trial=on_trial, on_begin=on_begin)
    if config.json:
        print(json.dumps(_content(found)))
    else:
        _print(found)


def _content(found: Tuned) -> dict[str, Any]:
    def trial(one: TrialRecord) -> dict[str, Any]:
        return {
            "trial": one.number,
            "score": one.score,
            "spread": one.spread,
            "validation": one.figures,
            "settings": dict(one.values),
        }

    return {
        "out": str(found.folder),
        "dataset": found.plan.problem.name,
        "method": found.plan.method,
        "semantics": found.plan.problem.semantics_name,
        "trials": len(found.trials),
        "failed": sum(one.score is None for one in found.trials),
        "default": trial(found.default),
        "highest": trial(found.highest),
        "best": trial(found.best),
        "seconds": seconds_since_start(),
    }


def _print(found: Tuned) -> None:
    """The defaults and the best trial in two rows, which of them is kept and why, and what to type next."""
    default, highest = found.default, found.highest
    head = f"%, {len(found.trials)} trials, validation"
    print(f"{head:<31} {'AUSUC':>7} {'H':>7} {'H cal.':>7} {'score':>7}")
    rows = [("defaults, trial 0", default), (f"best, trial {highest.number}", highest)]
    for name, one in rows if highest is not default else rows[:1]:
        values = [*(one.figures.get(key) for key in ("ausuc", "h", "h_calibrated")), one.score]
        shown = (f"{percent(value):>7}" for value in values)
        print(f"  {name:<29} {' '.join(shown)}")
    for setting, value in highest.values.items():
        print(f"  {setting:<34} {value if isinstance(value, str) else format(value, '.4g')}")
    spread = f"their spread over validation classes, {percent(default.spread or 0)}"
    if found.best is not default:
        print(f"the best trial is taken: its score (AUSUC and a tenth of H) beats theirs by more than {spread}")
    else:
        print(f"the defaults are kept: no score (AUSUC and a tenth of H) beats theirs by more than {spread}")
        if highest is not default:
            kept = command("train", "--config", str(found.folder / "highest.yaml"))
            print(f"{'all the same':<12} {kept}")
    print(f"{'every trial':<12} {found.folder / 'trials.csv'}")
    print(next_line(command("train", "--config", str(found.folder / "best.yaml"))))
