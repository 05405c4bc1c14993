"""What the processes other than the first do of a `train` that torchrun has started; see `dkgzsl.distributed`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dkgzsl.config import RefinementConfig, TrainConfig
from dkgzsl.distributed import Handler, Processes, ProcessLostError, current, device_here
from dkgzsl.errors import ConfigError, DkgzslError, RunError
from dkgzsl.features.stream import TokenArray
from dkgzsl.methods.dkgzsl.follower import Follower
from dkgzsl.methods.registry import PUBLISHED
from dkgzsl.representation.representation import learns
from dkgzsl.representation.sovr import train_refiner
from dkgzsl.runs.plan import Plan, make_plan


def check_shared(plan: Plan) -> None:
    """That several processes, where there are several, have something to share.

    Raises:
        ConfigError: neither the method nor a representation is trained by several processes, or not on the device.
    """
    if current().size == 1:
        return
    device_here(plan.device)  # raises where it cannot be
    if plan.config.on is not None:
        raise ConfigError("torchrun and --on are both given", fix="name one: torchrun trains one model together")
    names = plan.config.representation or ()
    if plan.method != PUBLISHED and not any(learns(name) for name in names):
        raise ConfigError(
            f"--method {plan.method} on {', '.join(names) or 'pooled'} features computes in one process",
            fix=f"leave torchrun out; it serves --method {PUBLISHED}, and SOVR on region features",
        )


def follow(config: TrainConfig, processes: Processes) -> None:
    """Help process 0 to train until it has finished. Nothing is printed and no file is written.

    Signals end this process at once and silently: process 0 says how to go on.

    Args:
        config: as process 0 has it; the data is loaded where SOVR is trained on it.
        processes: this one and the others.

    Raises:
        ProcessLostError: another process has ended, and this one is the first to say so.
        RunError: this process cannot do its share.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
    tokens: list[TokenArray] = []

    def refine(values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        if not tokens:
            tokens.append(make_plan(config).problem.features)
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        train_refiner(
            tokens[0],
            arrays["labels"],
            arrays["training"],
            grid=(values["grid"][0], values["grid"][1]),
            attributes=arrays["attributes"],
            vectors=arrays["vectors"],
            config=RefinementConfig(**values["config"]),
            seed=values["seed"],
            device=str(device_here(torch.device(values["device"]))),
        )

    handlers: dict[str, Handler] = {**Follower(processes).handlers, "sovr": refine}
    try:
        processes.serve(handlers)
    except ProcessLostError:
        if processes.speaks():
            raise
        sys.exit(1)
    except DkgzslError as error:
        what = f"process {processes.rank} of {processes.size} cannot go on: {error.what}"
        raise RunError(what, where=error.where, fix=error.fix) from error
