"""Peers that train for epochs: evaluations, the cap on the minutes, exact repetition."""

from typing import Any

import pytest
import torch
from generative_makers import METHODS, cada
from torch import Tensor

from dkgzsl.errors import ConfigError, RunError
from dkgzsl.methods.base import Model, Setting, Task
from dkgzsl.methods.peers import epochwise
from dkgzsl.methods.peers.epochwise import EpochwiseMethod
from dkgzsl.methods.shared.training import is_evaluation_epoch


class Recorder:
    """Keeps the scores of what it is called with."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.shown: list[tuple[dict[str, Any], Tensor]] = []

    def __call__(self, setting: Setting, model: Model, *, candidate: bool = True) -> float:
        self.shown.append((dict(setting), model.scores(self.task.features)))
        return 0.0

    @property
    def epochs(self) -> list[int]:
        return sorted({setting["epochs"] for setting, _ in self.shown})


def explored(method: EpochwiseMethod, task: Task) -> Recorder:
    selector = Recorder(task)
    method.explore(task, selector)
    return selector


def test_evaluations_come_at_powers_of_two_and_between() -> None:
    assert [epoch for epoch in range(1, 50) if is_evaluation_epoch(epoch)] == [
        1,
        2,
        3,
        4,
        6,
        8,
        12,
        16,
        24,
        32,
        48,
    ]


@pytest.mark.parametrize("name", METHODS)
def test_fit_gives_what_was_shown(task: Task, name: str) -> None:
    selector = explored(METHODS[name](epochs=3, seed=2), task)
    assert [s["classifier_epochs"] for s, _ in selector.shown if s["epochs"] == 3] == [1, 2, 3]
    for setting, scores in (selector.shown[0], selector.shown[-1]):
        again = METHODS[name](epochs=9, seed=2).fit(task, setting)
        assert torch.equal(again.scores(task.features), scores)


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides(task: Task, name: str) -> None:
    setting = {"epochs": 1, "classifier_epochs": 1}
    scores = [METHODS[name](seed=seed).fit(task, setting).scores(task.features) for seed in (0, 0, 1)]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


def test_evaluations_leave_the_training_as_it_is(task: Task) -> None:
    seen, unseen = explored(METHODS["f-vaegan-d2"](epochs=4), task), METHODS["f-vaegan-d2"](epochs=4)
    unseen.first_evaluation = 4
    assert torch.equal(seen.shown[-1][1], explored(unseen, task).shown[-1][1])


def test_no_evaluation_before_the_first(task: Task) -> None:
    assert explored(cada(epochs=17), task).epochs == [16, 17]


def test_the_clock_ends_exploration_after_the_epoch_in_progress(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 10_000, 20))  # 20 seconds an epoch
    monkeypatch.setattr(epochwise.time, "monotonic", lambda: next(ticks))
    selector = explored(METHODS["f-clswgan"](epochs=50, minutes=1.6), task)
    assert selector.epochs == [2, 3, 4, 5]


def test_every_epoch_is_reported(task: Task) -> None:
    epochs: list[int] = []
    explored(METHODS["f-clswgan"](epochs=3, on_epoch=lambda epoch, figures: epochs.append(epoch)), task)
    assert epochs == [1, 2, 3]


def test_an_unknown_setting_is_refused(task: Task) -> None:
    with pytest.raises(ConfigError, match="no such setting"):
        METHODS["f-clswgan"]().fit(task, {"epochs": 1, "classifier_epochs": 99})


def test_a_training_that_diverges_is_an_error(task: Task) -> None:
    with pytest.raises(RunError, match="diverged in epoch"):
        METHODS["f-clswgan"](learning_rate=1e200).fit(task, {"epochs": 4, "classifier_epochs": 1})


@pytest.mark.parametrize("name", METHODS)
def test_scores_are_over_the_classes_of_the_task(task: Task, name: str) -> None:
    model = METHODS[name]().fit(task, {"epochs": 1, "classifier_epochs": 2})
    scores, conventional = model.scores(task.features), model.conventional_scores(task.features)
    assert torch.isinf(scores[:, 3]).all()
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(60, dtype=scores.dtype))
    assert torch.isfinite(conventional).nonzero()[:, 1].unique().tolist() == [1, 6, 7]
