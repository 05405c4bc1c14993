"""The two protocols: `validated`, which looks at the test images once, and `paper`, which chooses on them.

Both are the same few lines, since a method does not know whom its judge looks at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dkgzsl.data.problem import Problem
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.evaluation.calibration import Calibration, calibrate
from dkgzsl.evaluation.examination import POOLED, Examination, final_of, validation_of
from dkgzsl.evaluation.metrics import Figures, Scored
from dkgzsl.learning.checkpoint import read_checkpoint, write_checkpoint
from dkgzsl.learning.representation import Fitted, Representation
from dkgzsl.methods.base import Method, Model, Setting
from dkgzsl.methods.model_file import read_model, write_model
from dkgzsl.methods.registry import load_model

RAW_SHARE = 0.1
"""What a point of raw H is worth beside a point of AUSUC when settings are chosen.

AUSUC does not see the balance of seen and unseen classes, and who adds no constant lives with it: among settings
of nearly equal AUSUC the better balanced one is taken.
"""

ProtocolName = Literal["validated", "paper"]
Watch = Callable[[Setting, Figures, str], None]
"""Told of each look at held-out images: the setting, what it gave, and the name of the representation."""


@dataclass(frozen=True)
class Outcome:
    """What a protocol found for one method and seed.

    Attributes:
        protocol: which one.
        figures: on the test images.
        scored: the final model's scores behind them; under `paper`, T1 may come from another model.
        model: the final model.
        setting: what was chosen.
        constant: calibration constant on unseen scores; None under `paper`, which has no validation.
        calibration: the same constant, with the temperature and the threshold that go with it; likewise.
        validation: figures of the choice on validation images; None under `paper`.
        looks: how many models were judged, on validation images or, under `paper`, on the test images.
        representation: name of the chosen representation.
        fitted: the representation as fitted for the final model.
    """

    protocol: ProtocolName
    figures: Figures
    scored: Scored
    model: Model
    setting: Mapping[str, Any]
    constant: float | None
    calibration: Calibration | None
    validation: Figures | None
    looks: int
    representation: str
    fitted: Fitted


def run_protocol(
    name: ProtocolName,
    method: Method,
    problem: Problem,
    *,
    seed: int,
    representations: Sequence[Representation] = (POOLED,),
    watch: Watch | None = None,
    memory: Path | None = None,
) -> Outcome:
    """Run a method under a protocol.

    Args:
        name: the protocol.
        method: fitted as the protocol says.
        problem: the data.
        seed: draws the held-out images of validation.
        representations: ways to turn features into vectors; the best is chosen as settings are.
        watch: told of each look at held-out images.
        memory: folder that keeps what was looked at, so that an interrupted run goes on; None keeps nothing.
    """
    protocol = {"validated": validated, "paper": best_on_test}[name]
    return protocol(method, problem, seed=seed, representations=representations, watch=watch, memory=memory)


def validated(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    representations: Sequence[Representation] = (POOLED,),
    watch: Watch | None = None,
    memory: Path | None = None,
) -> Outcome:
    """Choose on validation classes, fit again on all training images, score the test images once.

    Settings are chosen by AUSUC, which needs no constant, and a little by raw H (`RAW_SHARE`); the constant is the
    one with the best H for the choice.
    """
    chosen: tuple[float, _Look, Scored, Representation] | None = None
    looks = 0
    for representation in representations:
        task, examination = validation_of(problem, seed, representation)
        judge = ValidationJudge(examination, watch, memory, representation.name)
        method.explore(task, judge)
        looks += judge.looks
        if judge.best is not None and (chosen is None or judge.worth_of_best > chosen[0]):
            assert judge.best_scored is not None, "kept with the look"
            chosen = judge.worth_of_best, judge.best, judge.best_scored, representation
        del task, examination  # before the next one is made
    if chosen is None:
        raise _unjudged()
    _, look, held, representation = chosen
    task, examination = final_of(problem, representation)
    model = method.fit(task, look.setting)
    scored = examination.score(model)
    return Outcome(
        protocol="validated",
        figures=scored.figures(look.constant),
        scored=scored,
        model=model,
        setting=look.setting,
        constant=look.constant,
        calibration=calibrate(held, look.constant),
        validation=look.figures,
        looks=looks,
        representation=representation.name,
        fitted=examination.fitted,
    )


def best_on_test(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    representations: Sequence[Representation] = (POOLED,),
    watch: Watch | None = None,
    memory: Path | None = None,
) -> Outcome:
    """The best of everything on the test images, as published: T1 by its own best model, U, S and H by theirs.

    Only to compare with printed tables: it chooses on test images, as often as `looks` says.
    """
    del seed  # the methods hold it; this protocol draws nothing
    best: tuple[_TestJudge, Representation] | None = None
    looks, conventional = 0, 0.0
    for representation in representations:
        task, examination = final_of(problem, representation)
        judge = _TestJudge(examination, watch, memory, representation.name)
        method.explore(task, judge)
        looks += judge.looks
        conventional = max(conventional, judge.best_conventional or 0.0)
        if best is None or judge.worth_of_best > best[0].worth_of_best:
            best = judge, representation
    if best is None or best[0].best is None or best[0].best_model is None:
        raise _unjudged()
    judge, representation = best
    assert judge.best is not None, "told above"
    assert judge.best_model is not None, "told above"
    model, scored = judge.best_model
    return Outcome(
        protocol="paper",
        figures=replace(scored.figures(), t1=conventional),
        scored=scored,
        model=model,
        setting=judge.best.setting,
        constant=None,
        calibration=None,
        validation=None,
        looks=looks,
        representation=representation.name,
        fitted=judge.examination.fitted,
    )


@dataclass(frozen=True)
class _Look:
    """One model's figures on held-out images."""

    setting: Setting
    figures: Figures
    constant: float


class ValidationJudge:
    """Scores models on held-out images and remembers the best by AUSUC and a little raw H.

    Looks are kept in a file where there is a memory; a look that a resumed method shows again counts once.
    """

    def __init__(
        self, examination: Examination, watch: Watch | None, memory: Path | None, representation: str
    ) -> None:
        self.examination, self.watch = examination, watch
        self.representation = representation
        self.memory = None if memory is None else memory / representation
        self.best: _Look | None = None
        self.best_scored: Scored | None = None
        self._seen: set[str] = set()
        for line in self._remembered():
            look = _Look(line["setting"], Figures(**line["figures"]), line["constant"])
            self._seen.add(_key(look.setting))
            if line["candidate"]:
                self._consider(look)
        if self.best is not None:
            self._recall()

    @property
    def looks(self) -> int:
        """How many models were looked at."""
        return len(self._seen)

    @property
    def worth_of_best(self) -> float:
        """Score of the best look; minus infinity where there is none."""
        return float("-inf") if self.best is None else self._worth(self.best.figures)

    def __call__(self, setting: Setting, model: Model, *, candidate: bool = True) -> float:
        """AUSUC of the model and a little of its raw H; minus infinity where they are undefined."""
        scored = self.examination.score(model)
        constant = scored.curve().best_constant()
        look = _Look(dict(setting), scored.figures(constant), constant)
        if candidate and self._consider(look):
            self._keep(model, scored)  # before the look is remembered: a look on record has its model
        if _key(setting) not in self._seen:
            self._remember(look, candidate)
            self._seen.add(_key(setting))
            if self.watch is not None:
                self.watch(setting, look.figures, self.representation)
        return self._worth(look.figures)

    def _consider(self, look: _Look) -> bool:
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
        scores, examination = found[0]["scores"].numpy(), self.examination
        self.best_scored = Scored(scores, scores, examination.labels, examination.is_unseen)

    def _remembered(self) -> list[dict[str, Any]]:
        file = None if self.memory is None else self.memory / _LOOKS
        if file is None or not file.is_file():
            return []
        text = file.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        try:
            if whole != text:  # the last line was broken off; the next one must not be glued to it
                file.write_text(whole, encoding="utf-8")
            return [json.loads(line) for line in whole.splitlines()]
        except (OSError, ValueError) as error:
            raise _unusable(file, error) from error

    def _remember(self, look: _Look, candidate: bool) -> None:
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
            with (self.memory / _LOOKS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise _unusable(self.memory / _LOOKS, error) from error


_LOOKS = "looks.jsonl"
_BEST = "best.safetensors"
_SCORES = "scores.safetensors"


class _TestJudge(ValidationJudge):
    """Remembers the best T1 and the best raw H, each with its own model, as published tables do."""

    def __init__(
        self, examination: Examination, watch: Watch | None, memory: Path | None, representation: str
    ) -> None:
        self.best_conventional: float | None = None
        self.best_model: tuple[Model, Scored] | None = None
        super().__init__(examination, watch, memory, representation)

    def _consider(self, look: _Look) -> bool:
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
        assert self.memory is not None, "looks are remembered there"
        model = load_model(read_model(self.memory / _BEST))
        self.best_model = model, self.examination.score(model)


def _key(setting: Setting) -> str:
    return json.dumps(dict(setting), sort_keys=True)


def _unusable(file: Path, error: Exception) -> RunError:
    return RunError(
        f"the looks so far cannot be kept or read: {error}",
        where=str(file),
        fix="make room and --resume; where the file is damaged, start again with --overwrite",
    )


def _unjudged() -> ConfigError:
    return ConfigError(
        "nothing could be judged: the held-out images have no seen class, or no unseen one",
        fix="give the problem held-out images of both kinds",
    )
