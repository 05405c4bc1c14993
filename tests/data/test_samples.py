"""Bounded samples of the training part."""

from dataclasses import replace

import numpy as np
import pytest

from dkgzsl.data.problem import Parts
from dkgzsl.data.samples import Sample, bounded_sample
from dkgzsl.evaluation.protocols import validated
from dkgzsl.methods.closed_form.method import ClosedForm
from worlds import FEW, world


def test_a_problem_within_the_bounds_is_itself() -> None:
    problem = world()
    assert bounded_sample(problem, 0) == (problem, Sample(len(problem.parts.trainval), 12))


def test_images_are_thinned_out_evenly_and_small_classes_keep_theirs() -> None:
    problem = world()
    trainval = problem.parts.trainval
    small = trainval[problem.labels[trainval] == 2][3:]  # class 2 keeps three images
    parts = replace(problem.parts, trainval=np.setdiff1d(trainval, small))
    found, sample = bounded_sample(replace(problem, parts=parts), 0, images=80)
    counts = np.bincount(found.labels[found.parts.trainval], minlength=16)
    assert sample == Sample(80, 12)
    assert counts[2] == 3
    assert sorted(set(counts[[c for c in range(12) if c != 2]])) == [7]
    assert np.isin(found.parts.trainval, parts.trainval).all()
    assert not len(found.parts.test_seen) + len(found.parts.test_unseen), "test images are in no sample"
    again, _ = bounded_sample(replace(problem, parts=parts), 1, images=80)
    assert not np.array_equal(again.parts.trainval, found.parts.trainval), "the seed draws"


def test_classes_are_drawn_with_their_names_and_descriptions() -> None:
    problem = world()
    found, sample = bounded_sample(problem, 0, classes=8)
    assert sample.classes == len(found.class_names) == len(found.semantics) == 8
    named = found.parts.validation_classes
    assert len(named) == 2, "a quarter of the classes is named for validation, as before"
    for number, name in enumerate(found.class_names):
        before = problem.class_names.index(name)
        np.testing.assert_array_equal(found.semantics[number], problem.semantics[before])
        images = found.parts.trainval[found.labels[found.parts.trainval] == number]
        assert (problem.labels[images] == before).all()
        assert (number in named) == (before in problem.parts.validation_classes)
    assert (found.labels[np.setdiff1d(np.arange(len(found.labels)), found.parts.trainval)] < 8).all()
    outside = ~np.isin(problem.class_names, found.class_names)[problem.labels]
    assert (found.labels[outside] == -1).all()


@pytest.mark.parametrize("bound", [{"images": 120}, {"classes": 8}])
def test_the_default_chooses_on_the_sample_and_is_fitted_to_all(monkeypatch, bound) -> None:
    whole = world()
    monkeypatch.setattr(
        "dkgzsl.evaluation.protocols.bounded_sample", lambda problem, seed: bounded_sample(problem, seed, **bound)
    )
    outcome = validated(ClosedForm(FEW), whole, seed=0)
    assert outcome.sample == bounded_sample(whole, 0, **bound)[1]
    assert outcome.model.statistics.counts.sum() == len(whole.parts.trainval)
    assert outcome.figures.h > 0.5
    assert validated(ClosedForm(FEW), replace(whole, parts=Parts(*_parts(whole))), seed=0).sample is not None


def _parts(problem):
    parts = problem.parts
    return parts.trainval, parts.test_seen, parts.test_unseen, None
