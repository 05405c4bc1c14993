"""A recognizer in use: equal to what its run says, open to classes, itself again from its folder."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from dkgzsl.cli.main import main
from dkgzsl.config import TrainConfig
from dkgzsl.data.load import load_dataset
from dkgzsl.data.problem import Parts, Problem
from dkgzsl.errors import DataError, RunError
from dkgzsl.evaluation.calibration import Calibration
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.inference.recognizer import Recognizer, save_version
from dkgzsl.methods.base import Method
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.softmax import ClosedFormSoftmax
from dkgzsl.methods.dkgzsl.method import DKGZSL
from dkgzsl.methods.peers.eszsl import ESZSL
from dkgzsl.methods.shared.few_shot import SPREAD, PhotoMeans, posterior_means
from dkgzsl.runs.evaluation import evaluate
from dkgzsl.runs.model_record import RecognitionRecord
from dkgzsl.runs.training import train
from sealing import reseal
from worlds import FEW, QUICK, SEEN, SMALL, world, world_folder

SETTING = {
    "components": 20, "shrinkage": 0.5, "kernel_width": 2.0, "ridge": 0.1, "seen_blend": 0.5,
    "unit_length": True, "episodes": "off",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = TrainConfig(
        name=str(world_folder(folder / "world")),
        settings=replace(FEW, episodes="off"),
        baseline="none",
        report="off",
        out=str(folder / "run"),
    )
    return train(config)


def without_last(problem: Problem, number: int) -> Problem:
    """The problem before its last unseen classes were known of."""
    classes = len(problem.class_names) - number
    kept = problem.parts.test_unseen[problem.labels[problem.parts.test_unseen] < classes]
    parts = Parts(problem.parts.trainval, problem.parts.test_seen, kept, problem.parts.validation_classes)
    sources = {name: table[:classes] for name, table in problem.semantic_sources.items()}
    return replace(problem, class_names=problem.class_names[:classes], semantic_sources=sources, parts=parts)


def recognizer(problem: Problem, method: Method, setting: dict) -> Recognizer:
    task, _ = final_task(problem)
    calibration = Calibration(constant=0.5, temperature=2.0)
    return Recognizer(method.fit(task, setting), None, RecognitionRecord.of(problem, calibration))


def closed_form(problem: Problem, **changes) -> Recognizer:
    return recognizer(problem, ClosedForm(FEW), {**SETTING, **changes})


@pytest.mark.parametrize("changes", [{}, {"episodes": "weights"}], ids=str)
def test_classes_added_later_are_those_of_a_training_with_all(changes) -> None:
    problem = world()
    late = problem.class_names[-2:]
    early = closed_form(without_last(problem, 2), **changes)
    added = early.with_classes(dict(zip(late, problem.semantics[-2:], strict=True)))
    whole = closed_form(problem, **changes)
    assert added.class_names == whole.class_names
    assert np.array_equal(added.scores(problem.features), whole.scores(problem.features))
    assert early.known_names == problem.class_names[:-2]


LONGER = replace(QUICK, per_class=40, epochs=10)
ADVERSARIAL = {"epochs": 90, "classifier_epochs": 30}


def dkgzsl() -> DKGZSL:
    return DKGZSL(replace(SMALL, epochs=90, batch_size=64, softmax=replace(LONGER, epochs=30)))


def joined(early: Recognizer, problem: Problem) -> Recognizer:
    """With the last class, which must be separated from the others."""
    late = problem.class_names[-1]
    added = early.with_class(late, problem.semantics[-1])
    own = problem.labels == len(problem.class_names) - 1
    score = added.probabilities(problem.features)[:, -1]
    assert (score[own][:, None] > score[~own]).mean() > 0.8  # by chance 0.5
    again = added.without_class(late).with_class(late, problem.semantics[-1])
    assert again.number_of(late) == len(problem.class_names)
    return added


def test_the_softmax_adds_classes_and_keeps_the_rows_it_has() -> None:
    problem = world()
    method = ClosedFormSoftmax(ClosedForm(FEW), LONGER)
    early = recognizer(without_last(problem, 1), method, SETTING)
    added = joined(early, problem)
    before, after = early.model.generalized, added.model.generalized
    assert torch.equal(after.weight[:-1], before.weight)
    assert after.classes.tolist() == list(range(len(problem.class_names)))


def test_dkgzsl_adds_classes_as_if_trained_with_them() -> None:
    problem = world()
    early = recognizer(without_last(problem, 1), dkgzsl(), ADVERSARIAL)
    added = joined(early, problem)
    whole = recognizer(problem, dkgzsl(), ADVERSARIAL)
    assert np.array_equal(added.scores(problem.features), whole.scores(problem.features))


def test_a_class_that_was_removed_does_not_compete_with_new_ones() -> None:
    problem = world()
    one, other = problem.class_names[-2:]
    early = recognizer(without_last(problem, 2), dkgzsl(), ADVERSARIAL)
    detour = early.with_class(one, problem.semantics[-2]).without_class(one)
    by_detour = detour.with_class(other, problem.semantics[-1])
    known = [by_detour.number_of(name) for name in by_detour.known_names]
    probabilities = by_detour.probabilities(problem.features)[:, known]
    own = problem.labels == len(problem.class_names) - 1
    assert one not in by_detour.known_names
    assert by_detour.model.unseen.tolist() == [*early.model.unseen.tolist(), len(problem.class_names) - 1]
    assert (probabilities[own, -1][:, None] > probabilities[~own, -1]).mean() > 0.8


def test_photos_move_a_class_from_its_description_to_their_mean() -> None:
    problem = world()
    late, own = problem.class_names[-1], problem.features[problem.labels == 15]
    early = closed_form(without_last(problem, 1))
    rng = np.random.default_rng(3)
    wrong = rng.permutation(problem.semantics[-1])  # a description that misleads
    hits = []
    for number in (0, 1, 4, 12):
        photos = own[:number] if number else None
        added = early.with_class(late, wrong, photos)
        hits.append((added.scores(own[12:]).argmax(1) == 15).mean())
        assert added.offsets[15] == 0.5
    assert hits[-1] > hits[0]
    assert hits == sorted(hits)


def test_the_posterior_is_that_of_normal_distributions() -> None:
    """Against the posterior by precisions: photos one after the other, each updating the one before."""
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(2, 4, 4))
    error, within = roots[0] @ roots[0].T, roots[1] @ roots[1].T + np.eye(4)
    prior, photos, unknown = rng.normal(size=4), rng.normal(size=(3, 4)), 0.6
    precision = np.linalg.inv(unknown * error)
    shift = precision @ prior
    for photo in photos:
        precision, shift = (
            precision + np.linalg.inv(SPREAD * within),
            shift + np.linalg.inv(SPREAD * within) @ photo,
        )
    said = PhotoMeans(torch.tensor([0]), torch.from_numpy(photos.mean(0))[None], torch.tensor([3]))
    given = torch.from_numpy(prior)[None], torch.tensor([unknown], dtype=torch.float64), torch.from_numpy(error)
    found = posterior_means(*given, said, torch.from_numpy(within))
    assert np.allclose(found[0], np.linalg.inv(precision) @ shift)


def test_a_removed_class_is_not_recognised_and_can_be_added_again() -> None:
    problem = world()
    all_of_them = closed_form(problem)
    name = problem.class_names[13]
    without = all_of_them.without_class(name)
    shares = without.probabilities(problem.features)
    assert shares[:, 13].max() == 0
    assert np.allclose(shares.sum(1), 1)
    assert name not in without.known_names
    assert all_of_them.probabilities(problem.features)[:, 13].max() > 0
    with pytest.raises(DataError, match="no class"):
        without.number_of(name)
    again = without.with_class(name, problem.semantics[13])
    assert again.number_of(name) == len(problem.class_names)
    assert np.allclose(
        again.scores(problem.features)[:, -1], all_of_them.scores(problem.features)[:, 13], atol=1e-4
    )
    seen_gone = all_of_them.without_class(problem.class_names[0])
    assert seen_gone.predict(problem.features[:5])[0].ranked[0].name != problem.class_names[0]


def test_predictions_are_ranked_and_abstain() -> None:
    problem = world()
    plain = closed_form(problem)
    first = plain.predict(problem.features[:3], top=4)
    assert all(len(one.ranked) == 4 for one in first)
    assert all(one.name == one.ranked[0].name for one in first)
    assert [one.probability for one in first[0].ranked] == sorted(
        (one.probability for one in first[0].ranked), reverse=True
    )
    assert first[0].ranked[0].seen == (plain.number_of(first[0].name) < SEEN)
    strict = replace(plain, record=replace(plain.record, calibration=replace(plain.calibration, threshold=1e9)))
    assert all(one.name is None and one.ranked for one in strict.predict(problem.features[:3]))
    assert plain.predict(problem.features[:0]) == []


def test_a_folder_brings_it_back(tmp_path) -> None:
    problem = world()
    late = problem.class_names[-1]
    own = problem.features[problem.labels == 15]
    made = closed_form(without_last(problem, 1)).with_class(late, problem.semantics[-1], own[:3])
    made = made.without_class(problem.class_names[2])
    made.save(tmp_path / "saved")
    again = Recognizer.load(tmp_path / "saved")
    assert again.record == made.record
    assert np.allclose(again.scores(problem.features), made.scores(problem.features), atol=1e-3)
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(RunError, match="already"):
        made.save(tmp_path / "saved")
    (tmp_path / "saved" / "recognizer.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        Recognizer.load(tmp_path / "saved")


def test_what_does_not_fit_is_refused() -> None:
    problem = world()
    made = closed_form(problem)
    with pytest.raises(DataError, match="already"):
        made.with_class(problem.class_names[0], problem.semantics[0])
    with pytest.raises(DataError, match="8 numbers"):
        made.with_class("new", problem.semantics[0][:3])
    with pytest.raises(DataError, match="NaN"):
        made.with_class("new", problem.semantics[0] * np.nan)
    with pytest.raises(DataError, match="do not fit"):
        made.scores(problem.features[:, :4])
    linear = recognizer(problem, ESZSL(), {"scaling": "none", "gamma": 0, "lambda": 0})
    assert linear.with_class("new", problem.semantics[0]).known_names[-1] == "new"
    with pytest.raises(RunError, match=r"\(eszsl\) cannot learn a new class from photos\n.*closed-form"):
        linear.with_class("new", problem.semantics[0], problem.features[:2])


def test_a_run_folder_is_enough_and_says_what_the_run_says(run) -> None:
    made = Recognizer.from_run(run.folder)
    problem = load_dataset(run.folder.parent / "world")
    (seed,) = run.details["seeds_detail"]
    test = problem.parts.test_unseen
    decided = made.scores(problem.features[test]).argmax(1)
    classes = np.unique(problem.labels[test])
    accuracy = np.mean([(decided == problem.labels[test])[problem.labels[test] == c].mean() for c in classes])
    assert accuracy == pytest.approx(seed["figures"]["u_calibrated"])
    assert made.calibration.constant == seed["constant"]
    assert made.calibration.record() == seed["calibration"]
    assert 0 <= seed["reliability"]["ece"] <= 1


def test_every_version_stays_and_is_evaluated(run) -> None:
    first = Recognizer.from_run(run.folder)
    gone = first.class_names[14]
    assert save_version(run.folder, first.without_class(gone), parent=0, change={"action": "x"}) == 1
    newest = Recognizer.from_run(run.folder)
    assert gone not in newest.known_names
    assert gone in Recognizer.from_run(run.folder, 0).known_names
    table = newest.model.semantics[14].numpy()
    assert save_version(run.folder, newest.with_class(gone, table), parent=1, change={"action": "y"}) == 2
    trained, fewer, again = (evaluate(run.folder, version=number).result for number in (0, 1, None))
    assert trained["metrics"] == run.result["metrics"]
    assert fewer["version"] == 1
    assert again["version"] == 2
    assert again["metrics"]["ausuc"]["mean"] == pytest.approx(trained["metrics"]["ausuc"]["mean"])
    assert fewer["metrics"]["t1"] != trained["metrics"]["t1"] or fewer["metrics"]["u"] != trained["metrics"]["u"]
    with pytest.raises(RunError, match="its versions: 0, 1, 2"):
        Recognizer.from_run(run.folder, 7)


def test_a_version_is_compared_with_guessing_among_its_own_classes(run, tmp_path, capsys) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    result = json.loads((folder / "result.json").read_text())
    figures = {**result["seeds_detail"][0]["figures"], "t1": 0.5}
    result["baseline"] = {
        "method": "eszsl",
        "setting": {"scaling": "unit", "gamma": 0, "lambda": 0},
        "figures": figures,
        "constant": 0.0,
        "test_evaluations": 1,
    }
    (folder / "result.json").write_text(json.dumps(result))
    reseal(folder)
    shutil.rmtree(folder / "versions", ignore_errors=True)
    first = Recognizer.from_run(folder)
    fewer = first.without_class(first.class_names[14]).without_class(first.class_names[0])
    assert save_version(folder, fewer, parent=0, change={"action": "x"}) == 1
    as_trained, later = (evaluate(folder, version=number).details for number in (0, 1))
    assert as_trained["chance"] == {"t1": 1 / 4, "u": 1 / 16, "s": 1 / 16}
    assert as_trained["baseline"]["method"] == "eszsl"
    assert later["chance"] == {"t1": 1 / 3, "u": 1 / 14, "s": 1 / 14}
    assert later["baseline"]["figures"] != as_trained["baseline"]["figures"], "fitted again over its own classes"
    for number in ("0", "1"):
        assert main(["evaluate", str(folder), "--version", number]) == 0
        assert "eszsl" in capsys.readouterr().out
