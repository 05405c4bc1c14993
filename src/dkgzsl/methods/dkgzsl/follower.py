"""What processes other than the first do of an adversarial training: the epochs that process 0 begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dkgzsl.distributed import Handler, Processes, device_here
from dkgzsl.methods.dkgzsl.settings import AdversarialSettings
from dkgzsl.methods.dkgzsl.training import AdversarialTraining


class Follower:
    """What a process other than the first does of a training: the epochs that process 0 begins.

    Args:
        processes: that share the work.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._training: AdversarialTraining | None = None

    @property
    def handlers(self) -> dict[str, Handler]:
        """For `Processes.serve`."""
        return {"dkgzsl": self._begin, "dkgzsl epoch": self._train_epoch}

    def _begin(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        device = device_here(torch.device(values["device"]))
        features, labels, semantics = (
            tensors[f"data.{name}"].to(device) for name in ("features", "labels", "semantics")
        )
        self._training = AdversarialTraining(
            features.to(semantics.dtype),
            labels,
            semantics,
            AdversarialSettings(**values["settings"]),
            seed=values["seed"],
            processes=self._processes,
        )
        self._training.restore(tensors, epoch=values["epoch"])

    def _train_epoch(self, *_: Mapping[str, Any]) -> None:
        assert self._training is not None, "process 0 begins a training before its first epoch"
        self._training.train_epoch()
