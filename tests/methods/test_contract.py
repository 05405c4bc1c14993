"""What every method must keep: one case for each kind of model that the registry knows, and one contract for each
capability, checked on every kind that has it.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dkgzsl.data.problem import Problem
from dkgzsl.device import moved
from dkgzsl.errors import DataError
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.evaluation.protocols import Outcome, validated
from dkgzsl.methods import registry
from dkgzsl.methods.base import (
    CAPABILITIES,
    Adaptable,
    Exportable,
    Extendable,
    FewShot,
    Generator,
    Method,
    Model,
    Setting,
    Task,
    capabilities_of,
)
from dkgzsl.methods.peers.ale import ALESettings
from dkgzsl.methods.peers.aligned_autoencoders import Widths
from dkgzsl.methods.peers.cada_vae import CADAVAESettings
from dkgzsl.methods.peers.class_norm import ClassNormSettings
from dkgzsl.methods.peers.clip import CLIPSettings
from dkgzsl.methods.peers.eszsl import ESZSLSettings
from dkgzsl.methods.peers.exem import EXEMSettings
from dkgzsl.methods.peers.f_clswgan import FCLSWGANSettings
from dkgzsl.methods.peers.f_vaegan import FVAEGANSettings
from dkgzsl.methods.peers.gfzsl import GFZSLSettings
from dkgzsl.methods.peers.ridge_prototype import RidgeSettings
from dkgzsl.methods.peers.sae import SAESettings
from dkgzsl.methods.registry import make_method, method_info, read_model, write_model
from worlds import FEW, QUICK, SMALL, described_by_means, world

TINY: dict[str, Any] = {"batch_size": 16, "critic_steps": 2, "per_class": 20, "softmax_rate": 0.02}
METHODS: dict[str, Any] = {
    "closed-form": FEW,
    "closed-form-softmax": replace(FEW, classifier="softmax", softmax=QUICK),
    "dkgzsl": replace(SMALL, epochs=20, batch_size=16, softmax=QUICK),
    "eszsl": ESZSLSettings(powers=(-1, 0)),
    "sae": SAESettings(powers=(0, 2)),
    "ridge": RidgeSettings(powers=(-1,)),
    "exem": EXEMSettings(widths=(1.0,), costs=(10.0,)),
    "gfzsl": GFZSLSettings(powers=(-1,), floors=(0.3,), further_floors=(1.0,)),
    "ale": ALESettings(epochs=6, rates=(3.0,), scalings=("min-max", "square-root")),
    "class-norm": ClassNormSettings(
        epochs=8, hidden_size=48, batch_size=24, learning_rate=5e-3, scalings=("none",)
    ),
    "f-clswgan": FCLSWGANSettings(
        **TINY, hidden_size=64, epochs=48, learning_rate=1e-2, beta=0.3, softmax_epochs=8
    ),
    "f-vaegan-d2": FVAEGANSettings(
        **TINY, hidden_size=32, epochs=48, learning_rate=5e-3, gamma=1.0, softmax_epochs=4
    ),
    "cada-vae": CADAVAESettings(
        epochs=24,
        widths=Widths(32, 32, 32, 32, 8),
        batch_size=16,
        learning_rate=0.02,
        per_class=30,
        seen_per_class=30,
        softmax_rate=0.02,
        softmax_epochs=6,
    ),
    "clip": CLIPSettings(),
}
"""Small settings by the kind of the fitted model."""

ROWS_TRAINED = ("closed-form-softmax",)
"""Kinds that train the rows of new classes alone, and so are not what a fit with these classes gives."""


def method_of(kind: str) -> str:
    """The method that fits models of a kind."""
    return next(name for name in registry.method_names() if kind in method_info(name).models)


@cache
def problem_of(kind: str) -> Problem:
    """Most take any description; CLIP takes those that lie where the features do."""
    return described_by_means() if kind == "clip" else world()


def made(kind: str) -> Method:
    return make_method(method_of(kind), METHODS[kind])


def shortly(kind: str) -> Method:
    """With two epochs where the method trains by epochs: enough for what holds of any model."""
    changes = {"epochs": 2, "evaluate_every": 1}
    names = METHODS[kind].__dataclass_fields__
    few = {name: value for name, value in changes.items() if name in names}
    return make_method(method_of(kind), replace(METHODS[kind], **few))


@cache
def outcome_of(kind: str) -> Outcome:
    return validated(made(kind), problem_of(kind), seed=0)


class Case(NamedTuple):
    """A fitted model, saved and loaded again, on the whole task of its world."""

    kind: str
    task: Task
    setting: Setting
    model: Any
    held: Tensor
    labels: Tensor


def case_of(kind: str) -> Case:
    task, held_out = final_task(problem_of(kind))
    outcome = outcome_of(kind)
    model = registry.load_model(outcome.model.save())
    return Case(kind, task, outcome.setting, model, held_out.features, torch.from_numpy(held_out.labels))


def centred(scores: Tensor) -> Tensor:
    """Without what all classes of an image share."""
    return scores - scores.mean(dim=1, keepdim=True)


def assert_same_scores(found: Tensor, expected: Tensor, *, share: float = 1e-4) -> None:
    """Alike up to a share of the spread over the classes of an image, and -inf for the same classes."""
    assert torch.equal(found.isneginf(), expected.isneginf())
    finite = expected.isfinite()
    spread = float(centred(expected[:, finite.all(0)]).abs().max())
    assert float((found[finite] - expected[finite]).abs().max()) < share * spread


def generator_contract(case: Case) -> None:
    """Features on the scale of the real ones, nearer to their own class than to others."""
    problem = problem_of(case.kind)
    assert isinstance(case.model, Generator)
    made = case.model.synthesize(torch.from_numpy(problem.semantics), 50, torch.Generator().manual_seed(0))
    assert made.shape == (16, 50, problem.features.shape[1])
    again = case.model.synthesize(torch.from_numpy(problem.semantics), 50, torch.Generator().manual_seed(0))
    assert torch.equal(made, again)
    real, labels = torch.from_numpy(problem.features), torch.from_numpy(problem.labels)
    means = torch.stack([real[labels == c].mean(0) for c in range(16)])
    distance = torch.cdist(made.mean(1), means)
    assert distance.diagonal().mean() < 0.8 * distance.mean()
    assert made.mean() == pytest.approx(float(real.mean()), rel=0.2)


def extendable_contract(case: Case) -> None:
    """Classes that join later score as if they had always been there; one that leaves scores -inf."""
    task, method = case.task, made(case.kind)
    unseen = task.unseen
    first = replace(task, semantics=task.semantics[:14], unseen=unseen[:2], class_names=task.class_names[:14])
    fewer, whole = method.fit(first, case.setting), method.fit(task, case.setting)
    assert isinstance(fewer, Extendable)
    grown = fewer.with_classes(task.semantics, unseen.flip(0))
    assert type(grown) is type(fewer)
    assert torch.equal(grown.semantics, task.semantics)
    assert grown.unseen.sort().values.tolist() == unseen.tolist()
    if case.kind in ROWS_TRAINED:
        own = case.labels >= 14
        assert (grown.conventional_scores(case.held[own]).argmax(1) == case.labels[own]).double().mean() > 0.5
    else:
        assert_same_scores(grown.scores(case.held), whole.scores(case.held))
        assert_same_scores(grown.conventional_scores(case.held), whole.conventional_scores(case.held))
    less = case.model.with_classes(task.semantics, unseen[1:])
    for scores in (less.scores(case.held), less.conventional_scores(case.held)):
        assert scores[:, unseen[0]].isneginf().all()
        assert scores[:, unseen[1:]].isfinite().all()
    if not method_info(method_of(case.kind)).iterative and case.kind not in ROWS_TRAINED:
        for side in (task.seen, unseen[1:]):
            found, expected = less.scores(case.held)[:, side], case.model.scores(case.held)[:, side]
            if case.kind in GATED:
                found, expected = centred(found), centred(expected)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def few_shot_contract(case: Case) -> None:
    """Photos raise their class on images like them, and leave the scores of the others as they were."""
    number, other = case.task.unseen[:2].tolist()
    photos, own = case.held[case.labels == other][:5], case.held[case.labels == number][:5]
    assert isinstance(case.model, FewShot)
    moved = case.model.with_photos(number, photos)
    before, after = case.model.scores(case.held), moved.scores(case.held)
    like = case.labels == other
    assert (after - before)[like, number].mean() > 0.1 * before[like].std(dim=1).mean()
    others = case.task.unseen[case.task.unseen != number]
    for side in (case.task.seen, others) if case.kind in GATED else (torch.cat([case.task.seen, others]),):
        torch.testing.assert_close(centred(after[:, side]), centred(before[:, side]))
    torch.testing.assert_close(
        moved.with_photos(number, own).scores(case.held), case.model.with_photos(number, own).scores(case.held)
    )
    torch.testing.assert_close(registry.load_model(moved.save()).scores(case.held), after)
    many = case.model.with_photos(number, photos.repeat(200, 1)).scores(case.held)
    assert many[like, number].mean() > after[like, number].mean()
    with pytest.raises(DataError, match="no photo"):
        case.model.with_photos(number, photos[:0])
    with pytest.raises(DataError, match="not a described one"):
        case.model.with_photos(int(case.task.seen[0]), photos)
    if isinstance(moved, Extendable):
        gone = moved.with_classes(case.task.semantics, case.task.unseen[1:])
        back = gone.with_classes(case.task.semantics, case.task.unseen)
        if case.kind not in ROWS_TRAINED:
            assert_same_scores(back.scores(case.held), before)
    if isinstance(moved, Exportable):
        assert_exported(moved, case.held)


def exportable_contract(case: Case) -> None:
    """The module scores as the model does, up to a constant an image."""
    assert isinstance(case.model, Exportable)
    assert_exported(case.model, case.held)


def assert_exported(model: Model, features: Tensor) -> None:
    assert isinstance(model, Exportable)
    module = model.scores_module()
    classes = torch.cat([model.seen, model.unseen]).sort().values
    exported, expected = module(features), centred(model.scores(features)[:, classes])
    assert exported.shape == expected.shape
    assert float((centred(exported) - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert not list(module.parameters()), "constants alone"
    torch.testing.assert_close(module(features[:3]), exported[:3], rtol=1e-4, atol=1e-4)


def adaptable_contract(case: Case) -> None:
    """A pool moves the described classes; what it said goes with the model wherever that goes."""
    assert isinstance(case.model, Adaptable)
    assert case.model.adaptation is None
    adapted = case.model.adapted(case.held)
    assert isinstance(adapted, Adaptable)
    found = adapted.adaptation
    assert found is not None
    assert (found.photos, found.classes) == (len(case.held), tuple(case.task.unseen.tolist()))
    assert 0.5 * int((case.labels >= 12).sum()) < sum(found.taken) < len(case.held)
    assert min(found.moved) > 0
    own = case.labels >= 12
    both = [model.conventional_scores(case.held)[own].argmax(1) for model in (case.model, adapted)]
    before, after = (float((given == case.labels[own]).double().mean()) for given in both)
    assert after >= before - 0.02
    torch.testing.assert_close(case.model.adapted(case.held).scores(case.held), adapted.scores(case.held))
    loaded = registry.load_model(adapted.save())
    torch.testing.assert_close(loaded.scores(case.held), adapted.scores(case.held))
    assert loaded.adaptation == found
    assert_exported(adapted, case.held)
    with pytest.raises(DataError, match="no photo"):
        case.model.adapted(case.held[:0])
    again = adapted.adapted(case.held.flip(0)[:40])
    assert again.adaptation.photos == 40
    assert again.scores(case.held).isfinite().any(1).all()
    if isinstance(adapted, Extendable):
        fewer = case.model.with_classes(case.task.semantics, case.task.unseen[:3]).adapted(case.held)
        grown = fewer.with_classes(case.task.semantics, case.task.unseen)
        assert grown.scores(case.held)[:, case.task.unseen].isfinite().all()
        assert grown.adaptation.taken[:3] == pytest.approx(fewer.adaptation.taken)
        assert grown.adaptation.taken[3] == 0
        assert grown.adaptation.moved[3] > 0, "its neighbours have moved"
        back = grown.with_classes(case.task.semantics, case.task.unseen[:3])
        if case.kind not in ROWS_TRAINED:
            assert_same_scores(back.scores(case.held), fewer.scores(case.held))
    if isinstance(adapted, FewShot):
        number = int(case.task.unseen[0])
        with_photos = adapted.with_photos(number, case.held[case.labels == number][:5])
        assert registry.load_model(with_photos.save()).adaptation == found
    if isinstance(adapted, Generator):
        made = adapted.synthesize(case.task.semantics[:2], 3, torch.Generator().manual_seed(0))
        torch.testing.assert_close(
            made,
            case.model.synthesize(case.task.semantics[:2], 3, torch.Generator().manual_seed(0)),
            rtol=1,
            atol=1,
        )


CONTRACTS: dict[str, Callable[[Case], None]] = {
    "generator": generator_contract,
    "extendable": extendable_contract,
    "few-shot": few_shot_contract,
    "exportable": exportable_contract,
    "adaptable": adaptable_contract,
}
"""By capability."""


GATED = {"closed-form"}
"""Kinds whose described classes are moved together, image by image, so that the best of them is the gate's
best."""


def capabilities_of_kind(kind: str) -> tuple[str, ...]:
    return capabilities_of(method_info(method_of(kind)).models[kind])


def test_every_method_and_every_kind_of_model_has_a_case() -> None:
    assert set(METHODS) == set(registry.model_kinds())
    assert {method_of(kind) for kind in METHODS} == set(registry.method_names())


def test_every_capability_has_a_contract_and_a_method() -> None:
    assert set(CONTRACTS) == set(CAPABILITIES)
    for capability in CAPABILITIES:
        assert registry.methods_with(capability)


@pytest.mark.parametrize("name", registry.method_names())
def test_closed_forms_are_extendable_and_exportable(name: str) -> None:
    info = method_info(name)
    assert info.iterative or {"extendable", "exportable"} <= set(info.capabilities)


@pytest.mark.parametrize(
    ("kind", "capability"), [(kind, capability) for kind in METHODS for capability in capabilities_of_kind(kind)]
)
def test_capability(kind: str, capability: str) -> None:
    CONTRACTS[capability](case_of(kind))


@pytest.mark.parametrize("kind", METHODS)
def test_beats_chance_and_keeps_the_contract(kind: str, tmp_path: Path) -> None:
    problem, outcome = problem_of(kind), outcome_of(kind)
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
    torch.testing.assert_close(model.semantics, torch.from_numpy(problem.semantics).to(model.semantics))
    json.dumps(dict(outcome.setting))

    assert model.save().kind == kind
    write_model(tmp_path / "model.safetensors", model.save())
    again = registry.load_model(read_model(tmp_path / "model.safetensors"))
    torch.testing.assert_close(again.scores(held_out.features), scores, atol=1e-3, rtol=1e-4)
    again_conventional = again.conventional_scores(held_out.features)
    torch.testing.assert_close(again_conventional, conventional, atol=1e-3, rtol=1e-4)


class Notes:
    """A selector that writes down the scores of what it is called with."""

    def __init__(self, features: Tensor) -> None:
        self.shown: list[tuple[Setting, Tensor]] = []
        self.features = features

    def __call__(self, setting: Setting, model: Model, *, candidate: bool = True) -> float:
        if candidate:
            self.shown.append((setting, model.scores(self.features)))
        return float(len(self.shown))


@pytest.mark.parametrize("kind", METHODS)
def test_classes_outside_the_task_score_minus_infinity(kind: str) -> None:
    task, held_out = final_task(problem_of(kind))
    outside = int(task.unseen[-1])
    notes = Notes(held_out.features)
    shortly(kind).explore(replace(task, unseen=task.unseen[:-1]), notes)
    assert notes.shown[0][1][:, outside].isneginf().all()


@pytest.mark.parametrize("kind", METHODS)
def test_fit_repeats_what_explore_has_shown(kind: str) -> None:
    task, held_out = final_task(problem_of(kind))
    notes = Notes(held_out.features)
    method = shortly(kind)
    method.explore(task, notes)
    setting, scores = notes.shown[-1]
    torch.testing.assert_close(method.fit(task, setting).scores(notes.features), scores)


@pytest.mark.parametrize("kind", METHODS)
def test_scores_on_an_accelerator(kind: str) -> None:
    """On a fake CUDA device, which computes no numbers and refuses what mixes devices."""
    case = case_of(kind)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, held = moved(case.model, torch.device("cuda")), case.held.to("cuda")
        for scores in (model.scores(held), model.conventional_scores(held)):
            assert scores.device.type == "cuda"
            assert scores.shape == (len(held), len(case.task.semantics))
