"""The closed form: options are on where validation prefers them, or where they are demanded."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from dkgzsl.data.numbers.dataset import numbers
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.evaluation.protocols import validated
from dkgzsl.memory import blocks_of
from dkgzsl.methods.base import Setup, Task
from dkgzsl.methods.closed_form import fitting, whitening
from dkgzsl.methods.closed_form.episodes import EpisodePlan, _AdamW
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.model import ClosedFormModel
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from worlds import FEW, world


class Selector:
    """Prefers models whose setting has what it likes."""

    def __init__(self, likes) -> None:
        self.likes = likes
        self.shown: list[tuple[dict, bool]] = []

    def __call__(self, setting, model, *, candidate=True) -> float:
        self.shown.append((dict(setting), candidate))
        return float(self.likes(setting))

    @property
    def candidates(self) -> list[dict]:
        return [setting for setting, candidate in self.shown if candidate]


AUTO = replace(FEW, unit_length="on", episodes="auto", seen_blend=(0.0, 0.5))
PLAIN = {
    "unit_length": True,
    "components": 20,
    "shrinkage": 0.5,
    "kernel_width": 2.0,
    "ridge": 0.1,
    "seen_blend": 0.0,
    "episodes": "off",
}


@pytest.fixture(scope="module")
def task():
    return final_task(world())[0]


def test_left_to_validation_everything_is_offered_and_may_be_declined(task) -> None:
    selector = Selector(lambda setting: setting["ridge"] == 0.1)
    ClosedForm(AUTO).explore(task, selector)
    assert all(candidate for _, candidate in selector.shown)
    assert selector.shown[-1][0]["episodes"] == "weights"
    assert {setting["episodes"] for setting, _ in selector.shown[:-1]} == {"off"}


def test_what_helps_is_built_upon(task) -> None:
    selector = Selector(lambda setting: setting["seen_blend"] + (setting["episodes"] == "weights"))
    ClosedForm(AUTO).explore(task, selector)
    assert selector.shown[-1][0]["seen_blend"] == 0.5
    assert selector.shown[-1][0]["episodes"] == "weights"


def test_lengths_are_tried_where_channels_are_few() -> None:
    """Up to 64 channels both ways, beyond unit length alone: what estimator and `train` have in common."""

    def lengths(channels: int, unit_length: str) -> list[bool]:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(6).repeat_interleave(4)
        features = torch.randn(24, channels, generator=generator)
        described = torch.randn(8, 5, generator=generator)
        few = Task(features, labels, described, torch.arange(6), torch.arange(6, 8))
        selector = Selector(lambda setting: 0)
        ClosedForm(replace(FEW, unit_length=unit_length)).explore(few, selector)
        return list(dict.fromkeys(setting["unit_length"] for setting, _ in selector.shown))

    assert lengths(64, "auto") == [True, False]
    assert lengths(65, "auto") == [True]
    assert lengths(10, "on") == [True]
    assert lengths(200, "off") == [False]


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"episodes": "weights"}, "episodes", "weights"),
        ({"episodes": "off"}, "episodes", "off"),
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
    assert len({setting["components"] for setting in declined}) == len(declined), "sizes alone"
    assert len({(setting["kernel_width"], setting["ridge"]) for setting in declined}) == 1
    assert last["feature_kernel_width"] == 0
    taken, last = offered(lambda setting: setting["feature_kernel_width"])
    assert {setting["seen_blend"] for setting in taken} == {0.0, 0.5}
    assert {setting["ridge"] for setting in taken} == set(AUTO.ridge)
    assert last["feature_kernel_width"] == 2


def test_a_kernel_between_images_is_saved_and_synthesizes(task) -> None:
    setting = PLAIN | {"seen_blend": 0.5, "feature_kernel_width": 2.0}
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


def test_learned_weights_change_the_model_and_repeat_by_seed(task) -> None:
    learned = PLAIN | {"episodes": "weights"}
    features = final_task(world())[1].features

    def scores(setting, seed):
        return ClosedForm(FEW, Setup(seed)).fit(task, setting).scores(features)

    assert not torch.allclose(scores(learned, 0), scores(PLAIN, 0))
    assert torch.equal(scores(learned, 0), scores(learned, 0))
    assert not torch.equal(scores(learned, 0), scores(learned, 1))


def test_balance_moves_unseen_classes_together_and_alone(task) -> None:
    setting = PLAIN
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
    setting = PLAIN | {"seen_blend": 0.5, "episodes": "weights"}
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


def test_the_plan_of_the_episodes_decides_what_is_learned(task) -> None:
    features = final_task(world())[1].features

    def scores(plan: EpisodePlan | None = None) -> torch.Tensor:
        return ClosedForm(FEW, plan=plan).fit(task, PLAIN | {"episodes": "weights"}).scores(features)

    assert torch.equal(scores(), scores(EpisodePlan(episodes=50, queries=1024)))
    assert not torch.equal(scores(), scores(EpisodePlan(episodes=5)))
    assert not torch.equal(scores(), scores(EpisodePlan(queries=10)))


def test_trials_of_one_task_share_what_they_compute(task) -> None:
    shared: dict = {}
    first = ClosedForm(FEW, Setup(shared=shared)).fit(task, PLAIN)
    second = ClosedForm(FEW, Setup(shared=shared)).fit(task, PLAIN | {"ridge": 0.3})
    assert first.space.whitened.principal is second.space.whitened.principal
    alone = ClosedForm(FEW).fit(task, PLAIN | {"ridge": 0.3})
    features = final_task(world())[1].features
    assert torch.equal(second.scores(features), alone.scores(features))


def _task_described_by(describe) -> Task:
    """40 seen classes, means linear in the directions of six numbers, of which `describe` makes descriptions."""
    generator = torch.Generator().manual_seed(3)
    truth = torch.rand(44, 6, generator=generator) ** 2
    means = torch.nn.functional.normalize(truth, dim=1) @ torch.randn(6, 24, generator=generator) * 8
    labels = torch.arange(40).repeat_interleave(10)
    return Task(
        features=means[labels] + 0.1 * torch.randn(len(labels), 24, generator=generator),
        labels=labels,
        semantics=describe(truth),
        seen=torch.arange(40),
        unseen=torch.arange(40, 44),
        class_names=tuple(map(str, range(44))),
    )


@pytest.mark.parametrize(
    ("describe", "rooted"),
    [(torch.square, True), (lambda truth: truth, False), (lambda truth: -truth.square(), False)],
)
def test_descriptions_take_a_root_where_it_predicts_seen_classes_better(describe, rooted) -> None:
    selector = Selector(lambda setting: 0)
    config = replace(FEW, unit_length="off", episodes="off", kernel_width=(0.0,), ridge=(0.003,))
    ClosedForm(config).explore(_task_described_by(describe), selector)
    assert {setting["description_root"] for setting in selector.candidates} == {rooted}


def test_the_final_model_takes_the_root_that_its_setting_had() -> None:
    squares = _task_described_by(torch.square)
    method, selector = ClosedForm(FEW), Selector(lambda setting: 0)
    method.explore(squares, selector)
    chosen = selector.candidates[0]
    for root in (True, False):
        assert method.fit(squares, {**chosen, "description_root": root}).descriptions.root is root


def test_the_optimiser_of_the_episodes_is_torchs_own_adamw() -> None:
    plan = EpisodePlan(learning_rate=0.05, weight_decay=0.1)
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 9)) for _ in range(2))
    mine, reference = _AdamW(ours, plan), torch.optim.AdamW([theirs], lr=0.05, weight_decay=0.1)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return (values - torch.arange(9.0) / 3).square().sin().sum()

    for _ in range(30):
        mine.step(*torch.autograd.grad(loss(ours), ours))
        reference.zero_grad()
        torch.autograd.backward(loss(theirs))
        reference.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("setting", [PLAIN, PLAIN | {"feature_kernel_width": 1.0, "seen_blend": 0.5}])
def test_a_fit_in_blocks_is_that_of_all_images_at_once(task, monkeypatch, setting) -> None:
    features = final_task(world())[1].features
    whole = ClosedForm(FEW).fit(task, setting).scores(features)
    for module in (fitting, whitening):
        monkeypatch.setattr(module, "blocks_of", partial(blocks_of, size=37))
    torch.testing.assert_close(ClosedForm(FEW).fit(task, setting).scores(features), whole, rtol=1e-3, atol=0.02)
