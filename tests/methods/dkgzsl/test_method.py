"""DKGZSL as a method: evaluations, exact repetition, continuation, saving."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dkgzsl.config import SoftmaxConfig
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.methods.base import Generator, Model, SavedModel, Setup, Task
from dkgzsl.methods.dkgzsl.method import DKGZSL
from dkgzsl.methods.dkgzsl.model import DKGZSLModel
from dkgzsl.methods.dkgzsl.settings import DKGZSLSettings
from dkgzsl.methods.registry import load_model
from dkgzsl.methods.shared import training as parts
from dkgzsl.methods.shared.scaling import description_scale

SOFTMAX = SoftmaxConfig(per_class=10, learning_rate=0.05, epochs=3)
SETTINGS = DKGZSLSettings(
    hidden_size=32,
    learning_rate=2e-3,
    fusion_learning_rate=1e-3,
    gamma=10.0,
    evaluate_every=2,
    batch_size=16,
    softmax=SOFTMAX,
)


@pytest.fixture(scope="module")
def task() -> Task:
    """Eight described classes, five of them seen; class 3 is no part of the task."""
    random = torch.Generator().manual_seed(0)
    semantics = torch.randn(9, 6, generator=random)
    means = semantics @ torch.randn(6, 12, generator=random)
    seen = torch.tensor([0, 2, 4, 5, 8])
    labels = seen[torch.arange(60) % 5]
    features = means[labels] + 0.3 * torch.randn(60, 12, generator=random)
    return Task(features, labels, semantics, seen, torch.tensor([1, 6, 7]), tuple("abcdefghi"))


def method(epochs: int = 5, **options: Any) -> DKGZSL:
    return DKGZSL(replace(SETTINGS, epochs=epochs, precision="float32"), Setup(2, **options))


class Recorder:
    """A selector that keeps what it was shown, as scores; `stop_at` breaks off at that epoch's evaluation."""

    def __init__(self, task: Task, stop_at: int | None = None) -> None:
        self.task, self.stop_at = task, stop_at
        self.shown: dict[tuple[int, int], Tensor] = {}

    def __call__(self, setting: Mapping[str, Any], model: Model) -> float:
        if setting["epochs"] == self.stop_at:
            raise KeyboardInterrupt
        key = (setting["epochs"], setting["classifier_epochs"])
        self.shown[key] = model.scores(self.task.features)
        return 0.0


@pytest.fixture(scope="module")
def explored(task: Task) -> Recorder:
    selector = Recorder(task)
    method().explore(task, selector)
    return selector


def test_every_classifier_epoch_of_every_evaluation_is_shown(explored: Recorder) -> None:
    assert list(explored.shown) == [(epoch, j) for epoch in (2, 4, 5) for j in (1, 2, 3)]


def test_fit_gives_the_model_that_was_shown(task: Task, explored: Recorder) -> None:
    model = method().fit(task, {"epochs": 4, "classifier_epochs": 2})
    assert torch.equal(model.scores(task.features), explored.shown[4, 2])


def test_another_seed_gives_another_model(task: Task, explored: Recorder) -> None:
    other = DKGZSL(replace(SETTINGS, epochs=5), Setup(3))
    assert not torch.equal(
        other.fit(task, {"epochs": 2, "classifier_epochs": 1}).scores(task.features), explored.shown[2, 1]
    )


def test_scores_are_over_the_classes_of_the_task(task: Task) -> None:
    model = method().fit(task, {"epochs": 1, "classifier_epochs": 1})
    scores, conventional = model.scores(task.features), model.conventional_scores(task.features)
    assert scores.shape == (60, 9)
    assert torch.isinf(scores[:, 3]).all()
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(60))
    assert torch.isfinite(conventional).nonzero()[:, 1].unique().tolist() == [1, 6, 7]
    torch.testing.assert_close(conventional.exp().sum(dim=1), torch.ones(60))


def test_seen_classes_are_learned(task: Task) -> None:
    model = DKGZSL(replace(SETTINGS, softmax=SoftmaxConfig(20, 0.05, 20))).fit(
        task, {"epochs": 2, "classifier_epochs": 20}
    )
    among_seen = task.seen[model.scores(task.features)[:, task.seen].argmax(dim=1)]
    assert (among_seen == task.labels).float().mean() > 0.9


def test_synthesized_features_have_the_scale_of_the_unscaled_ones(task: Task) -> None:
    model = method().fit(task, {"epochs": 5, "classifier_epochs": 1})
    assert isinstance(model, Generator)
    made = model.synthesize(task.semantics[task.unseen], 50, torch.Generator().manual_seed(0))
    assert made.shape == (3, 50, 12)
    low, high = task.features.aminmax(dim=0)
    assert (made >= low).all()
    assert (made <= high).all()


@pytest.mark.parametrize(("length", "scale"), [(1, 1), (20, 1), (400, 25 / 400), (0.1, 10)])
def test_descriptions_stay_as_they_are_within_reason(length: float, scale: float) -> None:
    rows = length * torch.eye(4)
    assert description_scale(rows) == pytest.approx(scale)


def test_the_scale_of_percentages_makes_no_difference(task: Task) -> None:
    """Both are longer than any that the networks take, and so are brought to the same length."""
    setting = {"epochs": 1, "classifier_epochs": 1}
    made = []
    for factor in (100, 200):
        scaled = Task(task.features, task.labels, factor * task.semantics, task.seen, task.unseen)
        model = method().fit(scaled, setting)
        made.append(model.synthesize(scaled.semantics, 2, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(*made)


def test_saved_model_scores_and_synthesizes_the_same(task: Task) -> None:
    model = method().fit(task, {"epochs": 1, "classifier_epochs": 2})
    saved = model.save()
    values = json.loads(json.dumps(saved.values))
    loaded = DKGZSLModel.load(SavedModel(saved.kind, {n: t.clone() for n, t in saved.tensors.items()}, values))
    assert torch.equal(loaded.scores(task.features), model.scores(task.features))
    assert torch.equal(loaded.conventional_scores(task.features), model.conventional_scores(task.features))
    made = [m.synthesize(task.semantics, 3, torch.Generator().manual_seed(0)) for m in (model, loaded)]
    assert torch.equal(*made)
    assert loaded.class_names == task.class_names


def reopened(model: DKGZSLModel) -> DKGZSLModel:
    """As a file would give it back."""
    saved = model.save()
    return DKGZSLModel.load(SavedModel(saved.kind, dict(saved.tensors), json.loads(json.dumps(saved.values))))


def test_classes_added_later_are_as_if_trained_with(task: Task) -> None:
    """The first unseen class comes after training, to a model read from its file: bit for bit the same."""
    setting = {"epochs": 2, "classifier_epochs": 3}
    whole = method().fit(task, setting)
    fewer = Task(task.features, task.labels, task.semantics, task.seen, task.unseen[1:])
    grown = reopened(method().fit(fewer, setting)).with_classes(task.semantics, task.unseen)
    assert torch.equal(grown.scores(task.features), whole.scores(task.features))
    assert torch.equal(grown.conventional_scores(task.features), whole.conventional_scores(task.features))


@pytest.mark.parametrize("name", ["generator.", "training.features"])
def test_a_file_that_lacks_weights_is_refused(task: Task, name: str) -> None:
    saved = method().fit(task, {"epochs": 1, "classifier_epochs": 1}).save()
    first = next(key for key in saved.tensors if key.startswith(name))
    fewer = {key: tensor for key, tensor in saved.tensors.items() if key != first}
    with pytest.raises(RunError, match="the file of the model 'dkgzsl'"):
        load_model(SavedModel(saved.kind, fewer, saved.values))


def test_classes_may_be_taken_away_to_the_last(task: Task) -> None:
    model = method().fit(task, {"epochs": 1, "classifier_epochs": 1})
    left = reopened(model.with_classes(task.semantics, task.unseen[:0]))
    scores = left.scores(task.features)
    assert torch.isfinite(scores[:, task.seen]).all()
    assert torch.isneginf(scores[:, task.unseen]).all()
    assert torch.isneginf(left.conventional_scores(task.features)).all()


def test_interrupted_exploration_continues_bit_for_bit(task: Task, explored: Recorder, tmp_path: Path) -> None:
    first, second = Recorder(task, stop_at=4), Recorder(task)
    with pytest.raises(KeyboardInterrupt):
        method(checkpoints=tmp_path).explore(task, first)
    epochs: list[int] = []
    method(checkpoints=tmp_path, on_epoch=lambda epoch, figures: epochs.append(epoch)).explore(task, second)
    assert epochs == [3, 4, 5]
    assert list(first.shown) == [(2, 1), (2, 2), (2, 3)]
    assert list(second.shown) == [(epoch, j) for epoch in (4, 5) for j in (1, 2, 3)]
    for key, scores in (first.shown | second.shown).items():
        assert torch.equal(scores, explored.shown[key]), key


def test_a_finished_fit_is_not_trained_again(task: Task, tmp_path: Path) -> None:
    setting = {"epochs": 3, "classifier_epochs": 2}
    model = method(checkpoints=tmp_path).fit(task, setting)
    epochs: list[int] = []
    again = method(checkpoints=tmp_path, on_epoch=lambda epoch, figures: epochs.append(epoch)).fit(task, setting)
    assert epochs == []
    assert torch.equal(again.scores(task.features), model.scores(task.features))


def test_a_checkpoint_of_another_run_is_refused(task: Task, tmp_path: Path) -> None:
    setting = {"epochs": 1, "classifier_epochs": 1}
    method(checkpoints=tmp_path).fit(task, setting)
    with pytest.raises(RunError, match="other settings or other data"):
        DKGZSL(replace(SETTINGS, gamma=3.0, precision="float32"), Setup(2, checkpoints=tmp_path)).fit(
            task, setting
        )


def test_each_task_has_a_checkpoint_of_its_own(task: Task, tmp_path: Path) -> None:
    setting = {"epochs": 1, "classifier_epochs": 1}
    other = Task(task.features + 1e-3, task.labels, task.semantics, task.seen, task.unseen)
    for one in (task, other):
        kept = method(checkpoints=tmp_path).fit(one, setting)
        assert torch.equal(kept.scores(one.features), method().fit(one, setting).scores(one.features))


def test_figures_are_given_after_each_epoch(task: Task) -> None:
    given: list[Mapping[str, float]] = []
    method(epochs=1, on_epoch=lambda epoch, figures: given.append(figures)).explore(task, Recorder(task))
    assert given[0].keys() >= {"distance", "penalty", "knowledge_loss", "generator_loss", "penalty_weight"}


def test_settings_left_out_come_from_the_default_preset() -> None:
    plain = DKGZSL(DKGZSLSettings(epochs=40, batch_size=8))
    assert plain.settings.hidden_size == 1024
    assert plain.settings.precision == "float32"
    assert plain.evaluate_every == 4


@pytest.mark.parametrize("epochs", [0, -1])
def test_numbers_out_of_range_are_refused(epochs: int) -> None:
    with pytest.raises(ConfigError, match="must be at least 1"):
        method(epochs=epochs)


def test_a_training_that_diverges_is_an_error(task: Task) -> None:
    wild = replace(SETTINGS, learning_rate=1e30)
    with pytest.raises(RunError, match="diverged"):
        DKGZSL(wild).fit(task, {"epochs": 3, "classifier_epochs": 1})


def test_within_minutes_open_settings_are_those_that_get_furthest() -> None:
    capped = DKGZSL(DKGZSLSettings(), Setup(minutes=1.0))
    assert (capped.settings.hidden_size, capped.settings.precision) == (1024, "bfloat16")
    assert (capped.per_class, capped.classifier_epochs) == (200, 5)


def test_a_cap_of_time_ends_exploration_with_an_evaluation_at_the_epoch_it_came_to(task: Task) -> None:
    selector = Recorder(task)
    method(minutes=1e-9).explore(task, selector)
    assert list(selector.shown) == [(1, 1), (1, 2), (1, 3)]
    again = method().fit(task, {"epochs": 1, "classifier_epochs": 3})
    assert torch.equal(again.scores(task.features), selector.shown[1, 3])


def test_time_before_an_interruption_counts(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 seconds an epoch, of 96; broken off in the third, which the checkpoint of the second does not count."""
    monkeypatch.setattr(parts, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    now, trained = [0.0], []

    def on_epoch(epoch: int, figures: Mapping[str, float]) -> None:
        del figures
        now[0] += 20.0
        trained.append(epoch)
        if trained == [1, 2, 3]:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    setup = {"minutes": 1.6, "checkpoints": tmp_path, "on_epoch": on_epoch}
    with pytest.raises(KeyboardInterrupt):
        method(epochs=50, **setup).explore(task, Recorder(task))
    now[0] += 10_000.0  # nothing ran in between
    method(epochs=50, **setup).explore(task, Recorder(task))
    assert trained == [1, 2, 3, 3, 4, 5]
    method(epochs=50, **setup).explore(task, Recorder(task))
    assert trained == [1, 2, 3, 3, 4, 5]


def test_a_cap_of_time_evaluates_where_models_change(task: Task) -> None:
    selector = Recorder(task)
    method(epochs=13, minutes=60.0).explore(task, selector)
    assert sorted({epoch for epoch, _ in selector.shown}) == [4, 6, 8, 12, 13]
