"""What a search tries next: the settings of trials that are chosen together, before any of them has a score.

A proposal follows from the seed, the number of the trial, the trials of earlier batches with their scores, and the
settings of those before it in its own batch. So it does not matter which of a batch is done first, or where, or
whether the search was broken off within it.

Source: a batch's trials without a score count as bad ones, so that the next one keeps away from them (the constant
liar; Ginsbourger, Le Riche and Carraro, 2010).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dkgzsl.methods.search import Space

_STARTUP = 10
"""Trials at random before the estimator has something to go by."""


@dataclass(frozen=True)
class Proposal:
    """A trial that is not done yet.

    Attributes:
        number: from 0; number 0 is the defaults.
        values: its settings, by the names of the space; empty for the defaults, which are no point of it.
        distributions: Optuna's, of each setting.
    """

    number: int
    values: dict[str, Any]
    distributions: dict[str, Any]


def proposals(
    optuna: Any, earlier: Sequence[Any], numbers: range, space: Space, *, first: Mapping[str, Any], seed: int
) -> list[Proposal]:
    """The trials of a batch.

    Args:
        optuna: the package.
        earlier: Optuna's frozen trials of all batches before, in their order.
        numbers: of the batch.
        space: what is searched.
        first: settings of trial 1.
        seed: of the search.
    """
    study = optuna.create_study(direction="maximize")
    study.add_trials(earlier)
    found = []
    for number in numbers:
        if not number:
            found.append(Proposal(0, {}, {}))
            continue
        if number == 1:
            study.enqueue_trial(dict(first), skip_if_exists=False)
        study.sampler = _sampler(optuna, seed, number)
        trial = study.ask()
        values = {name: one.suggest(trial, name) for name, one in space.items()}
        found.append(Proposal(number, values, dict(trial.distributions)))
    return found


def _sampler(optuna: Any, seed: int, number: int) -> Any:
    drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older versions call the constant liar experimental
        return optuna.samplers.TPESampler(seed=drawn, n_startup_trials=_STARTUP, constant_liar=True)
