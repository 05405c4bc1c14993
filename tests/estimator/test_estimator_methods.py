"""The estimator with methods other than its default, and which settings it takes for each of them."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dkgzsl import ZeroShotClassifier
from dkgzsl.config import SoftmaxConfig
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.dkgzsl.settings import DKGZSLSettings
from dkgzsl.methods.peers.eszsl import ESZSLSettings
from dkgzsl.methods.peers.f_vaegan import FVAEGANSettings
from dkgzsl.methods.registry import methods_with
from dkgzsl.methods.sections import settings_from
from worlds import CHANNELS, CLASSES, SEEN, arrays

FORMS: dict[str, dict[str, Any]] = {
    "eszsl": {"settings": {"powers": (-3, -2, -1, 0, 1)}},
    "gfzsl": {
        "settings": {"powers": (-2, -1), "widths": 0.0, "floors": 0.1, "further_floors": 0.01, "scalings": "none"},
    },
    "f-vaegan-d2": {
        "epochs": 40,
        "batch_size": 16,
        "settings": FVAEGANSettings(
            hidden_size=64,
            learning_rate=5e-3,
            gamma=1.0,
            critic_steps=2,
            per_class=40,
            softmax_rate=0.01,
            softmax_epochs=20,
        ),
    },
}
GENERATIVE = ["gfzsl", "f-vaegan-d2"]
NAMES = np.array([f"class {number}" for number in range(CLASSES)])


def seen_part() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Images of the seen classes of the linear world, their names, and descriptions of all sixteen classes."""
    X, labels, attributes = arrays()
    seen = labels < SEEN
    return X[seen], NAMES[labels[seen]], dict(zip(NAMES.tolist(), attributes, strict=True))


@cache
def _fitted(method: str) -> ZeroShotClassifier:
    X, y, described = seen_part()
    return ZeroShotClassifier(method=method, **FORMS[method], random_state=0).fit(X, y, semantics=described)


def fitted(method: str) -> ZeroShotClassifier:
    """Fitted once for all tests, which get a copy each."""
    return deepcopy(_fitted(method))


@pytest.mark.parametrize("method", FORMS)
def test_another_method_fits_predicts_and_is_saved(method: str, tmp_path: Path) -> None:
    X, labels, _ = arrays()
    y, seen = NAMES[labels], labels < SEEN
    model = fitted(method)
    assert method == model.method == model.recognizer_.model.save().kind
    assert model.score(X[seen], y[seen]) > 0.55
    assert model.score(X[~seen], y[~seen]) > 0.3  # chance: 1 in 16
    assert model.validation_ is not None
    shares = model.predict_proba(X)
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_array_equal(model.classes_[shares.argmax(1)], model.predict(X))

    model.save(tmp_path / "model")
    loaded = ZeroShotClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), shares)
    assert loaded.settings == settings_from(method, model.settings)
    assert loaded.get_params() == model.get_params() | {"settings": loaded.settings}
    assert (loaded.setting_, loaded.validation_) == (model.setting_, model.validation_)
    predicted = Recognizer.from_run(tmp_path / "model").predict(X[:20])
    assert [one.ranked[0].name for one in predicted] == model.predict(X[:20]).tolist()
    X, y, described = seen_part()  # a loaded estimator can be fitted again, with the same outcome
    np.testing.assert_array_equal(loaded.fit(X, y, semantics=described).predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("method", FORMS)
def test_classes_of_another_method_leave_and_join(method: str) -> None:
    X, labels, attributes = arrays()
    model = fitted(method).remove_class("class 13")
    assert "class 13" not in model.predict(X)
    model.add_class("class 13", attributes[13])
    assert model.unseen_classes_.tolist() == NAMES[SEEN:].tolist()
    if method == "f-vaegan-d2":  # trains its softmax again, on other draws
        assert model.score(X[labels == 13], NAMES[labels[labels == 13]]) > 0.3
    else:
        np.testing.assert_allclose(model.predict_proba(X), fitted(method).predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("method", GENERATIVE)
def test_a_generative_method_synthesizes_features_of_a_class(method: str) -> None:
    X, labels, _ = arrays()
    model = fitted(method)
    drawn, names = model.synthesize(["class 14", "class 2"], 30)
    assert drawn.shape == (60, CHANNELS)
    assert names.tolist() == ["class 14"] * 30 + ["class 2"] * 30
    for number in (14, 2):
        near, real = drawn[names == NAMES[number]].mean(0), X[labels == number].mean(0)
        assert np.linalg.norm(near - real) < 0.8 * np.linalg.norm(real - X.mean(0))
    np.testing.assert_array_equal(drawn, model.synthesize(["class 14", "class 2"], 30)[0])


def test_what_a_method_cannot_do_names_the_methods_that_can() -> None:
    X, _, attributes = arrays()
    model = fitted("eszsl")
    with pytest.raises(RunError, match=r"\(eszsl\) synthesizes no features") as refused:
        model.synthesize(["class 1"], 3)
    assert all(name in str(refused.value) for name in methods_with("generator"))
    model.remove_class("class 14")
    with pytest.raises(RunError, match=r"\(eszsl\) cannot learn a new class from photos") as refused:
        model.add_class("class 14", attributes[14], X[:3])
    assert all(name in str(refused.value) for name in methods_with("few-shot"))
    assert "class 14" not in model.classes_  # a refusal leaves the estimator as it was
    assert len(model.predict_proba(X[:2])[0]) == CLASSES - 1


@pytest.mark.parametrize(
    ("message", "params"),
    [
        (r"unknown setting rigde\n.*settings of closed-form\n.*did you mean 'ridge'", {"settings": {"rigde": 1}}),
        (r"unknown setting power\n.*\n.*did you mean 'powers'", {"method": "eszsl", "settings": {"power": 1}}),
        (r"unknown setting softmax\.epoch\n.*\n.*did you mean 'epochs'", {"settings": {"softmax": {"epoch": 3}}}),
        ("unknown setting ridge", {"method": "eszsl", "settings": {"ridge": 0.1}}),  # of another method
        (r"powers\.0: .* not 'many'", {"method": "eszsl", "settings": {"powers": ["many"]}}),
        ("settings cannot be a str", {"settings": "ridge"}),
        ("settings cannot be a type", {"settings": ClosedFormSettings}),
        ("ESZSLSettings are not those of the method closed-form", {"settings": ESZSLSettings()}),
        ("ClosedFormSettings are not those of the method eszsl",
         {"method": "eszsl", "settings": ClosedFormSettings()}),
        ("ClosedFormSettings are not those of the method dkgzsl",
         {"method": "dkgzsl", "settings": ClosedFormSettings()}),
        ("SoftmaxConfig are not those of the method dkgzsl", {"method": "dkgzsl", "settings": SoftmaxConfig()}),
        (r"unknown method 'eszl'\n.*did you mean 'eszsl'", {"method": "eszl"}),
        ("eszsl does not train by epochs", {"method": "eszsl", "epochs": 3}),
        ("closed-form does not train by epochs", {"batch_size": 3}),
        ("epochs must be at least 1", {"method": "dkgzsl", "epochs": 0}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("described", [True, False])
def test_settings_that_do_not_fit_are_refused(message: str, params: dict[str, Any], described: bool) -> None:
    X, y, semantics = seen_part()
    with pytest.raises(ConfigError, match=message):
        ZeroShotClassifier(**params).fit(X, y, semantics=semantics if described else None)


@pytest.mark.parametrize(
    ("named", "params"),
    [
        ("the method 'eszsl'", {"method": "eszsl"}),
        ("the method 'dkgzsl'", {"method": "dkgzsl", "settings": DKGZSLSettings()}),
        ("the classifier 'softmax'", {"settings": {"classifier": "softmax"}}),
    ],
)
def test_what_needs_descriptions_says_so(named: str, params: dict[str, Any]) -> None:
    X, y, _ = seen_part()
    with pytest.raises(ConfigError, match=rf"no class is described, and {named} needs.*\n.*give semantics to fit"):
        ZeroShotClassifier(**params).fit(X, y)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"powers": np.arange(2), "scalings": np.array(["unit"])}, ESZSLSettings((0, 1), ("unit",))),
        ({"powers": np.int64(1), "scalings": ("unit", np.str_("none"))}, ESZSLSettings((1,), ("unit", "none"))),
        (ESZSLSettings((0, 1), ("unit",)), ESZSLSettings((0, 1), ("unit",))),
    ],
    ids=["arrays", "scalars", "class"],
)
def test_settings_may_be_arrays_or_a_class_and_are_saved(
    given: Any, expected: ESZSLSettings, tmp_path: Path
) -> None:
    X, y, described = seen_part()
    model = ZeroShotClassifier(method="eszsl", settings=given, random_state=0).fit(X, y, semantics=described)
    assert model.settings is given
    assert model.setting_["scaling"] in expected.scalings
    assert model.setting_["gamma"] in expected.powers
    model.save(tmp_path / "model")
    assert ZeroShotClassifier.load(tmp_path / "model").settings == expected


def test_a_section_in_settings_may_be_a_mapping_or_a_class() -> None:
    section = SoftmaxConfig(epochs=3)
    expected = ClosedFormSettings(classifier="softmax", softmax=section)
    assert settings_from("closed-form", {"classifier": "softmax", "softmax": {"epochs": 3}}) == expected
    assert settings_from("closed-form", {"classifier": "softmax", "softmax": section}) == expected
