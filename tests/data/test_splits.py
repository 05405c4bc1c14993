"""The validation cut and the held-out draw."""

from dataclasses import replace

import numpy as np
import pytest

from dkgzsl.data.problem import Parts, Problem
from dkgzsl.data.splits import (
    drawn_by,
    hold_out_seen,
    number_of_cuts,
    validation_cut,
    validation_cuts,
    with_test_images,
)
from dkgzsl.errors import DataError


def problem(validation_classes=None, classes=9, per_class=20):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(classes), per_class))
    seen = np.flatnonzero(labels < classes - 2)
    test_seen = np.sort(rng.choice(seen, len(seen) // 4, replace=False))
    return Problem(
        name="toy",
        features=np.zeros((len(labels), 3), np.float32),
        labels=labels,
        class_names=tuple(str(k) for k in range(classes)),
        semantic_sources={"att": rng.random((classes, 4))},
        semantics_name="att",
        parts=Parts(
            trainval=np.setdiff1d(seen, test_seen),
            test_seen=test_seen,
            test_unseen=np.flatnonzero(labels >= classes - 2),
            validation_classes=validation_classes,
        ),
    )


@pytest.mark.parametrize("validation_classes", [None, np.array([1, 5])])
def test_the_cut_divides_trainval_and_nothing_else(validation_classes):
    toy = problem(validation_classes)
    cut = validation_cut(toy, seed=7)
    parts = [cut.train, cut.held_seen, cut.held_unseen]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.sort(toy.parts.trainval))
    assert set(toy.labels[cut.train]) == set(toy.labels[cut.held_seen]) == set(cut.seen_classes)
    assert set(toy.labels[cut.held_unseen]) == set(cut.pseudo_unseen_classes)
    assert set(cut.seen_classes) | set(cut.pseudo_unseen_classes) == set(toy.seen_classes)
    assert not set(cut.seen_classes) & set(cut.pseudo_unseen_classes)
    if validation_classes is None:
        assert len(cut.pseudo_unseen_classes) == 2  # a third of seven
    else:
        assert cut.pseudo_unseen_classes.tolist() == [1, 5]


def test_a_seed_redraws_the_held_out_images_and_the_classes_where_none_are_named():
    toy = problem()
    first, again, other = (validation_cut(toy, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.held_seen, again.held_seen)
    assert not np.array_equal(first.held_seen, other.held_seen)
    np.testing.assert_array_equal(first.pseudo_unseen_classes, again.pseudo_unseen_classes)
    drawn = {tuple(validation_cut(toy, seed).pseudo_unseen_classes) for seed in range(8)}
    assert len(drawn) > 1


def test_the_first_cut_has_the_named_classes_and_further_cuts_draw_theirs():
    toy = problem()
    named = replace(toy, parts=replace(toy.parts, validation_classes=toy.seen_classes[:2]))
    first, *further = (validation_cut(named, 0, cut) for cut in range(6))
    np.testing.assert_array_equal(first.pseudo_unseen_classes, named.seen_classes[:2])
    assert len({tuple(cut.pseudo_unseen_classes) for cut in further}) > 1
    for cut in further:
        assert not set(cut.pseudo_unseen_classes) & set(cut.seen_classes)
        assert not set(cut.train) & set(cut.held_seen)
        assert set(cut.train) | set(cut.held_seen) | set(cut.held_unseen) == set(named.parts.trainval)


def test_few_classes_are_cut_more_often_than_many():
    assert [number_of_cuts(seen) for seen in (5, 16, 25, 50, 73, 150, 1000)] == [8, 8, 8, 6, 4, 3, 3]


def test_a_fifth_of_each_class_is_held_out_at_least_one_and_one_stays():
    sizes = [1, 2, 3, 10, 50]
    labels = np.repeat(np.arange(5), sizes)
    held = hold_out_seen(labels, np.arange(5), fraction=0.2, seed=0)
    assert np.bincount(labels[held], minlength=5).tolist() == [0, 1, 1, 2, 10]


def test_a_class_is_drawn_the_same_whatever_the_others_are():
    labels = np.repeat(np.arange(6), 12)
    every = hold_out_seen(labels, np.arange(6), fraction=0.25, seed=4)
    some = hold_out_seen(labels, np.array([2, 5]), fraction=0.25, seed=4)
    np.testing.assert_array_equal(some, every[np.isin(labels[every], [2, 5])])


@pytest.mark.parametrize("fraction", [0.0, 1.0, 1.5, -0.1])
def test_a_share_outside_0_and_1_is_refused(fraction):
    with pytest.raises(DataError, match="between 0 and 1"):
        hold_out_seen(np.zeros(4, int), np.array([0]), fraction=fraction, seed=0)


@pytest.mark.parametrize("classes", [np.arange(7), np.array([8]), np.array([0, 7])])
def test_validation_classes_that_are_all_or_not_seen_are_refused(classes):
    with pytest.raises(DataError, match="no validation can be cut"):
        validation_cut(problem(classes), seed=0)


def test_test_images_that_are_fixed_stay():
    assert with_test_images(toy := problem(), seed=5) is toy


def test_a_draw_that_leaves_a_class_no_training_image_is_refused():
    """Class 0 has two images, one of which could not be read: where the other one is drawn, none is left."""
    labels = np.array([0, 0, 1, 1, 1, 1, 2])
    parts = Parts(np.array([0, 2, 3, 4]), np.array([5]), np.array([6]))
    toy = replace(problem(), labels=labels, class_names=("a", "b", "c"), parts=parts, provenance=drawn_by(0))
    toy = replace(toy, features=np.zeros((7, 3), np.float32), semantic_sources={"att": np.ones((3, 2))})
    seeds = range(20)
    drawn = [0 in hold_out_seen(labels, np.array([0]), fraction=0.2, seed=seed) for seed in seeds]
    assert set(drawn) == {True, False}
    for seed, lost in zip(seeds, drawn, strict=True):
        if lost:
            with pytest.raises(DataError, match=r"no training image \(the first: a\), where seed"):
                with_test_images(toy, seed)
        else:
            assert with_test_images(toy, seed).provenance["test_seed"] == seed


def test_cuts_that_cannot_be_fitted_are_left_out():
    labels = np.repeat(np.arange(6), [4, 1, 1, 1, 1, 1])
    classes = np.arange(6)
    toy = problem(classes=6)
    parts = Parts(np.arange(len(labels)), classes[:0], classes[:0], None)
    lonely = replace(toy, features=np.zeros((len(labels), 3), np.float32), labels=labels, parts=parts)
    cuts = validation_cuts(lonely, seed=0)
    assert cuts[0] == 0
    for cut in range(1, number_of_cuts(6)):
        divided = validation_cut(lonely, 0, cut)
        fits = np.bincount(labels[divided.train]).max() > 1 and len(divided.held_seen) > 0
        assert (cut in cuts) == fits
    assert len(cuts) < number_of_cuts(6)


def test_some_classes_keep_two_images_where_all_would_keep_one() -> None:
    """Else nothing shows how images of a class differ, and every variance is zero."""
    labels = np.repeat(np.arange(6), 2)
    for seed in range(5):
        held = hold_out_seen(labels, np.arange(6), fraction=0.2, seed=seed)
        assert sorted(labels[held]) == [0, 2, 4]
    one_more = np.append(labels, 5)
    assert sorted(one_more[hold_out_seen(one_more, np.arange(6), fraction=0.2, seed=0)]) == [0, 1, 2, 3, 4, 5]
