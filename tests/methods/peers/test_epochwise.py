"""Peers that train for epochs: evaluations, the cap on the minutes, exact repetition, checkpoints."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from generative_makers import EPOCHWISE, METHODS, cada
from torch import Tensor

from dkgzsl.errors import ConfigError, RunError
from dkgzsl.methods.base import Model, Setting, Task
from dkgzsl.methods.peers.epochwise import EpochwiseMethod
from dkgzsl.methods.shared import training as parts
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
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    selector = explored(METHODS["f-clswgan"](epochs=50, minutes=1.6), task)
    assert selector.epochs == [2, 3, 4, 5]


def test_other_work_on_the_machine_does_not_use_up_processor_time(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 seconds an epoch on the wall, 10 of the processor."""
    wall, processor = iter(range(0, 10_000, 20)), iter(range(0, 10_000, 10))
    monkeypatch.setattr(time, "monotonic", lambda: next(wall))
    monkeypatch.setattr(time, "process_time", lambda: next(processor))
    for clock, last in (("processor", 10), ("wall", 5)):
        method = METHODS["f-clswgan"](epochs=50, minutes=1.6, clock=clock)
        assert explored(method, task).epochs[-1] == last


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


class Interrupted:
    """Counts the epochs that were trained, and breaks off in the middle of one."""

    def __init__(self, after: int | None = None) -> None:
        self.after, self.epochs = after, []

    def __call__(self, epoch: int, figures: Mapping[str, float]) -> None:
        del figures
        self.epochs.append(epoch)
        if len(self.epochs) == self.after:
            raise KeyboardInterrupt


@pytest.fixture
def single(task: Task) -> Task:
    """The task in single precision, as tasks of problems are."""
    return replace(task, features=task.features.float(), semantics=task.semantics.float())


@pytest.fixture
def kept_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)


@pytest.mark.usefixtures("kept_each_epoch")
@pytest.mark.parametrize("stop_after", [4, 5])
@pytest.mark.parametrize("name", EPOCHWISE)
def test_an_interrupted_exploration_goes_on_bit_for_bit(
    single: Task, tmp_path: Path, name: str, stop_after: int
) -> None:
    """Broken off before and after an evaluation, of the first of several options where there are several."""
    make = EPOCHWISE[name]
    whole, options = explored(make(epochs=6), single), len(make().options)
    first, second, rest = Recorder(single), Recorder(single), Interrupted()
    with pytest.raises(KeyboardInterrupt):
        make(epochs=6, checkpoints=tmp_path, on_epoch=Interrupted(stop_after)).explore(single, first)
    make(epochs=6, checkpoints=tmp_path, on_epoch=rest).explore(single, second)
    assert rest.epochs == [*range(stop_after, 7), *list(range(1, 7)) * (options - 1)]
    shown = first.shown + second.shown
    assert [setting for setting, _ in shown] == [setting for setting, _ in whole.shown]
    for (setting, ours), (_, theirs) in zip(shown, whole.shown, strict=True):
        assert torch.equal(ours, theirs), setting


@pytest.mark.usefixtures("kept_each_epoch")
@pytest.mark.parametrize("name", ["ale", "class-norm"])
def test_an_option_that_is_done_is_not_trained_again(single: Task, tmp_path: Path, name: str) -> None:
    make = EPOCHWISE[name]
    whole, first, second, rest = (
        explored(make(epochs=3), single),
        Recorder(single),
        Recorder(single),
        Interrupted(),
    )
    with pytest.raises(KeyboardInterrupt):
        make(epochs=3, checkpoints=tmp_path, on_epoch=Interrupted(4)).explore(single, first)
    make(epochs=3, checkpoints=tmp_path, on_epoch=rest).explore(single, second)
    assert len(rest.epochs) == 3 * (len(make().options) - 1)
    for (setting, ours), (_, theirs) in zip(first.shown + second.shown, whole.shown, strict=True):
        assert torch.equal(ours, theirs), setting


@pytest.mark.usefixtures("kept_each_epoch")
@pytest.mark.parametrize("name", EPOCHWISE)
def test_an_interrupted_fit_goes_on_bit_for_bit(single: Task, tmp_path: Path, name: str) -> None:
    """After the exploration in the same folder, which is not done again."""
    make, rest = EPOCHWISE[name], Interrupted()
    setting, expected = explored(make(epochs=5), single).shown[-1]
    explored(make(epochs=5, checkpoints=tmp_path), single)
    with pytest.raises(KeyboardInterrupt):
        make(epochs=5, checkpoints=tmp_path, on_epoch=Interrupted(3)).fit(single, setting)
    again = make(epochs=5, checkpoints=tmp_path, on_epoch=rest)
    assert explored(again, single).shown == []
    assert torch.equal(again.fit(single, setting).scores(single.features), expected)
    assert rest.epochs == [3, 4, 5]


@pytest.mark.usefixtures("kept_each_epoch")
def test_two_tasks_have_two_checkpoints(single: Task, tmp_path: Path) -> None:
    """As the representations of one run have, which share a folder."""
    other = Task(single.features + 1, single.labels, single.semantics, single.seen, single.unseen)
    for one in (single, other):
        ours = explored(METHODS["f-clswgan"](epochs=2, checkpoints=tmp_path), one)
        theirs = explored(METHODS["f-clswgan"](epochs=2), one)
        assert torch.equal(ours.shown[-1][1], theirs.shown[-1][1])


@pytest.mark.usefixtures("kept_each_epoch")
def test_minutes_of_an_earlier_stretch_count(
    single: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs of 20 seconds before the interruption leave two of the 96 seconds."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Slow(Interrupted):
        def __call__(self, epoch: int, figures: Mapping[str, float]) -> None:
            now[0] += 20.0
            super().__call__(epoch, figures)

    def explore(epochs: Slow) -> Slow:
        method = METHODS["f-clswgan"](epochs=50, minutes=1.6, checkpoints=tmp_path, on_epoch=epochs)
        method.explore(single, Recorder(single))
        return epochs

    with pytest.raises(KeyboardInterrupt):
        explore(Slow(after=4))
    now[0] += 10_000.0  # nothing ran in between
    assert explore(Slow()).epochs == [4, 5]
    assert explore(Slow()).epochs == []


@pytest.mark.usefixtures("kept_each_epoch")
def test_a_training_without_a_state_begins_its_option_again(
    single: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As methods of other packages may have it, whose trainings have `train_epoch` and `models` alone."""
    make, rest, begin = EPOCHWISE["ale"], Interrupted(), EPOCHWISE["ale"]().begin.__func__

    class Plain:
        def __init__(self, training: Any) -> None:
            self.train_epoch, self.models = training.train_epoch, training.models

    monkeypatch.setattr(type(make()), "begin", lambda *given: Plain(begin(*given)))
    with pytest.raises(KeyboardInterrupt):
        explored(make(epochs=3, checkpoints=tmp_path, on_epoch=Interrupted(5)), single)
    explored(make(epochs=3, checkpoints=tmp_path, on_epoch=rest), single)
    assert len(rest.epochs) == 3 * (len(make().options) - 1)


@pytest.mark.usefixtures("kept_each_epoch")
def test_a_damaged_checkpoint_says_what_to_do(single: Task, tmp_path: Path) -> None:
    explored(METHODS["f-clswgan"](epochs=2, checkpoints=tmp_path), single)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(RunError, match=r"(?s)not a checkpoint.*delete the file"):
        explored(METHODS["f-clswgan"](epochs=2, checkpoints=tmp_path), single)
