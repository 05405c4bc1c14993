"""Selection on held-out images: scores models, remembers the best, and keeps the evaluations where there is a memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dkgzsl.errors import RunError
from dkgzsl.evaluation.held_out import HeldOut
from dkgzsl.evaluation.metrics import Figures, Scored
from dkgzsl.files import read_checkpoint, write_checkpoint, write_whole
from dkgzsl.methods.base import Model, Setting
from dkgzsl.methods.registry import load_model, read_model, write_model

RAW_SHARE = 0.1
"""What a point of raw H is worth beside a point of AUSUC when settings are chosen.

AUSUC does not see the balance of seen and unseen classes, and who adds no constant lives with it: among settings
of nearly equal AUSUC the better balanced one is taken.
"""

Watch = Callable[[Setting, Figures, str], None]
"""Told of each look at held-out images: the setting, what it gave, and the name of the representation."""

_EVALUATIONS = "evaluations.jsonl"
_BEST = "best.safetensors"
_SCORES = "scores.safetensors"


@dataclass(frozen=True)
class Evaluation:
    """One model's figures on held-out images."""

    setting: Setting
    figures: Figures
    constant: float


class ValidationSelector:
    """Scores models on held-out images and remembers the best by AUSUC and a little raw H.

    Looks are kept in a file where there is a memory; a look that a resumed method shows again counts once.
    """

    def __init__(self, held_out: HeldOut, watch: Watch | None, memory: Path | None, representation: str) -> None:
        self.held_out, self.watch = held_out, watch
        self.representation = representation
        self.memory = None if memory is None else memory / representation
        self.best: Evaluation | None = None
        self.best_scored: Scored | None = None
        self._seen: set[str] = set()
        for line in self._remembered():
            look = Evaluation(line["setting"], Figures(**line["figures"]), line["constant"])
            self._seen.add(_key(look.setting))
            if line["candidate"]:
                self._consider(look)
        if self.best is not None:
            self._recall()

    @property
    def evaluations(self) -> int:
        """How many models were looked at."""
        return len(self._seen)

    @property
    def worth_of_best(self) -> float:
        """Score of the best look; minus infinity where there is none."""
        return float("-inf") if self.best is None else self._worth(self.best.figures)

    def __call__(self, setting: Setting, model: Model, *, candidate: bool = True) -> float:
        """AUSUC of the model and a little of its raw H; minus infinity where they are undefined."""
        scored = self.held_out.score(model)
        constant = scored.curve().best_constant()
        look = Evaluation(dict(setting), scored.figures(constant), constant)
        if candidate and self._consider(look):
            self._keep(model, scored)  # before the look is remembered: a look on record has its model
        if _key(setting) not in self._seen:
            self._remember(look, candidate)
            self._seen.add(_key(setting))
            if self.watch is not None:
                self.watch(setting, look.figures, self.representation)
        return self._worth(look.figures)

    def _consider(self, look: Evaluation) -> bool:
        """Whether this is the best so far."""
        better = self.best is None or self._worth(look.figures) > self._worth(self.best.figures)
        if better and self._worth(look.figures) > float("-inf"):
            self.best = look
            return True
        return False

    def _worth(self, figures: Figures) -> float:
        if figures.ausuc is None or figures.h is None:
            return float("-inf")
        return figures.ausuc + RAW_SHARE * figures.h

    def _keep(self, model: Model, scored: Scored) -> None:
        """Validation keeps scores for calibration alone: the model is fitted again on all training images."""
        del model
        self.best_scored = scored
        if self.memory is not None:
            scores = torch.from_numpy(np.ascontiguousarray(scored.scores))
            write_checkpoint(self.memory / _SCORES, {"scores": scores}, {})

    def _recall(self) -> None:
        """What `_keep` kept."""
        found = None if self.memory is None else read_checkpoint(self.memory / _SCORES)
        if found is None:
            raise _unusable(Path(str(self.memory)) / _SCORES, FileNotFoundError("there is no such file"))
        scores, held_out = found[0]["scores"].numpy(), self.held_out
        self.best_scored = Scored(scores, scores, held_out.labels, held_out.is_unseen)

    def _remembered(self) -> list[dict[str, Any]]:
        file = None if self.memory is None else self.memory / _EVALUATIONS
        if file is None or not file.is_file():
            return []
        text = file.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        try:
            if whole != text:  # the last line was broken off; the next one must not be glued to it
                write_whole(file, whole)
            return [json.loads(line) for line in whole.splitlines()]
        except (OSError, ValueError) as error:
            raise _unusable(file, error) from error

    def _remember(self, look: Evaluation, candidate: bool) -> None:
        if self.memory is None:
            return
        line = {
            "setting": dict(look.setting),
            "figures": asdict(look.figures),
            "constant": look.constant,
            "candidate": candidate,
        }
        try:
            self.memory.mkdir(parents=True, exist_ok=True)
            with (self.memory / _EVALUATIONS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise _unusable(self.memory / _EVALUATIONS, error) from error


class TestSelector(ValidationSelector):
    """Remembers the best T1 and the best raw H, each with its own model, as published tables do."""

    def __init__(self, held_out: HeldOut, watch: Watch | None, memory: Path | None, representation: str) -> None:
        self.best_conventional: float | None = None
        self.best_model: tuple[Model, Scored] | None = None
        super().__init__(held_out, watch, memory, representation)

    def _consider(self, look: Evaluation) -> bool:
        if look.figures.t1 is not None:
            self.best_conventional = max(look.figures.t1, self.best_conventional or 0.0)
        return super()._consider(look)

    def _worth(self, figures: Figures) -> float:
        return float("-inf") if figures.h is None else figures.h

    def _keep(self, model: Model, scored: Scored) -> None:
        self.best_model = model, scored
        if self.memory is not None:
            write_model(self.memory / _BEST, model.save())

    def _recall(self) -> None:
        assert self.memory is not None, "evaluations are remembered there"
        model = load_model(read_model(self.memory / _BEST))
        self.best_model = model, self.held_out.score(model)


def _key(setting: Setting) -> str:
    return json.dumps(dict(setting), sort_keys=True)


def _unusable(file: Path, error: Exception) -> RunError:
    return RunError(
        f"the evaluations so far cannot be kept or read: {error}",
        where=str(file),
        fix="make room and --resume; where the file is damaged, start again with --overwrite",
    )
