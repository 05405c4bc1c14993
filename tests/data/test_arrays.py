"""Problems from plain arrays."""

import numpy as np
import pytest

from dkgzsl.data.arrays import problem_from_arrays
from dkgzsl.data.splits import validation_cut
from dkgzsl.errors import DataError

NAMES = ("ant", "bee", "cat", "dog", "eel")


def arrays():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 10)
    return rng.random((40, 3)), labels, rng.random((5, 6))


@pytest.mark.parametrize("unseen", [[3, 4], ["dog", "eel"], ["dog", 4]])
def test_parts_follow_from_the_unseen_classes(unseen):
    features, labels, semantics = arrays()
    problem = problem_from_arrays(features, labels, semantics, class_names=NAMES, unseen=unseen, seed=1)
    np.testing.assert_array_equal(problem.parts.test_unseen, np.arange(30, 40))
    assert np.bincount(labels[problem.parts.test_seen]).tolist() == [2, 2, 2]
    assert len(problem.parts.trainval) == 24
    assert problem.unseen_classes.tolist() == [3, 4]  # eel is described, without any image
    again = problem_from_arrays(features, labels, semantics, class_names=NAMES, unseen=unseen, seed=1)
    np.testing.assert_array_equal(again.parts.test_seen, problem.parts.test_seen)


def test_classes_without_images_are_unseen_where_nobody_says():
    features, labels, semantics = arrays()
    problem = problem_from_arrays(features, np.array(NAMES)[labels], semantics, class_names=NAMES)
    assert problem.unseen_classes.tolist() == [4]
    np.testing.assert_array_equal(problem.labels, labels)


def test_several_sources_and_named_validation_classes():
    features, labels, semantics = arrays()
    problem = problem_from_arrays(
        features,
        labels,
        {"long": semantics, "short": semantics[:, :2]},
        class_names=NAMES,
        unseen=["eel"],
        validation_classes=["bee"],
        semantics_name="short",
    )
    assert problem.semantics.shape == (5, 2)
    assert validation_cut(problem, 0).pseudo_unseen_classes.tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.arange(40)}, "labels out of range: from 0 to 39"),
        ({"labels": np.full(40, 0.5)}, "not whole numbers"),
        ({"labels": ["ant"] * 39 + ["owl"]}, "unknown class 'owl'"),
        ({"labels": np.zeros(39, int)}, "images with features: 40, but 39 labels"),
        ({"features": np.full((40, 3), np.nan)}, "NaN or infinity in 40 images"),
        ({"features": np.zeros(40)}, "1 axes"),
        ({"features": np.full((40, 3), "x")}, "must be numbers"),
        ({"semantics": np.ones((4, 6))}, "class descriptions 'semantics': 4, but 5 classes"),
        ({"semantics": {}}, "no class descriptions"),
        ({"semantics": np.zeros((5, 6))}, "all zero for 5 classes"),
        ({"unseen": ["ell"]}, "unknown class 'ell'"),
        ({"unseen": [5]}, "unknown class 5"),
        ({"unseen": NAMES}, "trainval is empty"),
        ({"class_names": ("ant", "ant", "cat", "dog", "eel")}, "two classes have the same name"),
        ({"held_out_share": 0.0}, "between 0 and 1"),
        ({"validation_classes": ["eel"]}, "'eel' has no training image"),
        ({"validation_classes": NAMES[:3]}, "some of the seen classes"),
        ({"image_files": ["a.jpg"]}, "image files: 1, but 40 labels"),
        ({"semantics_name": "sent"}, "no semantics named 'sent'"),
        ({"unseen": None, "parts": {"trainval": np.arange(3)}}, "parts lack test_seen, test_unseen"),
        ({"parts": {}}, "both `unseen` and `parts`"),
        (
            {
                "unseen": None,
                "parts": {"trainval": np.arange(9), "test_seen": np.array([8, 9]), "test_unseen": np.array([30])},
            },
            "1 images are in trainval and in test_seen",
        ),
    ],
)
def test_each_mistake_gives_one_clear_error(change, message):
    features, labels, semantics = arrays()
    given = {"features": features, "labels": labels, "semantics": semantics, "class_names": NAMES}
    with pytest.raises(DataError, match=message):
        problem_from_arrays(**{**given, "unseen": ["dog", "eel"], **change})
