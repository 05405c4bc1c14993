"""The default method: options on only where validation says so, or where they are demanded."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from dkgzsl.config import ClosedFormSettings
from dkgzsl.data.numbers.dataset import numbers
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.evaluation.protocols import validated
from dkgzsl.methods.base import Task
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.model import ClosedFormModel
from worlds import FEW, world


class Selector:
    """Prefers models whose setting has what it is told to like."""

    def __init__(self, likes) -> None:
        self.likes = likes
        self.shown: list[tuple[dict, bool]] = []

    def __call__(self, setting, model, *, candidate=True) -> float:
        self.shown.append((dict(setting), candidate))
        return float(self.likes(setting))

    @property
    def candidates(self) -> list[dict]:
        return [setting for setting, candidate in self.shown if candidate]


AUTO = replace(FEW, uncertainty="auto", episodes="auto", fusion="auto", seen_blend=(0.0, 0.5))


@pytest.fixture(scope="module")
def task():
    return final_task(world())[0]


def test_left_to_validation_everything_is_offered_and_may_be_declined(task) -> None:
    selector = Selector(lambda setting: setting["ridge"] == 0.1)
    ClosedForm(AUTO).explore(task, selector)
    assert all(candidate for _, candidate in selector.shown)
    offered = [setting for setting, _ in selector.shown]
    for name, value in (
        ("uncertainty", True),
        ("episodes", "weights"),
        ("fusion", True),
    ):
        one = next(setting for setting in offered if setting[name] == value)
        others = {"uncertainty": False, "episodes": "off", "fusion": False} | {name: value}
        assert {key: one[key] for key in others} == others  # what did not help is not carried on


def test_what_helps_is_built_upon(task) -> None:
    selector = Selector(lambda setting: setting["uncertainty"] + (setting["episodes"] == "weights"))
    ClosedForm(AUTO).explore(task, selector)
    assert selector.shown[-1][0]["uncertainty"]
    assert selector.shown[-1][0]["episodes"] == "weights"


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"uncertainty": "on"}, "uncertainty", True),
        ({"uncertainty": "off"}, "uncertainty", False),
        ({"episodes": "residual"}, "episodes", "residual"),
        ({"episodes": "off"}, "episodes", "off"),
        ({"fusion": "on"}, "fusion", True),
        ({"fusion": "off"}, "fusion", False),
        ({"seen_blend": (1.0,)}, "seen_blend", 1.0),
        ({"feature_kernel_width": (2.0,)}, "feature_kernel_width", 2.0),
    ],
)
def test_what_is_demanded_is_in_every_candidate(task, changes, name, value) -> None:
    selector = Selector(lambda setting: setting[name] != value)  # dislikes it, in vain
    ClosedForm(replace(AUTO, **changes)).explore(task, selector)
    assert selector.candidates
    assert {setting[name] for setting in selector.candidates} == {value}


def test_a_kernel_between_images_is_asked_for_its_constants_only_where_it_leads(task) -> None:
    def offered(likes):
        selector = Selector(likes)
        ClosedForm(replace(AUTO, feature_kernel_width=(0.0, 2.0))).explore(task, selector)
        return [
            setting for setting in selector.candidates if setting["feature_kernel_width"]
        ], selector.candidates[-1]

    declined, last = offered(lambda setting: -setting["feature_kernel_width"])
    assert {setting["seen_blend"] for setting in declined} == {0.0, 0.5}
    assert len({(setting["kernel_width"], setting["ridge"]) for setting in declined}) == 1
    assert last["feature_kernel_width"] == 0
    taken, last = offered(lambda setting: setting["feature_kernel_width"])
    assert {(setting["kernel_width"], setting["ridge"]) for setting in taken} == set(
        product(AUTO.kernel_width, AUTO.ridge)
    )
    assert last["feature_kernel_width"] == 2


def test_a_kernel_between_images_is_saved_and_synthesizes(task) -> None:
    setting = {"components": 20, "shrinkage": 0.5, "kernel_width": 2.0, "ridge": 0.1, "seen_blend": 0.5}
    setting |= {"uncertainty": False, "episodes": "off", "fusion": False, "feature_kernel_width": 2.0}
    features = final_task(world())[1].features
    model = ClosedForm(FEW).fit(task, setting)
    plain = ClosedForm(FEW).fit(task, {**setting, "feature_kernel_width": 0.0})
    again = ClosedFormModel.load(model.save())
    torch.testing.assert_close(again.scores(features), model.scores(features))
    assert not torch.allclose(model.scores(features), plain.scores(features))
    made = model.synthesize(task.semantics[task.unseen], 50, torch.Generator().manual_seed(0))
    assert (made >= 0).all()
    recognised = model.conventional_scores(made.flatten(0, 1)).argmax(1).view(len(task.unseen), 50)
    assert (recognised == task.unseen[:, None]).float().mean() > 0.9


@pytest.mark.parametrize("semantics", ["strokes", "names"])
def test_numbers_take_the_kernel_and_err_less_by_it(semantics) -> None:
    few = ClosedFormSettings(shrinkage=(0.1,), kernel_width=(0.0,), ridge=(0.03, 0.3), episodes="off")
    problem = numbers().with_semantics(semantics)
    taken = validated(ClosedForm(few), problem, seed=0)
    without = validated(ClosedForm(replace(few, feature_kernel_width=(0.0,))), problem, seed=0)
    assert taken.setting["feature_kernel_width"] == 1
    assert taken.figures.t1 >= without.figures.t1
    assert taken.figures.ausuc > without.figures.ausuc


@pytest.mark.parametrize("option", [{"episodes": "weights"}, {"episodes": "residual"}, {"fusion": "on"}])
def test_learned_options_change_the_model_and_repeat_by_seed(task, option) -> None:
    plain = {"components": 20, "shrinkage": 0.5, "kernel_width": 2.0, "ridge": 0.1, "seen_blend": 0.0}
    plain |= {"uncertainty": False, "episodes": "off", "fusion": False}
    learned = plain | ({"fusion": True} if "fusion" in option else option)
    features = final_task(world())[1].features

    def scores(setting, seed):
        return ClosedForm(FEW, seed=seed).fit(task, setting).scores(features)

    assert not torch.allclose(scores(learned, 0), scores(plain, 0))
    assert torch.equal(scores(learned, 0), scores(learned, 0))
    assert not torch.equal(scores(learned, 0), scores(learned, 1))


def test_uncertainty_widens_unseen_classes_alone(task) -> None:
    setting = {"components": 20, "shrinkage": 0.5, "kernel_width": 2.0, "ridge": 0.1, "seen_blend": 0.0}
    setting |= {"uncertainty": True, "episodes": "off", "fusion": False}
    densities = ClosedForm(FEW).fit(task, setting).densities
    seen, unseen = densities.variances[:12], densities.variances[12:]
    assert (seen == seen[:, :1]).all()
    assert unseen.mean() > seen.mean()


def test_balance_moves_unseen_classes_together_and_alone(task) -> None:
    setting = {"components": 20, "shrinkage": 0.5, "kernel_width": 2.0, "ridge": 0.1, "seen_blend": 0.0}
    setting |= {"uncertainty": False, "episodes": "off", "fusion": False}
    features = final_task(world())[1].features
    model = ClosedForm(FEW).fit(task, {**setting, "balance": True})
    plain = ClosedForm(FEW).fit(task, {**setting, "balance": False})
    moved = model.scores(features) - plain.scores(features)
    assert abs(model.balance) > 0.1
    torch.testing.assert_close(moved[:, task.unseen], torch.full_like(moved[:, task.unseen], model.balance))
    assert not moved[:, task.seen].any()
    among_unseen = model.conventional_scores(features).argmax(1)
    assert torch.equal(among_unseen, plain.conventional_scores(features).argmax(1))


def test_classes_are_added_without_fitting_again(task) -> None:
    """A model of 2 unseen classes with 2 more is the model of all four."""
    setting = {"components": 20, "shrinkage": 0.5, "kernel_width": 2.0, "ridge": 0.1, "seen_blend": 0.5}
    setting |= {"uncertainty": True, "episodes": "weights", "fusion": True}
    features = final_task(world())[1].features
    whole = ClosedForm(FEW).fit(task, setting)
    fewer = ClosedForm(FEW).fit(replace(task, unseen=task.unseen[:2]), setting)
    grown = fewer.with_classes(task.semantics, task.unseen)
    torch.testing.assert_close(grown.scores(features), whole.scores(features))


def test_the_world_is_learned() -> None:
    """Far above chance (0.25 and 0.06), with every default option open."""
    config = ClosedFormSettings(components=(20,), shrinkage=(0.3, 0.6))
    figures = validated(ClosedForm(config), world(), seed=0).figures
    assert figures.t1 > 0.8
    assert figures.h_calibrated > 0.6


def test_epochs_and_batch_size_set_what_is_learned(task) -> None:
    setting = {"components": 20, "shrinkage": 0.5, "kernel_width": 2.0, "ridge": 0.1, "seen_blend": 0.0}
    setting |= {"uncertainty": False, "episodes": "weights", "fusion": False}
    features = final_task(world())[1].features

    def scores(**learning) -> torch.Tensor:
        return ClosedForm(FEW, **learning).fit(task, setting).scores(features)

    assert torch.equal(scores(), scores(episodes=50, queries=1024))
    assert not torch.equal(scores(), scores(episodes=5))
    assert not torch.equal(scores(), scores(queries=10))


def _task_told_by(told) -> Task:
    """40 seen classes, means linear in the directions of six numbers, of which `told` makes descriptions."""
    generator = torch.Generator().manual_seed(3)
    truth = torch.rand(44, 6, generator=generator) ** 2
    means = torch.nn.functional.normalize(truth, dim=1) @ torch.randn(6, 24, generator=generator) * 8
    labels = torch.arange(40).repeat_interleave(10)
    return Task(
        features=means[labels] + 0.1 * torch.randn(len(labels), 24, generator=generator),
        labels=labels,
        semantics=told(truth),
        seen=torch.arange(40),
        unseen=torch.arange(40, 44),
        class_names=tuple(map(str, range(44))),
    )


@pytest.mark.parametrize(
    ("told", "rooted"),
    [(torch.square, True), (lambda truth: truth, False), (lambda truth: -truth.square(), False)],
)
def test_descriptions_take_a_root_where_it_predicts_seen_classes_better(told, rooted) -> None:
    selector = Selector(lambda setting: 0)
    config = replace(FEW, unit_length="off", kernel_width=(0.0,), ridge=(0.003,))
    ClosedForm(config).explore(_task_told_by(told), selector)
    assert {setting["description_root"] for setting in selector.candidates} == {rooted}


def test_the_final_model_takes_the_root_that_its_setting_had() -> None:
    squares = _task_told_by(torch.square)
    method, selector = ClosedForm(FEW), Selector(lambda setting: 0)
    method.explore(squares, selector)
    chosen = selector.candidates[0]
    for root in (True, False):
        assert method.fit(squares, {**chosen, "description_root": root}).descriptions.root is root
