"""The map of features to attributes: its accuracy, its parts by region; it reads the photo, not the class."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from dkgzsl.data.arrays import problem_from_arrays
from dkgzsl.data.numbers.dataset import numbers
from dkgzsl.data.problem import Problem
from dkgzsl.representation.attribute_map import (
    FOLDS,
    RIDGES,
    AttributeMap,
    accuracy_of,
    chance_bound,
    fit_attribute_map,
)
from dkgzsl.representation.evidence import AttributeEvidence
from dkgzsl.representation.representation import Pooled

MARKS = 8  # channels in which a region shows the planted mark


def made(classes: int, unseen: int) -> Problem:
    """Features that are a linear map of eight attributes, with noise; ten images a class."""
    rng = np.random.default_rng(2)
    attributes, labels = rng.random((classes, 8)), np.repeat(np.arange(classes), 10)
    features = attributes[labels] @ rng.normal(size=(8, 20)) + 0.5 * rng.normal(size=(len(labels), 20))
    return problem_from_arrays(
        features.astype(np.float32), labels, attributes, unseen=list(range(classes - unseen, classes))
    )


@pytest.fixture(scope="module")
def planted() -> tuple[Problem, np.ndarray, np.ndarray]:
    """`numbers` by regions; which photos have a mark, and in which region.

    The mark is in 80 % of the photos of one half of the classes and in 20 % of the other half's; the table of
    descriptions knows these shares alone.
    """
    rng, plain = np.random.default_rng(7), numbers(regions=True)
    often = rng.permutation(len(plain.class_names)) % 2 == 0
    share = np.where(often, 0.8, 0.2)
    marked = rng.random(len(plain.labels)) < share[plain.labels]
    tokens = np.asarray(plain.features)
    more = rng.normal(size=(*tokens.shape[:2], MARKS)).astype(np.float32)
    region = rng.integers(1, tokens.shape[1], len(tokens))
    more[np.flatnonzero(marked), region[marked]] += 12
    more[:, 0] = more[:, 1:].mean(1)
    table = np.column_stack([plain.semantics, share])
    names = (*plain.attribute_names["strokes"], "marked")
    problem = replace(
        plain,
        features=np.concatenate([tokens, more], 2),
        semantic_sources={"strokes": table},
        attribute_names={"strokes": names},
    )
    return problem, marked, region - 1


def test_the_accuracy_is_the_area_under_the_curve_of_weighted_images() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(9), rng.integers(1, 9, 9))
    has, readings = rng.random((9, 5)) > 0.5, rng.normal(size=(len(labels), 5)).round(1)
    has[:, 4] = True
    weights = 1 / np.bincount(labels)[labels]
    expected = [roc_auc_score(has[labels, k], readings[:, k], sample_weight=weights) for k in range(4)]
    np.testing.assert_allclose(accuracy_of(readings, has, labels), [*expected, 0.5])


def test_each_class_is_read_by_a_map_that_was_fitted_without_it() -> None:
    problem = made(24, 4)
    found = fit_attribute_map(problem, problem.semantics)
    assert found is not None
    rows, seen = np.sort(problem.parts.trainval), problem.seen_classes
    x, labels = problem.features[rows].astype(np.float64), np.searchsorted(seen, problem.labels[rows])
    table = problem.semantics[seen]
    values = (table - table.mean(0)) / table.std(0)
    part = np.random.default_rng([2014, 0]).permutation(len(seen)) % FOLDS
    by_ridge = []
    for ridge in RIDGES:
        held = np.zeros((len(x), values.shape[1]))
        for fold in range(FOLDS):
            inside = part[labels] != fold
            weights = 1 / np.bincount(labels)[labels[inside]]
            weights = weights / weights.sum()
            mean = weights @ x[inside]
            scale = np.sqrt(weights @ (x[inside] - mean) ** 2)
            standard = (x - mean) / scale
            side = min(inside.sum(), x.shape[1])
            penalty = ridge * (weights @ (standard[inside] ** 2)).sum() / side
            model = Ridge(alpha=penalty).fit(standard[inside], values[labels[inside]], sample_weight=weights)
            held[~inside] = model.predict(standard[~inside])
        by_ridge.append(
            [
                roc_auc_score(values[labels, k] > 0, held[:, k], sample_weight=1 / np.bincount(labels)[labels])
                for k in range(values.shape[1])
            ]
        )
    best = max(by_ridge, key=np.mean)
    np.testing.assert_allclose(found.accuracy.numpy(), best, atol=1e-6)


def test_what_cannot_be_read_is_not_readable() -> None:
    problem, rng = made(44, 4), np.random.default_rng(3)
    nothing = rng.random((len(problem.class_names), 200))
    found = fit_attribute_map(problem, nothing)
    assert found is not None
    assert found.readable.mean() < 0.08  # two standard errors: 2.3 % of them by chance
    real = fit_attribute_map(problem, problem.semantics)
    assert real is not None
    assert real.readable.mean() > 0.5


def test_chance_is_wide_where_classes_are_few() -> None:
    has = np.zeros((24, 3), dtype=bool)
    has[:12, 0], has[:2, 1] = True, True
    bound = chance_bound(has)
    assert 0.5 < bound[0] < 0.8 < bound[1]
    assert bound[2] == np.inf
    # What no readings at all reach: the classes' own order drawn at random, a mean reading a class.
    rng, labels = np.random.default_rng(1), np.arange(24)
    drawn = np.concatenate([accuracy_of(rng.normal(size=(24, 1)), has[:, :1], labels) for _ in range(2000)])
    assert 0.01 < (drawn > bound[0]).mean() < 0.04


def test_a_reading_is_the_mean_of_its_regions(planted) -> None:
    problem, *_ = planted
    found = fit_attribute_map(problem, problem.semantics)
    assert found is not None
    assert found.regions
    tokens = torch.from_numpy(np.asarray(problem.features[problem.parts.test_unseen[:3]]))
    for row, reading in enumerate(found.read(tokens)):
        for attribute in (0, 5, 76):
            parts = found.contributions(tokens[row], attribute)
            assert parts.shape == (25,)
            assert parts.mean() == pytest.approx(reading[attribute], abs=1e-3)


def test_a_planted_attribute_is_read_from_the_photo_and_found_in_it(planted) -> None:
    problem, marked, region = planted
    found = fit_attribute_map(problem, problem.semantics)
    assert found is not None
    assert found.readable[-1]
    for rows in (problem.parts.test_unseen, problem.parts.test_seen):
        tokens = torch.from_numpy(np.asarray(problem.features[rows]))
        shown, of_class = found.read(tokens)[:, -1], problem.semantics[problem.labels[rows], -1]
        by_photo, by_class = (roc_auc_score(marked[rows], reading) for reading in (shown, of_class))
        assert by_class < 0.83 < 0.9 < by_photo
        has = np.flatnonzero(marked[rows])[:200]
        where = [int(found.contributions(tokens[row], -1).argmax()) for row in has]
        assert (np.array(where) == region[rows][has]).mean() > 0.9


def test_too_few_classes_have_no_map() -> None:
    problem = made(8, 3)
    assert fit_attribute_map(problem, problem.semantics) is None


def test_it_is_kept_with_the_evidence_and_earlier_runs_have_none(planted, tmp_path) -> None:
    problem, *_ = planted
    evidence = AttributeEvidence.of(problem, Pooled())
    assert evidence is not None
    assert evidence.reader is not None
    evidence.write(tmp_path / "evidence.safetensors")
    again = AttributeEvidence.read(tmp_path / "evidence.safetensors")
    assert again is not None
    assert isinstance(again.reader, AttributeMap)
    tokens = torch.from_numpy(np.asarray(problem.features[:4]))
    np.testing.assert_array_equal(again.reader.read(tokens), evidence.reader.read(tokens))
    assert again.reader.readable.tolist() == evidence.reader.readable.tolist()
    replace(evidence, reader=None).write(tmp_path / "before.safetensors")
    before = AttributeEvidence.read(tmp_path / "before.safetensors")
    assert before is not None
    assert before.reader is None
