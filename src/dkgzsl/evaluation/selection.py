"""Selectors: score models on held-out images, and keep the best one and every evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from dkgzsl.errors import RunError
from dkgzsl.evaluation.held_out import HeldOut
from dkgzsl.evaluation.metrics import Figures, Scored
from dkgzsl.files import read_checkpoint, write_checkpoint, write_whole
from dkgzsl.methods.base import Model, Setting
from dkgzsl.methods.registry import load_model, read_model, write_model
from dkgzsl.reading import read_json_lines, reading

RAW_SHARE = 0.1
"""Weight of raw H in the choice of settings; AUSUC has weight 1.

AUSUC does not depend on the balance of seen and unseen classes, but whoever adds no constant depends on it: among
settings of nearly equal AUSUC the better balanced one is chosen.
"""

Watch = Callable[[Setting, Figures, str], None]
"""Called after each evaluation with the setting, its figures, and the name of the representation."""

EVALUATIONS: Final = "evaluations.jsonl"
_AGAIN: Final = "make room and --resume; where the file is damaged, start again with --overwrite"


class EvaluationLine(BaseModel):
    """A line of a file of evaluations."""

    model_config = ConfigDict(strict=True, extra="allow")
    setting: dict[str, Any]


class FiguresLine(EvaluationLine):
    """A line that `ValidationSelector` writes."""

    figures: dict[str, float | None]
    constant: float | None
    candidate: bool


class ScoresLine(EvaluationLine):
    """A line that a selector over cuts writes."""

    scores: list[float]


_BEST = "best.safetensors"
_SCORES = "scores.safetensors"


@dataclass(frozen=True)
class Evaluation:
    """One model's figures on held-out images.

    Attributes:
        setting: what the model was fitted with.
        figures: on the held-out images, the calibrated ones with `constant`.
        constant: the constant on unseen scores with the best H on these images.
    """

    setting: Setting
    figures: Figures
    constant: float


class ValidationSelector:
    """Scores models on validation images and keeps the best by AUSUC plus a share of raw H.

    With a folder, evaluations are written to a file as they come, and a resumed run begins with those of the
    file; an evaluation that a resumed method repeats counts once.

    Args:
        held_out: the validation images.
        watch: called after each evaluation that is new.
        memory: folder of the evaluations; None: they are not written.
        representation: name of the representation, and of its folder in `memory`.
        raw_share: weight of raw H next to AUSUC, 0 or more; 0: AUSUC alone decides.
    """

    def __init__(
        self,
        held_out: HeldOut,
        watch: Watch | None,
        memory: Path | None,
        representation: str,
        *,
        raw_share: float = RAW_SHARE,
    ) -> None:
        self.held_out, self.watch = held_out, watch
        self.representation, self.raw_share = representation, raw_share
        self.folder = None if memory is None else memory / representation
        self.best: Evaluation | None = None
        self.best_scored: Scored | None = None
        self.best_training: np.ndarray | None = None
        self._evaluated: set[str] = set()
        for line in self._read_evaluations():
            with reading("the evaluations so far cannot be read", EVALUATIONS, error=RunError, fix=_AGAIN):
                evaluation = Evaluation(line["setting"], Figures(**line["figures"]), line["constant"])
            self._evaluated.add(_key(evaluation.setting))
            if line["candidate"]:
                self._consider(evaluation)
        if self.best is not None:
            self._read_best()

    @property
    def evaluations(self) -> int:
        """Number of settings that were evaluated."""
        return len(self._evaluated)

    @property
    def best_score(self) -> float:
        """Score of the best evaluation; minus infinity where there is none."""
        return float("-inf") if self.best is None else self._score(self.best.figures)

    def __call__(self, setting: Setting, model: Model, *, candidate: bool = True) -> float:
        """Evaluate a model.

        Args:
            setting: what the model was fitted with.
            model: the model.
            candidate: whether it may be chosen.

        Returns:
            Its score: AUSUC plus `raw_share` times raw H; minus infinity where they are undefined.
        """
        scored = self.held_out.score(model)
        constant = scored.curve().best_constant()
        evaluation = Evaluation(dict(setting), scored.figures(constant), constant)
        if candidate and self._consider(evaluation):
            self._write_best(
                model, scored
            )  # before the evaluation: a file that names a best one must have its scores
        if _key(setting) not in self._evaluated:
            self._write_evaluation(evaluation, candidate)
            self._evaluated.add(_key(setting))
            if self.watch is not None:
                self.watch(setting, evaluation.figures, self.representation)
        return self._score(evaluation.figures)

    def _consider(self, evaluation: Evaluation) -> bool:
        """Make an evaluation the best one, where it is better than all before."""
        score = self._score(evaluation.figures)
        if score > self.best_score:
            self.best = evaluation
            return True
        return False

    def _score(self, figures: Figures) -> float:
        if figures.ausuc is None or figures.h is None:
            return float("-inf")
        return figures.ausuc + self.raw_share * figures.h

    def _write_best(self, model: Model, scored: Scored) -> None:
        """Keep the scores of the best model, which calibration needs; the model itself is fitted again."""
        self.best_scored, self.best_training = scored, self.held_out.training_scores(model)
        if self.folder is not None:
            kept = {"scores": scored.scores, "training": self.best_training}
            arrays = {name: np.ascontiguousarray(value) for name, value in kept.items() if value is not None}
            write_checkpoint(
                self.folder / _SCORES, {name: torch.from_numpy(value) for name, value in arrays.items()}, {}
            )

    def _read_best(self) -> None:
        """Read what `_write_best` wrote."""
        found = None if self.folder is None else read_checkpoint(self.folder / _SCORES)
        if found is None:
            raise _unusable(Path(str(self.folder)) / _SCORES, FileNotFoundError("there is no such file"))
        scores, held_out = found[0]["scores"].numpy(), self.held_out
        self.best_scored = Scored(scores, scores, held_out.labels, held_out.is_unseen)
        training = found[0].get("training")  # what an older version wrote has none
        self.best_training = None if training is None else training.numpy()

    def _read_evaluations(self) -> list[dict[str, Any]]:
        return [] if self.folder is None else read_evaluations(self.folder / EVALUATIONS, FiguresLine)

    def _write_evaluation(self, evaluation: Evaluation, candidate: bool) -> None:
        if self.folder is None:
            return
        line = {
            "setting": dict(evaluation.setting),
            "figures": asdict(evaluation.figures),
            "constant": evaluation.constant,
            "candidate": candidate,
        }
        append_evaluation(self.folder / EVALUATIONS, line)


class TestSelector(ValidationSelector):
    """Scores models on test images and keeps the best T1 and the best raw H, as published tables have them.

    The two may come from different models; the model with the best raw H is kept.
    """

    def __init__(self, held_out: HeldOut, watch: Watch | None, memory: Path | None, representation: str) -> None:
        self.best_conventional: float | None = None
        self.best_model: tuple[Model, Scored] | None = None
        super().__init__(held_out, watch, memory, representation)

    def _consider(self, evaluation: Evaluation) -> bool:
        if evaluation.figures.t1 is not None:
            self.best_conventional = max(evaluation.figures.t1, self.best_conventional or 0.0)
        return super()._consider(evaluation)

    def _score(self, figures: Figures) -> float:
        return float("-inf") if figures.h is None else figures.h

    def _write_best(self, model: Model, scored: Scored) -> None:
        self.best_model = model, scored
        if self.folder is not None:
            write_model(self.folder / _BEST, model.save())

    def _read_best(self) -> None:
        assert self.folder is not None, "the best evaluation came from its file"
        model = load_model(read_model(self.folder / _BEST))
        self.best_model = model, self.held_out.score(model)


def read_evaluations(file: Path, schema: Any) -> list[dict[str, Any]]:
    """The lines of a file of evaluations; none where there is no file.

    Args:
        file: the file.
        schema: what a line must hold.

    Raises:
        RunError: it cannot be read.
    """
    if not file.is_file():
        return []
    try:
        text = file.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # the last line was broken off; the next one must not be glued to it
            write_whole(file, whole)
    except (OSError, ValueError) as error:
        raise _unusable(file, error) from error
    return read_json_lines(file, schema, "the evaluations so far cannot be read", error=RunError, fix=_AGAIN)


def append_evaluation(file: Path, line: Mapping[str, Any]) -> None:
    """Write one more line.

    Raises:
        RunError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(line) + "\n")
    except OSError as error:
        raise _unusable(file, error) from error


def evaluated(memory: Path) -> list[Setting]:
    """Settings of all evaluations that selectors have written to a folder, also before an interruption."""
    files = sorted(memory.rglob(EVALUATIONS))
    return [line["setting"] for file in files for line in read_evaluations(file, EvaluationLine)]


def _key(setting: Setting) -> str:
    return json.dumps(dict(setting), sort_keys=True)


def _unusable(file: Path, error: Exception) -> RunError:
    return RunError(
        f"the evaluations so far cannot be written or read: {error}",
        where=str(file),
        fix=_AGAIN,
    )
