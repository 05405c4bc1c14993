"""A class of which little is known is no attractor: it draws no more images than those described in full."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dkgzsl.cli.main import main
from dkgzsl.config import TrainConfig
from dkgzsl.data.arrays import problem_from_arrays
from dkgzsl.data.problem import Problem
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.runs.plan import plan_of
from dkgzsl.runs.progress import Reporter
from dkgzsl.runs.training import run_plan

SEEN, CLASSES, SIZE = 20, 26, 40
SPARSE = SEEN  # the class of which 90 % is missing


def world(seed: int) -> Problem:
    """20 seen classes, five described in full, and one of which 36 of 40 attributes are missing; noisy images."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(CLASSES, 8))
    logits = hidden @ rng.normal(size=(8, SIZE)) + 0.2 * rng.normal(size=(CLASSES, SIZE))
    table, labels = 1 / (1 + np.exp(-logits)), np.repeat(np.arange(CLASSES), 20)
    features = (hidden @ rng.normal(size=(8, 30)))[labels] + 3 * rng.normal(size=(len(labels), 30))
    table[SPARSE, rng.permutation(SIZE)[:36]] = np.nan
    return problem_from_arrays(
        features.astype(np.float32),
        labels,
        {"attributes": table},
        unseen=list(range(SEEN, CLASSES)),
        attribute_names={"attributes": [f"a{k}" for k in range(SIZE)]},
        name="sparse",
        seed=seed,
    )


def drawn(recognizer: Recognizer, problem: Problem) -> list[float]:
    """Share of the test images of other classes that each described class draws."""
    tested = np.concatenate([problem.parts.test_seen, problem.parts.test_unseen])
    predicted, labels = recognizer.scores(problem.features[tested]).argmax(1), problem.labels[tested]
    return [float((predicted[labels != k] == k).mean()) for k in range(SEEN, CLASSES)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Problem, Recognizer]]:
    folder, found = tmp_path_factory.mktemp("sparse"), []
    for seed in range(4):
        problem = world(seed)
        config = TrainConfig(name="sparse", out=str(folder / str(seed)), baseline="none", report="off")
        trained = run_plan(plan_of(config, problem), reporter=Reporter(quiet=True))
        found.append((problem, Recognizer.from_run(trained.folder)))
    return found


def test_it_draws_no_more_than_complete_ones(runs) -> None:
    with_it = np.array([drawn(recognizer, problem) for problem, recognizer in runs])
    assert with_it[:, 0].mean() <= with_it[:, 1:].mean()
    without = np.array([
        drawn(replace(recognizer, record=replace(recognizer.record, sparse=())), problem)
        for problem, recognizer in runs
    ])  # fmt: skip
    assert with_it[:, 0].mean() < without[:, 0].mean()
    np.testing.assert_array_equal(with_it[:, 1:] >= without[:, 1:], True)


def test_a_class_that_is_added_is_held_back_alike(runs, capsys, tmp_path) -> None:
    problem, recognizer = runs[0]
    folder = tmp_path / "run"
    recognizer.save(folder)
    known = [f"a{k}={problem.semantics[SPARSE + 1, k]:.4f}" for k in range(4)]
    capsys.readouterr()
    assert main(["add-class", str(folder), "--name", "new", "--set", *known, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"][0]["open_attributes"] == 36
    assert main(["add-class", str(folder), "--name", "other", "--set", *known]) == 0
    said = capsys.readouterr().err
    assert "warning: 36 of 40 attributes of other are not given; they are filled in" in said
    after = Recognizer.from_run(folder)
    assert after.record.sparse == (SPARSE, CLASSES, CLASSES + 1)
    assert (after.offsets[[SPARSE, CLASSES]] <= after.calibration.constant).all()
    whole = [f"a{k}={problem.semantics[SPARSE + 1, k]:.4f}" for k in range(30)]
    assert main(["add-class", str(folder), "--name", "third", "--set", *whole]) == 0
    assert "note: 10 of 40" in capsys.readouterr().err
    assert Recognizer.from_run(folder).record.sparse == after.record.sparse


def test_a_photo_ends_it(runs) -> None:
    _, recognizer = runs[1]
    assert recognizer.offsets[SPARSE] <= recognizer.calibration.constant
    shown = replace(recognizer, record=replace(recognizer.record, photos={str(SPARSE): 2}))
    assert shown.offsets[SPARSE] == recognizer.calibration.constant
    complete = list(range(SEEN + 1, CLASSES))
    assert (recognizer.offsets[complete] == recognizer.calibration.constant).all()
