"""How this process was started: alone, or by `torchrun` as one of several. This module imports no torch."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def launched() -> bool:
    """Whether `torchrun` has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def follows() -> bool:
    """Whether `torchrun` has started this process, and not as the first, which alone prints."""
    return launched() and os.environ.get("RANK", "0") != "0"


def train_command(run: Path) -> str:
    """The command that goes on with a run, by as many processes as now. Any other number will do, too."""
    train = ["train", "--resume", "--out", str(run)]
    if not launched():
        return shlex.join(["dkgzsl", *train])
    here = os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])
    return shlex.join(["torchrun", "--nproc-per-node", here, "-m", "dkgzsl", *train])
