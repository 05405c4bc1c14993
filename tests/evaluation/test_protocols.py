"""Nothing is chosen on test data, and nothing of it reaches a method: each leak is made, and found."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dkgzsl.data.problem import Problem
from dkgzsl.errors import RunError
from dkgzsl.evaluation.held_out import final_task, validation_task
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.evaluation.protocols import oracle, run_protocol, validated
from dkgzsl.methods.base import Selector, Setting, Task
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.peers.eszsl import ESZSL, ESZSLSettings
from dkgzsl.methods.peers.linear_model import LinearModel
from dkgzsl.methods.peers.sae import SAE
from dkgzsl.representation.representation import Pooled
from worlds import FEW, world

PLAIN = ("none",)
TWO = ESZSLSettings(powers=(-1, 0), scalings=PLAIN, labels=("signed",))
SHOWN = ({"scaling": "none", "gamma": -1, "lambda": -1}, {"scaling": "none", "gamma": -1, "lambda": 0})


def _test_images(problem: Problem) -> np.ndarray:
    return np.concatenate([problem.parts.test_seen, problem.parts.test_unseen])


def _with_other_test_images(problem: Problem) -> Problem:
    features, labels = problem.features.copy(), problem.labels.copy()
    rng = np.random.default_rng(9)
    images = _test_images(problem)
    features[images] = 100 * rng.random(features[images].shape)
    for part in (problem.parts.test_seen, problem.parts.test_unseen):
        labels[part] = rng.permutation(labels[part])
    return replace(problem, features=features, labels=labels)


@pytest.mark.standard
@pytest.mark.parametrize("method", [ClosedForm(FEW), ESZSL(TWO)], ids=lambda m: m.name)
def test_the_choice_and_the_model_do_not_depend_on_test_images_or_their_labels(method) -> None:
    """Finds a scaling fitted on test features, a setting chosen on test, and any other use of test images."""
    problem = world()
    other = _with_other_test_images(problem)
    ours, theirs = validated(method, problem, seed=0), validated(method, other, seed=0)
    assert ours.setting == theirs.setting
    assert ours.constant == theirs.constant
    for name, tensor in ours.model.save().tensors.items():
        assert torch.equal(tensor, theirs.model.save().tensors[name]), name
    assert ours.figures != theirs.figures


class ScaledOnEverything:
    """A leak: features are scaled with the maximum of all images, test images among them."""

    name = "leak"

    def __init__(self, problem: Problem) -> None:
        self.scale = float(problem.features.max())

    def explore(self, task: Task, selector: Selector) -> None:
        selector({}, self.fit(task, {}))

    def fit(self, task: Task, setting: Setting) -> LinearModel:
        scaled = replace(task, features=task.features / self.scale)
        return ESZSL().fit(scaled, {"scaling": "none", "gamma": -1, "lambda": 0})


def test_the_test_above_finds_a_scaling_fitted_on_test_features() -> None:
    problem = world()
    other = _with_other_test_images(problem)
    ours = validated(ScaledOnEverything(problem), problem, seed=0)
    theirs = validated(ScaledOnEverything(other), other, seed=0)
    same = [torch.equal(t, theirs.model.save().tensors[n]) for n, t in ours.model.save().tensors.items()]
    assert not all(same)


def test_a_method_sees_no_test_image_and_validation_no_unseen_class() -> None:
    problem = replace(world(), features=np.arange(16 * 24, dtype=np.float32)[:, None].repeat(20, 1))
    final, test = final_task(problem)
    task, validation = validation_task(problem, seed=0)
    held_back = set(_test_images(problem).tolist())
    numbers = [set(t[:, 0].int().tolist()) for t in (final.features, task.features, validation.features)]
    assert not (numbers[0] | numbers[1] | numbers[2]) & held_back
    assert not numbers[1] & numbers[2]
    assert set(test.features[:, 0].int().tolist()) == held_back
    assert set(task.unseen.tolist()) == {3, 7, 9}
    assert not set(task.classes.tolist()) & set(problem.unseen_classes.tolist())


def test_the_test_images_are_scored_once_after_everything_is_chosen(monkeypatch) -> None:
    problem = world()
    scored: list[bool] = []
    test = final_task(problem)[1].features

    def watch(name: str) -> None:
        original = getattr(LinearModel, name)

        def watched(self, features):
            scored.append(features.shape == test.shape and bool(torch.equal(features, test)))
            return original(self, features)

        monkeypatch.setattr(LinearModel, name, watched)

    watch("scores")
    watch("conventional_scores")
    outcome = validated(ESZSL(TWO), problem, seed=0)
    # generalized and conventional scores of the final model, and nothing after
    assert [i for i, is_test in enumerate(scored) if is_test] == [len(scored) - 2, len(scored) - 1]
    assert outcome.evaluations == 4


def test_the_oracle_protocol_takes_the_best_of_all_evaluations_on_the_test_images() -> None:
    problem, method = world(), ESZSL(ESZSLSettings(powers=(-2, -1, 0, 1), scalings=PLAIN, labels=("signed",)))
    figures = []
    outcome = oracle(method, problem, seed=0, watch=lambda _, seen, __: figures.append(seen))
    assert outcome.evaluations == len(figures) == 16
    assert outcome.figures.t1 == max(one.t1 for one in figures)
    assert outcome.figures.h == max(one.h for one in figures)
    assert outcome.figures.h_calibrated is None
    assert outcome.constant is None
    assert outcome.figures.h >= validated(method, problem, seed=0).figures.h


@pytest.mark.standard
@pytest.mark.parametrize(("raw_share", "figure"), [(0.0, "ausuc"), (1e6, "h")])
def test_the_share_of_raw_h_decides_what_is_taken(raw_share: float, figure: str) -> None:
    """In this world the setting of the best AUSUC is not that of the best raw H."""
    seen: list[tuple[Setting, Figures]] = []
    outcome = run_protocol(
        "validated",
        SAE(),
        world(),
        seed=0,
        watch=lambda setting, figures, _: seen.append((setting, figures)),
        raw_share=raw_share,
    )
    best = {name: max(seen, key=lambda one: getattr(one[1], name))[0] for name in ("ausuc", "h")}
    assert best["ausuc"] != best["h"]
    assert outcome.setting == best[figure]


def test_a_resumed_run_continues_from_the_evaluations_of_the_interrupted_one(tmp_path) -> None:
    problem, method = world(), ESZSL(TWO)

    class Interrupted(Exception):
        pass

    evaluations = 0

    def interrupt(*_) -> None:
        nonlocal evaluations
        evaluations += 1
        if evaluations == 3:
            raise Interrupted

    for protocol in (validated, oracle):
        evaluations, memory = 0, tmp_path / protocol.__name__
        with pytest.raises(Interrupted):
            protocol(method, problem, seed=0, watch=interrupt, memory=memory)

        class Silent(ESZSL):
            """Shows the selector new settings alone, as a method does that continues from its checkpoint."""

            def explore(self, task, selector):
                def skip(setting, model, *, candidate=True):
                    if setting not in SHOWN:
                        return selector(setting, model)
                    return 0.0

                super().explore(task, skip)

        resumed = protocol(Silent(TWO), problem, seed=0, memory=memory)
        whole = protocol(method, problem, seed=0)
        assert resumed.setting == whole.setting
        assert resumed.figures == whole.figures
        assert resumed.evaluations == whole.evaluations == 4


def test_an_evaluation_cut_by_an_interruption_is_repeated(tmp_path) -> None:
    problem, method = world(), ESZSL(TWO)
    validated(method, problem, seed=0, memory=tmp_path)
    (file,) = tmp_path.rglob("evaluations.jsonl")
    file.write_text(file.read_text()[:-20])
    for _ in range(2):
        assert validated(method, problem, seed=0, memory=tmp_path).evaluations == 4
    file.write_text("{\n")
    with pytest.raises(RunError, match="evaluations"):
        validated(method, problem, seed=0, memory=tmp_path)


def test_region_features_are_pooled_to_their_global_token() -> None:
    problem = world()
    tokens = np.stack([problem.features, problem.features + 1], axis=1)
    fitted = Pooled().fit(replace(problem, features=tokens), problem.parts.trainval)
    images = np.arange(len(tokens))
    assert torch.equal(fitted(tokens, images), torch.from_numpy(problem.features))
    assert torch.equal(fitted(problem.features, images), torch.from_numpy(problem.features))
