"""Inputs at the edge of what the estimator takes: each is taken, or refused by a message that says why."""

import warnings

import numpy as np
import pytest
import torch

from dkgzsl import ZeroShotClassifier
from dkgzsl.errors import InputError

CLASSES, SEEN, SIZE = 16, 12, 10
RNG = np.random.default_rng(0)
TABLE = RNG.random((CLASSES, SIZE))
LABELS = np.repeat(np.arange(SEEN), 10)
FEATURES = ((TABLE @ RNG.normal(size=(SIZE, 12)))[LABELS] + 0.3 * RNG.normal(size=(120, 12))).astype(np.float32)
NAMES = np.array([f"c{k:02}" for k in range(CLASSES)])
SEMANTICS = dict(zip(NAMES.tolist(), TABLE, strict=True))
Y = NAMES[LABELS]


def fitted(X=FEATURES, y=Y, semantics=SEMANTICS) -> ZeroShotClassifier:
    return ZeroShotClassifier(random_state=0).fit(X, y, semantics=semantics)


@pytest.mark.parametrize("scale", [1e30, 1e100])
def test_descriptions_too_large_to_compute_with_are_named(scale: float) -> None:
    with pytest.raises(InputError, match="c00") as error:
        fitted(semantics={name: scale * row for name, row in SEMANTICS.items()})
    assert "is NaN" not in str(error.value)


def test_two_classes_of_one_description_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="'c14' and 'c15' have the same description"):
        fitted(semantics={**SEMANTICS, "c15": TABLE[14]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted()


def test_region_tokens_of_torch_are_taken_as_those_of_numpy() -> None:
    tokens = np.repeat(FEATURES[:, None], 3, axis=1)
    by_torch, by_numpy = fitted(X=torch.tensor(tokens)), fitted(X=tokens)
    np.testing.assert_array_equal(by_torch.predict(torch.tensor(tokens)), by_numpy.predict(tokens))
    np.testing.assert_array_equal(by_torch.predict_proba(tokens), by_numpy.predict_proba(tokens))


@pytest.mark.parametrize(("odd", "words"), [(None, "None"), (7, "7")])
def test_labels_of_mixed_kinds_are_refused(odd: object, words: str) -> None:
    labels = Y.astype(object)
    labels[3] = odd
    with pytest.raises(ValueError, match=r"label|kind|type|text") as error:
        fitted(y=labels)
    assert "not supported" not in str(error.value)
    assert words in str(error.value) or "int" in str(error.value)


def test_a_name_that_is_empty_or_taken_is_refused() -> None:
    model = fitted()
    for name in ("", "  ", "c00", "c00 ", " c13"):
        with pytest.raises(InputError, match="there is a class" if name.strip() else "no name"):
            model.add_class(name, TABLE[0] + TABLE[1])
        assert model.classes_.tolist() == NAMES.tolist()
