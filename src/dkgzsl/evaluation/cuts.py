"""Choice over several validation cuts: a start that serves most problems, left only for what is clearly better.

With few classes one cut says little: the best of many settings on it is the luckiest one. So a setting takes the
lead only where its mean gain over the cuts is above some standard errors of that gain, the more the fewer classes
there are, and the calibration constant is shrunk by how far it varies from cut to cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float

from dkgzsl.evaluation.held_out import HeldOut
from dkgzsl.evaluation.metrics import Figures, Scored, SeenUnseenCurve
from dkgzsl.evaluation.selection import EVALUATIONS, ScoresLine, Watch, append_evaluation, read_evaluations
from dkgzsl.methods.base import Model, Setting

MARGIN: Final = 48.0
"""A setting takes the lead where its mean gain is above this over the number of seen classes, in standard errors:
one error at 48 classes, three at 16. Cuts of few classes are less like the problem itself."""
KEPT: Final = 1 / 3
"""Share of the constant that is used where the method balances seen and unseen classes by itself. The cuts have
fewer classes than the problem; what they lack is more than what the problem lacks."""
SHARED: Final = 0.5
"""Squared error of a mean gain over J cuts: (1 / J + SHARED) times the variance. The cuts share images and
classes; one half is the ratio of held-out to other classes (Nadeau and Bengio, Machine Learning 2003)."""
BEHIND: Final = 0.02
"""A setting that is behind on the first cut by this share of what the lead lacks is not fitted on the others."""

Scores = Float[np.ndarray, " cuts"]


class CutsSelector:
    """Scores settings on several validation cuts and keeps the one that leads.

    A setting's score on a cut is AUSUC plus a share of raw H. With a folder, scores are written to a file as they
    come, and a resumed run does not fit what the file has.

    Args:
        held_out: held-out images of each cut.
        watch: called after each setting that is new, with its figures on the first cut.
        memory: folder of the evaluations; None: they are not written.
        representation: name of the representation, and of its folder in `memory`.
        raw_share: weight of raw H next to AUSUC, 0 or more.
    """

    def __init__(
        self,
        held_out: Sequence[HeldOut],
        watch: Watch | None,
        memory: Path | None,
        representation: str,
        *,
        raw_share: float,
    ) -> None:
        self.held_out, self.watch, self.raw_share = held_out, watch, raw_share
        self.representation, self.margin = representation, margin_of(len(np.unique(held_out[0].labels)))
        self.file = None if memory is None else memory / representation / EVALUATIONS
        self.setting: Setting | None = None
        self.lead: Scores = np.empty(0)
        lines = [] if self.file is None else read_evaluations(self.file, ScoresLine)
        self._known = {_key(line["setting"]): np.array(line["scores"], dtype=np.float64) for line in lines}
        self._new: set[str] = set()

    @property
    def evaluations(self) -> int:
        """Number of settings that were evaluated."""
        return len(self._known)

    def __call__(self, setting: Setting, models: Iterator[Model], *, candidate: bool = True) -> Scores:
        """Score a setting on every cut; see `CutSelector`."""
        key = _key(setting)
        if key not in self._known:
            scores, figures = self._evaluate(models)
            line = {
                "setting": dict(setting),
                "figures": asdict(figures),
                "scores": scores.tolist(),
                "candidate": candidate,
            }
            if self.file is not None:
                append_evaluation(self.file, line)
            self._known[key] = scores
            if self.watch is not None:
                self.watch(setting, figures, self.representation)
        scores = self._known[key]
        if candidate and self.is_better(scores, self.lead):
            self.setting, self.lead = dict(setting), scores
        return scores

    def is_better(self, scores: Scores, lead: Float[np.ndarray, " lead"]) -> bool:
        """Whether the mean gain is above `margin` standard errors; with one cut, above 0. Any score beats none."""
        if not len(lead):
            return bool(np.isfinite(scores).all())
        if not np.isfinite(lead).all():  # it was behind on the first cut already
            return bool(np.isfinite(scores).all() or scores[0] > lead[0])
        if not np.isfinite(scores).all():
            return False
        gain = scores - lead
        if len(gain) == 1:
            return bool(gain[0] > 0)
        return bool(gain.mean() > self.margin * gain.std(ddof=1) * (1 / len(gain) + SHARED) ** 0.5)

    def _evaluate(self, models: Iterator[Model]) -> tuple[Scores, Figures]:
        scores = np.full(len(self.held_out), -np.inf)
        first: Figures | None = None
        for position, (held_out, model) in enumerate(zip(self.held_out, models, strict=False)):
            scored = held_out.score(model)
            curve = scored.curve()
            scores[position] = self._score(scored, curve)
            if first is None:
                first = scored.figures(curve.best_constant())
                if len(self.lead) and scores[0] < self.lead[0] - BEHIND * (1 + self.raw_share - self.lead[0]):
                    break
        assert first is not None, "there is a cut"
        return scores, first

    def _score(self, scored: Scored, curve: SeenUnseenCurve) -> float:
        present = scored.is_unseen[scored.labels]
        if not present.any() or present.all():
            return float("-inf")
        raw = float(curve.harmonic[np.searchsorted(curve.constants, 0.0, side="left")])
        return curve.area + self.raw_share * raw


def margin_of(seen: int) -> float:
    """How many standard errors a gain has to exceed.

    Args:
        seen: number of seen classes.
    """
    return MARGIN / max(1, seen)


class Constant(NamedTuple):
    """A calibration constant found on several cuts.

    Attributes:
        value: what is added to the scores of unseen classes, after shrinking.
        found: the constant with the best mean H over the cuts.
        spread: deviation of the cuts' own best constants; None with one cut.
    """

    value: float
    found: float
    spread: float | None


def constant_of(scored: Sequence[Scored], *, spread: float | None = None, share: float = 1.0) -> Constant:
    """The constant with the best mean H over the cuts, c, shrunk by its spread d: share c^3 / (c^2 + d^2).

    Args:
        scored: held-out images of each cut, scored by a model of the same setting.
        spread: d, where it is known from elsewhere; with one cut and no spread the share alone shrinks.
        share: of the constant that is used, above 0 and at most 1; see `KEPT`.
    """
    curves = [one.curve() for one in scored]
    own = [curve.best_constant() for curve in curves]
    found = own[0]
    if len(curves) > 1:
        spread, found = float(np.std(own, ddof=1)), _best_for_all(curves)
    certain = 1.0 if found == 0 or spread is None else found**2 / (found**2 + spread**2)
    return Constant(share * certain * found, found, spread)


def _best_for_all(curves: Sequence[SeenUnseenCurve]) -> float:
    """The constant with the highest mean H: 0 where it reaches that, else the middle of the widest such
    interval."""
    changes = np.unique(np.concatenate([curve.constants for curve in curves]))
    if not len(changes):
        return 0.0
    middles = np.concatenate([[changes[0] - 1], (changes[1:] + changes[:-1]) / 2, [changes[-1] + 1]])
    values = np.mean([curve.harmonic[np.searchsorted(curve.constants, middles)] for curve in curves], axis=0)
    best = np.flatnonzero(values >= values.max() - 1e-12)
    bounds = np.concatenate([[changes[0] - 2], changes, [changes[-1] + 2]])
    if int(np.searchsorted(changes, 0.0)) in best:
        return 0.0
    widest = best[np.argmax(bounds[best + 1] - bounds[best])]
    return float(middles[widest])


def mean_figures(figures: Sequence[Figures]) -> tuple[Figures, Figures | None]:
    """Mean and sample deviation of each figure over cuts; a figure that any cut leaves undefined is None.

    With one cut there is no deviation.
    """
    names = [field.name for field in fields(Figures)]
    columns: dict[str, list[Any]] = {name: [getattr(one, name) for one in figures] for name in names}
    whole = {name: None not in values for name, values in columns.items()}
    mean = {name: float(np.mean(columns[name])) if whole[name] else None for name in names}
    if len(figures) == 1:
        return Figures(**mean), None
    deviation = {name: float(np.std(columns[name], ddof=1)) if whole[name] else None for name in names}
    return Figures(**mean), Figures(**deviation)


def _key(setting: Setting) -> str:
    return json.dumps(dict(setting), sort_keys=True)
