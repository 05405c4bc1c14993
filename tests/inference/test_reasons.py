"""Reasons about one photo: they differ within a class, hold for the photo, and lie where the decision does."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dkgzsl.cli.main import main
from dkgzsl.data.numbers.backbone import build
from dkgzsl.data.numbers.dataset import numbers
from dkgzsl.data.numbers.features import GRID, PATCH
from dkgzsl.data.problem import Problem
from dkgzsl.inference.prediction import ExplainedPrediction, explained_predictions, in_words
from dkgzsl.inference.reasons import losses_without_regions
from dkgzsl.inference.recognizer import Recognizer
from worlds import ONE_WAY

QUICK = ["--closed-form.components", "40", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
QUICK += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off", "--baseline", "none"]
QUICK += ONE_WAY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regions") / "run"
    words = ["train", "numbers", "--features", "regions", "--representation", "pooled", "--report", "off"]
    assert main([*words, *QUICK, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def problem() -> Problem:
    return numbers(regions=True)


@pytest.fixture(scope="module")
def rows(problem: Problem) -> np.ndarray:
    return np.concatenate([problem.parts.test_unseen[::20], problem.parts.test_seen[::20]])


@pytest.fixture(scope="module")
def explained(run: Path, problem: Problem, rows: np.ndarray) -> list[ExplainedPrediction]:
    tokens = np.asarray(problem.features[rows])
    return explained_predictions(Recognizer.from_run(run), tokens, grid=GRID, top=1)


def test_photos_of_one_class_have_different_reasons(run, problem) -> None:
    recognizer, same, lines = Recognizer.from_run(run), [], []
    for label in problem.unseen_classes:
        images = problem.parts.test_unseen[problem.labels[problem.parts.test_unseen] == label][:2]
        two = explained_predictions(recognizer, np.asarray(problem.features[images]), grid=GRID, top=1)
        if two[0].prediction.name == two[1].prediction.name:
            texts = [in_words(one)[1:] for one in two]
            same.append(texts[0] == texts[1])
            lines += texts
    assert len(same) > 15
    assert np.mean(same) < 0.1
    before = replace(recognizer, evidence=replace(recognizer.evidence, reader=None))
    old = explained_predictions(before, np.asarray(problem.features[images]), grid=GRID, top=1)
    assert old[0].evidence[0].shown is None  # a run of an earlier version says the class's line, and says so
    assert "not read from the photo" in in_words(old[0])[1]
    assert [one.name for one in old[0].evidence] == [one.name for one in old[1].evidence]


def test_what_a_photo_shows_is_what_its_class_has(problem, rows, explained) -> None:
    """The number in the photo is known, not what is predicted: its strokes are the photo's own annotation."""
    table, names = problem.semantics, [n.replace("_", " ") for n in problem.attribute_names["strokes"]]
    above = table > table[problem.seen_classes].mean(0)
    shown = [
        above[problem.labels[row], names.index(one.name)]
        for row, found in zip(rows, explained, strict=True)
        for one in (*found.evidence, *found.reasons.for_rival, *found.reasons.disagrees)
        if one.shown > 0
    ]
    assert np.mean(shown) > 0.8 > above[problem.labels[rows]].mean() + 0.3


def test_the_named_regions_are_those_that_the_probability_falls_without(run, problem, rows, explained) -> None:
    recognizer, backbone = Recognizer.from_run(run), build("oriented-gradients")
    chosen = [recognizer.number_of(one.prediction.ranked[0].name) for one in explained]
    pictures = problem.pictures[rows]
    left = np.empty((GRID[0] * GRID[1], len(rows)))
    for region in range(len(left)):
        blank, (down, across) = pictures.copy(), divmod(region, GRID[1])
        blank[:, down : down + PATCH, 3 * across : 3 * across + PATCH] = 255
        scaled = backbone.preprocessing.scale(torch.from_numpy(blank.transpose(0, 3, 1, 2).copy()))
        probabilities = recognizer.probabilities(backbone.tokens(scaled))
        left[region] = probabilities[np.arange(len(rows)), chosen]
    named = [[_region_at(one.where) for one in found.regions] for found in explained]
    assert all(named)
    masked = np.mean([left[regions, row].mean() for row, regions in enumerate(named)])
    assert masked < left.mean() - 0.08


def _region_at(where: tuple[float, float]) -> int:
    return int(where[1] * GRID[0]) * GRID[1] + int(where[0] * GRID[1])


def test_a_loss_is_that_of_the_mean_of_the_other_regions(run, problem) -> None:
    """Where the pooled feature is the mean of the regions, leaving one out is the mean of the others."""
    recognizer = Recognizer.from_run(run)
    tokens = np.asarray(problem.features[problem.parts.test_seen[:2]])
    tokens[:, 0] = tokens[:, 1:].mean(1)
    numbers_ = [3, 8]
    losses = losses_without_regions(recognizer, tokens, numbers_)
    temperature = recognizer.calibration.temperature
    for row, number in enumerate(numbers_):
        for region in (0, 11, 24):
            others = np.delete(tokens[row, 1:], region, axis=0).mean(0)
            odds = []
            for vector in (tokens[row, 0], others):
                scores = recognizer.scores(vector[None])[0] / temperature
                rest = np.delete(scores, number)
                odds.append(scores[number] - rest.max() - np.log(np.exp(rest - rest.max()).sum()))
            assert losses[row, region] == pytest.approx(odds[0] - odds[1], rel=1e-3, abs=0.02)
    assert losses_without_regions(recognizer, tokens[:, 0], numbers_) is None


def test_the_command_says_them_on_screen_and_in_json(run, problem, tmp_path, capsys) -> None:
    from PIL import Image

    photo = tmp_path / "photo.png"
    Image.fromarray(problem.pictures[problem.parts.test_seen[2]]).save(photo)
    folder = tmp_path / "drawn"
    capsys.readouterr()
    assert main(["predict", str(run), str(photo), "--overlay", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "shows, typical of" in text
    assert "% correct)" in text
    assert "decided most by these parts:" in text
    assert len(list(folder.iterdir())) == 1
    assert main(["predict", str(run), str(photo), "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert all(0.5 < one["accuracy"] <= 1 and one["shown"] > 0 for one in line["evidence"])
    assert {"x", "y", "loss"} == set(line["regions"][0])
    assert {"class", "evidence"} == set(line["rival"])
    assert line["rival"]["class"] == line["nearest"][1]["class"]
    assert isinstance(line["against"], list)


def test_the_page_has_them(run, problem) -> None:
    from dkgzsl.app.results import prediction_result
    from dkgzsl.app.session import Session
    from dkgzsl.inference.photos import Photos

    tokens = np.asarray(problem.features[problem.parts.test_seen[2:3]])
    photos = Photos((Path("x.png"),), tokens, problem.pictures[problem.parts.test_seen[2:3]], ())
    session = Session.open(run)
    page = prediction_result(session.predict(photos, GRID), session.recognizer, 0.0)
    assert page["sentence"].startswith(f"Typical of {page['name']}, and in the photo: ")
    assert page["maps"][0]["label"] == "What decided"
    titles = [table["title"] for table in page["reasons"]]
    assert titles[0] == f"For {page['name']}"
    assert all(row["accuracy"].endswith(" %") and row["where"] for row in page["reasons"][0]["rows"])


def test_unreadable_attributes_are_not_named(run, problem, rows) -> None:
    recognizer = Recognizer.from_run(run)
    known = recognizer.evidence
    accuracy = known.reader.accuracy.clone()
    accuracy[::2] = 0.55
    changed = replace(recognizer, evidence=replace(known, reader=replace(known.reader, accuracy=accuracy)))
    tokens = np.asarray(problem.features[rows])
    allowed = set(known.names[1::2])
    for one in explained_predictions(changed, tokens, grid=GRID):
        named = (*one.evidence, *one.reasons.disagrees, *one.reasons.for_rival)
        assert {attribute.name for attribute in named} <= allowed
