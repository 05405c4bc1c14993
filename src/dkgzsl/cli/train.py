"""`dkgzsl train`: the main job."""

from __future__ import annotations

import json

from dkgzsl.cli.clock import seconds_since_start
from dkgzsl.cli.next_step import after_training, next_line
from dkgzsl.config import TrainConfig as Config

__all__ = ["EXAMPLES", "SHORT", "Config", "run"]

SHORT = (
    *("name", "features", "semantics", "backbone", "method", "protocol", "epochs", "batch_size", "seeds"),
    *("data_root", "config", "device", "out", "resume", "overwrite", "json", "dry_run"),
)
EXAMPLES = (
    "dkgzsl train numbers",
    "dkgzsl train CUB --backbone vit-b/16 --batch_size 128 --epochs 100",
)


def run(config: Config) -> None:
    """Train, print the figures."""
    from dkgzsl.cli.figures import print_figures, print_outline
    from dkgzsl.runs.outline import outline
    from dkgzsl.runs.plan import make_plan
    from dkgzsl.runs.progress import Reporter
    from dkgzsl.runs.training import run_plan

    if config.dry_run:
        print_outline(outline(config))
        return
    reporter = Reporter()
    plan = make_plan(config)
    trained = run_plan(plan, reporter=reporter, clock=seconds_since_start)
    if config.json:
        print(json.dumps(trained.result))
    else:
        print_figures(trained.result, trained.details)
        print(next_line(after_training(trained.result["run"])))
