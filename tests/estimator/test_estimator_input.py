"""The estimator's input as people have it (the case estimator-edges, and torch tensors)."""

import numpy as np
import pytest
import torch

from dkgzsl import ZeroShotClassifier
from dkgzsl.errors import InputError
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from worlds import CLASSES, SEEN, arrays

FIXED = ClosedFormSettings(
    components=(10,),
    shrinkage=(0.5,),
    kernel_width=(0.0,),
    ridge=(0.1,),
    episodes="off",
    feature_kernel_width=(0.0,),
)


@pytest.fixture(scope="module")
def world():
    features, labels, attributes = arrays()
    seen = labels < SEEN
    names = np.array([f"c{k:02}" for k in range(CLASSES)])
    return features[seen], names[labels[seen]], dict(zip(names.tolist(), attributes.astype(float), strict=True))


def fitted(X, y, semantics) -> ZeroShotClassifier:
    return ZeroShotClassifier(settings=FIXED, random_state=0).fit(X, y, semantics=semantics)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("regions", [0, 3])
def test_torch_tensors_are_taken_as_arrays_are(world, dtype, regions):
    X, y, semantics = world
    X = X if not regions else np.repeat(X[:, None], 1 + regions, 1)
    tensor = torch.tensor(X).to(dtype).requires_grad_()
    same = tensor.detach().to(torch.float32).numpy()
    expected = fitted(same, y, semantics)
    found = fitted(tensor, y, semantics)
    np.testing.assert_array_equal(found.predict_proba(tensor[:9]), expected.predict_proba(same[:9]))


def test_labels_may_be_a_tensor(world):
    X, y, semantics = world
    numbers = np.array([int(name[1:]) for name in y])
    described = {int(name[1:]): value for name, value in semantics.items()}
    found = fitted(X, torch.tensor(numbers), described)
    np.testing.assert_array_equal(found.predict(X), fitted(X, numbers, described).predict(X))


@pytest.mark.parametrize("size", [1e30, 1e100, 1e300])
def test_descriptions_too_large_to_compute_with(world, size):
    X, y, semantics = world
    with pytest.raises(InputError, match="too large"):
        fitted(X, y, {name: value * size for name, value in semantics.items()})


def test_two_classes_with_one_description(world, recwarn):
    X, y, semantics = world
    fitted(X, y, {**semantics, "c01": semantics["c00"]})  # both have images: they can be told apart by them
    assert not [one for one in recwarn if "same description" in str(one.message)]
    with pytest.warns(UserWarning, match="'c00' and 'c15' have the same description"):
        fitted(X, y, {**semantics, "c15": semantics["c00"]})


@pytest.mark.parametrize(
    ("odd", "says"), [(None, "no label in row 3"), (7, "mixes text"), (float("nan"), "no label in row 3")]
)
@pytest.mark.parametrize("regions", [False, True])
def test_labels_of_several_kinds(world, odd, says, regions):
    X, y, semantics = world
    labels = y.astype(object)
    labels[3] = odd
    with pytest.raises(ValueError, match=says):
        fitted(np.repeat(X[:, None], 2, 1) if regions else X, labels, semantics)


@pytest.mark.parametrize(("name", "says"), [("", "no name"), ("  ", "no name"), ("c00 ", "'c00' already")])
def test_names_of_added_classes(world, name, says):
    X, y, semantics = world
    model = fitted(X, y, semantics)
    with pytest.raises(InputError, match=says):
        model.add_class(name, semantics["c00"] + semantics["c02"])
