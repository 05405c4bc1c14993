"""The embedded numbers: what is promised of their making."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dkgzsl import load_dataset
from dkgzsl.data.numbers.dataset import STROKES, number_images, numbers, numbers_regions, stroke_table
from dkgzsl.data.splits import validation_cut
from dkgzsl.errors import DataError


@pytest.fixture(scope="module")
def problem():
    return load_dataset("numbers")


def test_sizes_and_names(problem):
    assert problem.class_names == tuple(f"{k:02d}" for k in range(100))
    assert problem.features.shape == (7600, 256)
    assert problem.features.dtype == np.float32
    assert problem.features.min() >= 0
    parts = problem.parts
    for images, expected in ((parts.trainval, 60), (parts.test_seen, 25)):
        assert set(np.bincount(problem.labels[images], minlength=100)) == {0, expected}
    assert set(np.bincount(problem.labels[parts.test_unseen], minlength=100)) == {0, 40}
    assert problem.semantics_name == "strokes"
    assert problem.semantics.shape == (100, 2 * len(STROKES))
    assert problem.with_semantics("names").semantics.sum(1).tolist() == [2.0] * 100


def test_unseen_and_validation_numbers_miss_each_digit_equally_often(problem):
    assert all((k // 10 + k % 10) % 5 == 0 for k in problem.unseen_classes)
    assert len(problem.unseen_classes) == 20
    for classes in (problem.unseen_classes, problem.parts.validation_classes):
        for place in np.divmod(classes, 10):
            assert np.bincount(place, minlength=10).tolist() == [2] * 10
    assert not np.intersect1d(problem.unseen_classes, problem.parts.validation_classes).size
    assert len(validation_cut(problem, 0).pseudo_unseen_classes) == 20


def test_no_handwriting_stands_on_both_sides(problem):
    images = number_images()
    halves = {
        part: {half.tobytes() for side in (images[at][:, :, :8], images[at][:, :, 8:]) for half in side}
        for part, at in (
            ("train", problem.parts.trainval),
            ("test", np.concatenate([problem.parts.test_seen, problem.parts.test_unseen])),
        )
    }
    assert not halves["train"] & halves["test"]
    assert len(halves["train"]) > 900
    assert len(halves["test"]) > 600


def test_each_half_is_a_real_digit_of_its_label(problem):
    digits = load_digits()
    known = {}
    for picture, digit in zip(digits.images.astype(np.float32), digits.target, strict=True):
        known.setdefault(picture.tobytes(), set()).add(int(digit))
    for image, label in list(zip(number_images(), problem.labels, strict=True))[::37]:
        assert label // 10 in known[image[:, :8].tobytes()]
        assert label % 10 in known[image[:, 8:].tobytes()]


def test_the_same_twice_and_the_seen_images_do_not_depend_on_the_unseen_ones(problem):
    again, other = numbers(), numbers(unseen=["00", 1])
    np.testing.assert_array_equal(again.features, problem.features)
    assert other.unseen_classes.tolist() == [0, 1]

    def training(p):
        return p.features[p.parts.trainval[p.labels[p.parts.trainval] == 42]]

    np.testing.assert_array_equal(training(other), training(problem))


@pytest.mark.parametrize("unseen", [["100"], [-1], ["x"], list(range(99))])
def test_numbers_that_cannot_be_unseen_are_refused(unseen):
    with pytest.raises(DataError, match=r"no number from 00 to 99|fewer than two"):
        numbers(unseen=unseen)


def test_every_digit_is_described_differently_by_entries_from_0_to_1():
    table = stroke_table()
    assert table.shape == (10, len(STROKES))
    assert len(np.unique(table, axis=0)) == 10
    assert np.linalg.matrix_rank(table) == 10
    assert table.min() == 0
    assert table.max() == 1


def test_gradient_channels_see_direction_and_place():
    from dkgzsl.data.numbers.features import image_features

    upright, level = np.zeros((2, 8, 16), np.float32)
    upright[:, 3], level[3, :] = 16, 16
    maps = image_features(np.stack([upright, level])).reshape(2, 8, 4, 8)
    # An upright stroke's gradients run across (directions 0 and 4), a level stroke's run down (2 and 6).
    across, down = maps[:, [0, 4], 1:3].sum((1, 2, 3)), maps[:, [2, 6], 1:3].sum((1, 2, 3))
    assert across[0] > 3 * down[0]
    assert down[1] > 3 * across[1]
    assert maps[0, :, :, 4:].sum() == 0  # nothing is drawn on the right half


def test_regions_are_the_pooled_feature_seen_through_overlapping_patches(problem):
    regions = numbers_regions(problem)
    tokens = regions.features
    assert tokens.shape == (7600, 26, 256)
    np.testing.assert_array_equal(tokens[:, 0], problem.features)
    patches, pooled = tokens[:200, 1:], problem.features[:200, None]
    assert ((patches == 0) | (patches == pooled)).all()
    times_seen = ((patches != 0).sum(1) / np.maximum(1, pooled[:, 0] != 0)).max(0)
    assert times_seen[problem.features[:200].max(0) > 0].min() >= 1
    assert times_seen.max() > 1  # they overlap
    np.testing.assert_allclose(patches.mean(1), problem.features[:200] * times_seen / 25, rtol=1e-5)
    with pytest.raises(DataError, match="no patches"):
        numbers_regions(regions)
