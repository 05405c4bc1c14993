"""`dkgzsl tune`: a search for settings on one's own data."""

from __future__ import annotations

import json

from dkgzsl.cli.clock import seconds_since_start
from dkgzsl.config import TuneConfig as Config

__all__ = ["Config", "run"]


def run(config: Config) -> None:
    """Search, print the best settings."""
    from dkgzsl.benchmark.tune import TrialRecord, tune
    from dkgzsl.runs.plan import Plan
    from dkgzsl.runs.progress import Reporter

    reporter = Reporter()

    def on_begin(plan: Plan, done: int) -> None:
        for note in plan.notes:
            reporter.log(note)
        if done:
            reporter.log(f"{done} trials are done already")
        reporter.stage("trials", max(0, config.trials - done))

    def on_trial(record: TrialRecord, best: float | None) -> None:
        if record.error is not None:
            reporter.log(f"trial {record.number} gave no score: {record.error}")
        reporter.advance(note="" if best is None else f"best {best:.4f}")

    try:
        with reporter:
            found = tune(config, on_trial=on_trial, on_begin=on_begin)
    except KeyboardInterrupt:
        reporter.log("what is done is kept: the same command with the same --out goes on")
        raise
    best, plan = found.best, found.plan
    if config.json:
        result = {
            "out": str(found.folder),
            "dataset": plan.problem.name,
            "method": plan.method,
            "semantics": plan.problem.semantics_name,
            "trials": len(found.trials),
            "failed": sum(one.score is None for one in found.trials),
            "best": {
                "trial": best.number,
                "score": best.score,
                "validation": best.figures,
                "settings": dict(best.values),
            },
            "seconds": seconds_since_start(),
        }
        print(json.dumps(result))
        return
    print(f"trial {best.number} of {len(found.trials)}: {best.score:.4f} on validation classes")
    figures = (f"{name} {value:.3f}" for name, value in best.figures.items() if value is not None)
    print("  " + "  ".join(figures))
    for name, value in best.values.items():
        print(f"  {name:<34} {value if isinstance(value, str) else format(value, '.4g')}")
    print(f"dkgzsl train --config {found.folder / 'best.yaml'} trains with them; every trial is in trials.csv")
