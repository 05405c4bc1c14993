"""What every method must keep: one case for each that the registry knows."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dkgzsl.data.problem import Problem
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.evaluation.protocols import Outcome, validated
from dkgzsl.methods import registry
from dkgzsl.methods.base import Generator, Method, Model, Setting
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.softmax import ClosedFormSoftmax
from dkgzsl.methods.dkgzsl.method import DKGZSL
from dkgzsl.methods.peers.ale import ALE
from dkgzsl.methods.peers.aligned_autoencoders import Widths
from dkgzsl.methods.peers.cada_vae import CADAVAE
from dkgzsl.methods.peers.class_norm import ClassNorm
from dkgzsl.methods.peers.clip import CLIP
from dkgzsl.methods.peers.eszsl import ESZSL
from dkgzsl.methods.peers.f_clswgan import FCLSWGAN
from dkgzsl.methods.peers.f_vaegan import FVAEGAN
from dkgzsl.methods.peers.gfzsl import GFZSL
from dkgzsl.methods.peers.ridge_prototype import RidgePrototype
from dkgzsl.methods.peers.sae import SAE
from dkgzsl.methods.registry import read_model, write_model
from worlds import FEW, QUICK, SMALL, described_by_means, world

TINY: dict[str, Any] = {
    "batch_size": 16,
    "critic_steps": 2,
    "per_class": 20,
    "softmax_rate": 0.02,
    "precision": "float32",
}
METHODS: dict[str, Callable[[], Method]] = {
    "dkgzsl": lambda: ClosedForm(FEW),
    "dkgzsl-softmax": lambda: ClosedFormSoftmax(ClosedForm(FEW), QUICK),
    "eszsl": lambda: ESZSL(powers=(-1, 0)),
    "sae": lambda: SAE(powers=(0, 2)),
    "ridge": lambda: RidgePrototype(powers=(-1,)),
    "gfzsl": lambda: GFZSL(powers=(-1,), floors=(0.3,), further_floors=(1.0,)),
    "ale": lambda: ALE(epochs=6, rates=(3.0,), scalings=("min-max", "square-root")),
    "class-norm": lambda: ClassNorm(epochs=8, hidden=48, batch_size=24, learning_rate=5e-3, scalings=("none",)),
    "f-clswgan": lambda: FCLSWGAN(
        **TINY, hidden_size=64, epochs=48, learning_rate=1e-2, beta=0.3, softmax_epochs=8
    ),
    "f-vaegan": lambda: FVAEGAN(
        **TINY, hidden_size=32, epochs=48, learning_rate=5e-3, gamma=1.0, softmax_epochs=4
    ),
    "cada-vae": lambda: CADAVAE(
        epochs=24,
        widths=Widths(32, 32, 32, 32, 8),
        batch_size=16,
        learning_rate=0.02,
        per_class=30,
        seen_per_class=30,
        softmax_rate=0.02,
        softmax_epochs=6,
    ),
    "clip": CLIP,
    "paper": lambda: DKGZSL(SMALL, QUICK, epochs=20, batch_size=16),
}


def test_every_method_has_a_case() -> None:
    assert set(METHODS) == set(registry.method_names()) | set(registry.model_classes())


def world_of(method: Method) -> Problem:
    """Most take any description; CLIP takes those that lie where the features do."""
    return described_by_means() if method.name == "clip" else world()


class Notes:
    """A selector that writes down what it is shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[Setting, torch.Tensor]] = []
        self.features = final_task(world())[1].features

    def __call__(self, setting: Setting, model: Model, *, candidate: bool = True) -> float:
        if candidate:
            self.shown.append((setting, model.scores(self.features)))
        return float(len(self.shown))


@pytest.fixture(params=METHODS, scope="module")
def method(request: pytest.FixtureRequest) -> Method:
    return METHODS[request.param]()


@pytest.fixture(scope="module")
def outcome(method: Method) -> Outcome:
    return validated(method, world_of(method), seed=0)


def test_beats_chance_and_keeps_the_contract(method: Method, outcome: Outcome, tmp_path) -> None:
    problem = world_of(method)
    assert outcome.figures.t1 is not None
    assert outcome.figures.t1 > 1.5 / len(problem.unseen_classes)

    model, (_, held_out) = outcome.model, final_task(problem)
    scores = model.scores(held_out.features)
    assert scores.shape == (len(held_out.labels), len(problem.class_names))
    assert scores.isfinite().all()
    conventional = model.conventional_scores(held_out.features)
    unseen = torch.from_numpy(problem.unseen_classes)
    assert conventional[:, unseen].isfinite().all()
    assert conventional[:, torch.from_numpy(problem.seen_classes)].isneginf().all()
    json.dumps(dict(outcome.setting))

    write_model(tmp_path / "model.safetensors", model.save())
    again = registry.load_model(read_model(tmp_path / "model.safetensors"))
    torch.testing.assert_close(again.scores(held_out.features), scores, atol=1e-3, rtol=1e-4)
    again_conventional = again.conventional_scores(held_out.features)
    torch.testing.assert_close(again_conventional, conventional, atol=1e-3, rtol=1e-4)


def test_classes_outside_the_task_score_minus_infinity(method: Method) -> None:
    task, _ = final_task(world_of(method))
    outside = int(task.unseen[-1])
    smaller = type(task)(**{**vars(task), "unseen": task.unseen[:-1]})
    notes = Notes()
    method.explore(smaller, notes)
    assert notes.shown[0][1][:, outside].isneginf().all()


def test_fit_repeats_what_explore_has_shown(method: Method) -> None:
    task, _ = final_task(world_of(method))
    notes = Notes()
    method.explore(task, notes)
    setting, scores = notes.shown[-1]
    torch.testing.assert_close(method.fit(task, setting).scores(notes.features), scores)


def test_synthesized_features_lie_near_the_real_ones(outcome: Outcome) -> None:
    """On the scale of the features, and nearer to their own class than to others."""
    problem = world()
    if not isinstance(outcome.model, Generator):
        pytest.skip("not a generator")
    semantics = torch.from_numpy(problem.semantics)
    made = outcome.model.synthesize(semantics, 50, torch.Generator().manual_seed(0))
    assert made.shape == (16, 50, problem.features.shape[1])
    real = torch.from_numpy(problem.features)
    labels = torch.from_numpy(problem.labels)
    means = torch.stack([real[labels == c].mean(0) for c in range(16)])
    distance = torch.cdist(made.mean(1), means)
    own = distance.diagonal().mean()
    assert own < 0.8 * distance.mean()
    assert made.mean() == pytest.approx(float(real.mean()), rel=0.2)
