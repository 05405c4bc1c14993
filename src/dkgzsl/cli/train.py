"""`dkgzsl train`: the main job."""

from __future__ import annotations

import json

from dkgzsl.cli.clock import seconds_since_start
from dkgzsl.cli.next_step import after_training, next_line
from dkgzsl.config import TrainConfig as Config
from dkgzsl.launch import follows, launched

__all__ = ["EXAMPLES", "SHORT", "Config", "run"]

SHORT = (
    *("name", "features", "semantics", "backbone", "method", "protocol", "epochs", "batch_size", "seeds"),
    *("data_root", "config", "device", "out", "resume", "overwrite", "json", "dry_run"),
)
EXAMPLES = (
    "dkgzsl train numbers",
    "dkgzsl train CUB --backbone vit-b/16 --batch_size 128 --epochs 100",
    "torchrun --nproc-per-node 2 -m dkgzsl train CUB --method dkgzsl",
)


def run(config: Config) -> None:
    """Train, print the figures. Of the processes that torchrun starts, the first does; the others help it."""
    if config.dry_run:
        from dkgzsl.cli.figures import print_outline
        from dkgzsl.runs.outline import outline

        if not follows():
            print_outline(outline(config))
    elif launched():
        from dkgzsl.distributed import joined
        from dkgzsl.runs.follow import follow

        with joined() as processes:
            if processes.leads:
                _train(config)
            else:
                follow(config, processes)
    else:
        _train(config)


def _train(config: Config) -> None:
    from dkgzsl.cli.figures import print_figures
    from dkgzsl.runs.plan import make_plan
    from dkgzsl.runs.progress import Reporter
    from dkgzsl.runs.training import run_plan

    reporter = Reporter()
    plan = make_plan(config)
    trained = run_plan(plan, reporter=reporter, clock=seconds_since_start)
    if config.json:
        print(json.dumps(trained.result))
    else:
        print_figures(trained.result, trained.details)
        print(next_line(after_training(trained.result["run"])))
