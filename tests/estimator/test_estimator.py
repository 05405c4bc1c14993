"""The estimator among scikit-learn's tools: its own checks first, then what those tools are used for."""

import io
import re
from collections.abc import Callable
from functools import cache
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from dkgzsl import ZeroShotClassifier, load_dataset
from dkgzsl.config import TrainConfig
from dkgzsl.data.formats.tables import SemanticTable
from dkgzsl.errors import ConfigError, InputError, RunError
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.methods.closed_form.settings import ClosedFormSettings
from dkgzsl.methods.sections import settings_from
from worlds import CHANNELS, SEEN, arrays, world_folder

OPTIONS = {
    "components": 20, "shrinkage": 0.5, "kernel_width": (0.0, 2.0), "ridge": (0.01, 0.1), "seen_blend": 0.0,
    "episodes": "off", "unit_length": "on",
}  # fmt: skip
FEW = {"settings": OPTIONS, "random_state": 0}
TOO_FEW = "ignore:.* are too few to validate:UserWarning"


class Described(ZeroShotClassifier):
    """Describes each class by an arbitrary vector, as scikit-learn's checks cannot."""

    def fit(self, X: Any, y: Any) -> "Described":
        labels = np.asarray(y)
        found = np.unique(labels) if labels.ndim and labels.dtype.kind in "iuUOb" else []
        vectors = np.random.default_rng(0).normal(size=(len(found), 6))
        return super().fit(X, y, semantics=dict(zip(found, vectors, strict=True)) or None)


@parametrize_with_checks([ZeroShotClassifier(), Described(**FEW)])
@pytest.mark.filterwarnings(TOO_FEW)
# These two ask for a warning, and catch it, of every estimator: a column vector for y, a name that X lacks.
@pytest.mark.filterwarnings("ignore:A column-vector y was passed:sklearn.exceptions.DataConversionWarning")
def test_scikit_learns_own_checks(estimator: ZeroShotClassifier, check: Callable[[Any], None]) -> None:
    check(estimator)


@cache
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Features, names and numbers of classes, and descriptions by name."""
    features, labels, attributes = arrays()
    names = np.array([f"class {k}" for k in range(len(attributes))])
    return features, names[labels], labels, dict(zip(names.tolist(), attributes, strict=True))


def seen_part() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    X, y, numbers, described = world()
    return X[numbers < SEEN], y[numbers < SEEN], dict(list(described.items())[:SEEN])


def fitted(**changes: Any) -> ZeroShotClassifier:
    X, y, described = seen_part()
    return ZeroShotClassifier(**{**FEW, **changes}).fit(X, y, semantics=described)


def extended() -> ZeroShotClassifier:
    model = fitted()
    for name, vector in list(world()[3].items())[SEEN:]:
        model.add_class(name, vector)
    return model


def test_unseen_classes_are_recognised_after_they_join() -> None:
    X, y, numbers, described = world()
    model = extended()
    assert model.classes_.tolist() == sorted(described)
    assert model.unseen_classes_.tolist() == [f"class {k}" for k in range(SEEN, 16)]
    assert set(model.seen_classes_) == {f"class {k}" for k in range(SEEN)}
    assert model.score(X[numbers >= SEEN], y[numbers >= SEEN]) > 0.75  # chance: 1 in 16
    assert model.score(X, y) > 0.9


def test_the_decision_is_the_calibrated_one() -> None:
    X = world()[0]
    model = extended()
    recognizer, vectors = model.recognizer_, model.recognizer_.vectors(X)
    raw = recognizer.model.scores(vectors).double().numpy()
    raw[:, recognizer.model.unseen.numpy()] += recognizer.calibration.constant
    names = np.array(recognizer.class_names)[raw.argmax(1)]
    assert recognizer.calibration.constant != 0
    np.testing.assert_array_equal(model.predict(X), names)
    shares = model.predict_proba(X)
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_array_equal(model.classes_[shares.argmax(1)], names)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), shares, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(model.classes_[model.decision_function(X).argmax(1)], names)


def test_a_class_that_joins_later_stands_as_if_it_had_been_described_from_the_start() -> None:
    X, *_, described = world()
    trained_on = seen_part()[:2]
    later, first = extended(), ZeroShotClassifier(**FEW).fit(*trained_on, semantics=described)
    assert later.setting_ == first.setting_
    np.testing.assert_array_equal(later.classes_, first.classes_)
    np.testing.assert_allclose(later.predict_proba(X), first.predict_proba(X), atol=1e-5)
    later.remove_class("class 13")
    without = {name: vector for name, vector in described.items() if name != "class 13"}
    first = ZeroShotClassifier(**FEW).fit(*trained_on, semantics=without)
    np.testing.assert_array_equal(later.classes_, first.classes_)
    np.testing.assert_allclose(later.predict_proba(X), first.predict_proba(X), atol=1e-5)
    again = later.add_class("class 13", described["class 13"])
    np.testing.assert_allclose(again.predict_proba(X), extended().predict_proba(X), atol=1e-5)


def test_a_seen_class_that_is_removed_is_predicted_no_more() -> None:
    X, *_ = world()
    model = fitted().remove_class("class 3")
    assert "class 3" not in model.classes_
    assert "class 3" not in model.predict(X)


def test_an_estimators_signed_features_in_a_pipeline() -> None:
    X, y, described = seen_part()
    pipeline = make_pipeline(StandardScaler(), ZeroShotClassifier(**FEW))
    pipeline.fit(X, y, zeroshotclassifier__semantics=described)
    model = pipeline[-1]
    assert not model.recognizer_.model.space.whitened.principal.square_root
    assert fitted().recognizer_.model.space.whitened.principal.square_root
    assert pipeline.score(X, y) > 0.9


def test_cross_validation_over_images_and_over_classes() -> None:
    X, y, numbers, described = world()
    model = ZeroShotClassifier(**FEW)
    over_images = cross_validate(
        model, X, y, params={"semantics": described}, cv=StratifiedKFold(2), scoring=["accuracy", "neg_log_loss"]
    )
    assert (over_images["test_accuracy"] > 0.9).all()
    assert (over_images["test_neg_log_loss"] > -0.5).all()
    # Whole classes are held out: every image that is scored is of a class without a training image.
    over_classes = cross_val_score(
        model, X, y, params={"semantics": described}, groups=numbers, cv=GroupKFold(3), error_score="raise"
    )
    assert (over_classes > 0.5).all()


@pytest.mark.long
def test_settings_are_found_by_grid_search() -> None:
    X, y, described = seen_part()
    offered = [
        {**OPTIONS, "ridge": ridge, "unit_length": unit}
        for ridge, unit in product((0.01, (0.1, 0.3)), ("on", "off"))
    ]
    search = GridSearchCV(ZeroShotClassifier(**FEW), {"settings": offered}, cv=2, error_score="raise")
    search.fit(X, y, semantics=described)
    assert search.cv_results_["param_settings"].tolist() == offered
    assert search.best_params_["settings"] in offered
    best = search.best_estimator_
    assert best.settings == search.best_params_["settings"]
    assert best.setting_["ridge"] in np.ravel(best.settings["ridge"])
    assert search.score(X, y) > 0.9


def test_methods_are_found_by_grid_search() -> None:
    X, y, described = seen_part()
    offered = [
        {"method": ["closed-form"], "settings": [OPTIONS]},
        {"method": ["eszsl"], "settings": [{"powers": (-2, 0)}, {"powers": (1,)}]},
    ]
    search = GridSearchCV(ZeroShotClassifier(random_state=0), offered, cv=2, error_score="raise")
    search.fit(X, y, semantics=described)
    assert search.cv_results_["param_method"].tolist() == ["closed-form", "eszsl", "eszsl"]
    assert search.best_score_ > 0.9


def test_parameters_are_those_that_are_documented() -> None:
    params, taken = ZeroShotClassifier().get_params(), list(signature(ZeroShotClassifier).parameters)
    documented = re.search(r"Args:\n(.*?)\n\n", ZeroShotClassifier.__doc__ or "", re.DOTALL)
    assert documented is not None
    assert re.findall(r"^ {8}(\w+): ", documented[1], re.MULTILINE) == taken
    assert sorted(taken) == list(params)
    assert {name for name, value in params.items() if value is not None} == {"method", "calibrate"}
    assert (params["method"], params["calibrate"]) == ("closed-form", True)


def test_parameters_are_the_vocabulary_of_the_command_line() -> None:
    params = ZeroShotClassifier().get_params()
    shared = params.keys() & TrainConfig.__dataclass_fields__.keys()
    assert shared == {
        "method", "settings", "representation", "epochs", "batch_size", "refinement", "backbone", "device",
    }  # fmt: skip
    assert not params.keys() & ClosedFormSettings.__dataclass_fields__.keys()  # they are names in `settings`
    given = {name: getattr(ClosedFormSettings(), name) for name in ClosedFormSettings.__dataclass_fields__}
    given.pop("softmax")
    assert settings_from("closed-form", given) == settings_from("closed-form", None) == ClosedFormSettings()
    assert settings_from("closed-form", {"ridge": 0.1}) == settings_from("closed-form", {"ridge": [0.1]})


def test_a_clone_has_its_own_settings() -> None:
    model = ZeroShotClassifier(settings={"ridge": [0.1]}, backbone="resnet101")
    copy = clone(model)
    model.settings["ridge"].append(0.3)
    assert copy.settings == {"ridge": [0.1]}
    assert copy.backbone == "resnet101"
    assert clone(ZeroShotClassifier(settings=ClosedFormSettings(ridge=(0.1,)))).settings.ridge == (0.1,)


def test_in_memory_it_pickles_without_its_training_images() -> None:
    X, *_ = world()
    model = extended()
    held = io.BytesIO()
    joblib.dump(model, held)
    assert held.tell() < X.nbytes * 3
    held.seek(0)
    np.testing.assert_array_equal(joblib.load(held).predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(("width", "few", "many"), [(0.0, 240, 2400), (1.0, 1400, 3600)])
def test_training_images_are_not_kept(width: float, few: int, many: int) -> None:
    """But for the landmarks of a kernel, 1,024 at most, and a hash of each, by which `adapt` knows it."""
    rng = np.random.default_rng(0)
    sizes = []
    for images in (few, many):
        held = io.BytesIO()
        X, y = rng.normal(size=(images, 8)), np.arange(images) % 12
        described = dict(enumerate(rng.normal(size=(12, 5))))
        model = ZeroShotClassifier(settings={**OPTIONS, "feature_kernel_width": width}, random_state=0)
        joblib.dump(model.fit(X, y, semantics=described), held)
        sizes.append(held.tell())
    assert sizes[1] < sizes[0] + 2000 + 12 * (many - few)


@pytest.mark.parametrize("kind", ["text", "whole", "object"])
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, kind: str) -> None:
    X, y, numbers, described = world()
    labels: np.ndarray = {"text": y, "whole": numbers, "object": y.astype(object)}[kind]
    known = described if kind != "whole" else dict(enumerate(described.values()))
    seen = numbers < SEEN
    model = ZeroShotClassifier(**{**FEW, "random_state": np.random.RandomState(3)})
    model.fit(X[seen], labels[seen], semantics=known)
    model.save(tmp_path / "model")
    files = sorted(path.name for path in (tmp_path / "model").iterdir())
    tensors = ["in_distribution.safetensors", "model.safetensors"]
    assert files == ["checksums.json", "estimator.json", *tensors, "recognizer.json"]
    loaded = ZeroShotClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    settings = settings_from("closed-form", OPTIONS)  # a file knows the settings class, not how it was written
    assert loaded.get_params() == model.get_params() | {"settings": settings, "random_state": model.random_state_}
    assert loaded.setting_ == model.setting_
    assert loaded.validation_ == model.validation_
    loaded.remove_class(labels[0])
    loaded.add_class(labels[0], next(iter(described.values())))  # as a class known by its description
    assert loaded.unseen_classes_.tolist().count(labels[0]) == 1
    with pytest.raises(RunError, match="something already"):
        model.save(tmp_path / "model")


def test_what_is_saved_is_a_folder_to_predict_with_and_classes_added_there_are_loaded(tmp_path: Path) -> None:
    from dkgzsl.inference.recognizer import Recognizer

    X, *_, described = world()
    fitted().save(tmp_path / "model")
    recognizer = Recognizer.from_run(tmp_path / "model")
    names = [one.ranked[0].name for one in recognizer.predict(X)]
    assert names == ZeroShotClassifier.load(tmp_path / "model").predict(X).tolist()
    (tmp_path / "model" / "versions").mkdir()
    recognizer.with_class("class 15", described["class 15"]).save(tmp_path / "model" / "versions" / "1")
    assert "class 15" in ZeroShotClassifier.load(tmp_path / "model").classes_
    assert "class 15" not in ZeroShotClassifier.load(tmp_path / "model", version=0).classes_


def test_a_run_is_loaded_as_an_estimator(tmp_path: Path) -> None:
    from dkgzsl import train

    settings = ClosedFormSettings(
        components=(20,), shrinkage=(0.5,), kernel_width=(0.0,), ridge=(0.1,), episodes="off"
    )
    config = TrainConfig(
        name=str(world_folder(tmp_path / "toy")), out=str(tmp_path / "run"), settings=settings, baseline="none"
    )
    train(config)
    model = ZeroShotClassifier.load(tmp_path / "run")
    X, y, numbers, _ = world()
    y = np.char.replace(y, "class ", model.classes_[0].removesuffix("0"))  # names as the files' reader has them
    assert model.n_features_in_ == CHANNELS
    assert len(model.unseen_classes_) == 4
    assert model.method == "closed-form"
    assert model.settings == settings
    assert model.score(X[numbers >= SEEN], y[numbers >= SEEN]) > 0.8
    assert clone(model).get_params()["settings"].components == (20,)


def test_damaged_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing here to predict with"):
        ZeroShotClassifier.load(tmp_path)
    fitted().save(tmp_path / "model")
    (tmp_path / "model" / "estimator.json").write_text('{"format": "other"}')
    with pytest.raises(RunError, match=r"estimator\.json is damaged"):
        ZeroShotClassifier.load(tmp_path / "model")
    with pytest.raises(RunError, match="cannot be written to a file"):
        fitted().set_params(device=np).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_without_descriptions_it_is_near_linear_discriminant_analysis() -> None:
    for data, folds, margin in ((load_digits, 2, 0.01), (load_iris, 4, 0.02)):
        X, y = data(return_X_y=True)
        cv = StratifiedKFold(folds, shuffle=True, random_state=0)
        ours = cross_val_score(ZeroShotClassifier(random_state=0), X, y, cv=cv).mean()
        theirs = cross_val_score(LinearDiscriminantAnalysis(), X, y, cv=cv).mean()
        assert ours > theirs - margin


def test_the_only_negative_feature_may_be_held_out() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = np.abs(rng.normal(size=(40, 2)) + 2 + 2 * y[:, None])
    X[0, 0] = -0.1
    for seed in range(12):
        model = ZeroShotClassifier(random_state=seed).fit(X, y)
        assert not model.recognizer_.model.space.whitened.principal.square_root
        assert model.score(X, y) > 0.8


def test_an_images_scores_do_not_depend_on_its_company() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(300) % 10
    X = rng.normal(size=(300, 4)) + 2 * y[:, None] * rng.normal(size=4)
    model = ZeroShotClassifier(random_state=0).fit(X, y)
    scores = model.decision_function(X)
    for rows in ([0], [7, 250, 299], range(130)):
        np.testing.assert_allclose(model.decision_function(X[rows]), scores[rows], rtol=0, atol=1e-7)


def test_probabilities_mean_what_they_say() -> None:
    X, y = load_digits(return_X_y=True)
    model = ZeroShotClassifier(random_state=0).fit(X[::2], y[::2])
    shares = model.predict_proba(X[1::2])
    accuracy = (model.predict(X[1::2]) == y[1::2]).mean()
    assert abs(shares.max(1).mean() - accuracy) < 0.03
    assert get_scorer("neg_log_loss")(model, X[1::2], y[1::2]) > -0.25


def test_descriptions_as_a_table_and_as_a_data_frame(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    X, y, described = seen_part()
    expected = fitted().predict_proba(X)
    columns = tuple(f"is {k}" for k in range(8))
    table = SemanticTable(tuple(described), columns, np.stack(list(described.values())).astype(float))
    frame = pandas.DataFrame(table.values, index=list(described), columns=columns)
    for semantics in (table, frame):
        model = ZeroShotClassifier(**FEW).fit(X, y, semantics=semantics)
        np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-6)
        assert model.recognizer_.record.semantics.columns == columns
    assert fitted().recognizer_.record.semantics.columns is None
    named = pandas.DataFrame(X, columns=[f"channel {k}" for k in range(X.shape[1])])
    model = ZeroShotClassifier(**FEW).fit(named, y, semantics=frame)
    assert model.feature_names_in_.tolist() == named.columns.tolist()
    model.save(tmp_path / "model")
    loaded = ZeroShotClassifier.load(tmp_path / "model")
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(named.rename(columns={"channel 0": "other"}))
    with pytest.raises(InputError, match="something other than numbers"):
        ZeroShotClassifier(**FEW).fit(X, y, semantics=frame.assign(group="bird"))


@pytest.mark.parametrize(("classes", "images"), [(2, 24), (3, 24), (4, 24), (5, 24), (6, 1), (8, 2)])
@pytest.mark.filterwarnings("error")
def test_with_few_classes_or_images_middle_settings_serve(classes: int, images: int) -> None:
    X, y, numbers, described = world()
    rows = np.concatenate(
        [np.flatnonzero(numbers == k)[: images + (images == 1 and k == 0)] for k in range(classes)]
    )
    known = dict(list(described.items())[:classes])
    settings = {"components": (10, 20, 4000), "ridge": (0.001, 0.05)}
    model = ZeroShotClassifier(settings=settings, random_state=0)
    if classes == 5:  # as many as validation needs
        model.set_params(**FEW).fit(X[rows], y[rows], semantics=known)
        assert model.validation_ is not None
    else:
        with pytest.warns(UserWarning, match="too few to validate"):
            model.fit(X[rows], y[rows], semantics=known)
        assert model.setting_["ridge"] == 0.05
        assert min(20, len(rows)) - 1 <= model.setting_["components"] <= 20  # few images have an axis less
        assert model.recognizer_.calibration.constant == 0
    model.add_class("class 15", described["class 15"])
    chosen = np.isin(numbers, [*range(classes), 15])
    assert model.score(X[chosen], y[chosen]) > (2 if classes > 2 else 1.5) / (
        classes + 1
    )  # of two, hardly anything can be predicted
    with pytest.warns(UserWarning, match="too few images") if images < 3 else _silence():
        assert len(ZeroShotClassifier(random_state=0).fit(X[rows], y[rows]).classes_) == classes


def _silence() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_the_same_seed_gives_the_same_and_none_draws_anew() -> None:
    X, *_ = world()
    a, b = fitted(random_state=7), fitted(random_state=7)
    np.testing.assert_array_equal(a.predict_proba(X), b.predict_proba(X))
    assert a.random_state_ == 7
    assert fitted(random_state=None).random_state_ != fitted(random_state=None).random_state_


def test_synthesized_features_lie_near_the_class_that_they_are_drawn_for() -> None:
    X, y, *_ = world()
    model = extended()
    drawn, labels = model.synthesize(["class 14", "class 2"], 30)
    assert drawn.shape == (60, CHANNELS)
    assert labels.tolist() == ["class 14"] * 30 + ["class 2"] * 30
    assert model.score(drawn, labels) > 0.9
    for name in ("class 14", "class 2"):
        near, real = drawn[labels == name].mean(0), X[y == name].mean(0)
        assert np.linalg.norm(near - real) < 0.5 * np.linalg.norm(real - X.mean(0))
    np.testing.assert_array_equal(drawn, model.synthesize(["class 14", "class 2"], 30)[0])


def test_validation_classes_are_those_that_are_named() -> None:
    X, y, described = seen_part()
    named = ["class 3", "class 7", "class 9"]
    model = fitted(validation_classes=named)
    assert model.validation_ != fitted().validation_
    swapped = np.where(np.isin(y, named), np.roll(y, 7), y)  # their labels are what validation is scored by
    assert ZeroShotClassifier(**FEW, validation_classes=named).fit(
        X, swapped, semantics=described
    ).validation_.t1 < (model.validation_.t1)
    with pytest.raises(InputError, match="'class 99' is none of the classes of y"):
        fitted(validation_classes=["class 99"])


def _with(**changes: Any) -> dict[str, Any]:
    described = seen_part()[2]
    return {**described, **{f"class {name[1:]}": value for name, value in changes.items()}}


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (InputError, "class 'class 10' of y has no vector in semantics \\(and 1 more",
         lambda X, y, d: fit(X, y, dict(list(d.items())[:10]))),
        (InputError, "class 'class 3' holds NaN", lambda X, y, d: fit(X, y, _with(_3=np.full(8, np.nan)))),
        (InputError, "class 'class 3' is all zero", lambda X, y, d: fit(X, y, _with(_3=np.zeros(8)))),
        (InputError, "class 'class 3' has 4 numbers", lambda X, y, d: fit(X, y, _with(_3=np.ones(4)))),
        (InputError, "class 'class 3' is no vector", lambda X, y, d: fit(X, y, _with(_3=1.0))),
        (InputError, "cannot be a ndarray", lambda X, y, d: fit(X, y, np.ones((12, 8)))),
        (InputError, "describe no class", lambda X, y, d: fit(X, y, {})),
        (InputError, "class 7 cannot stand among the labels", lambda X, y, d: fit(X, y, {**d, 7: np.ones(8)})),
        (InputError, "descriptions, which must differ", lambda X, y, d: fit(X, y, dict.fromkeys(d, np.ones(8)))),
        (ValueError, "one class alone", lambda X, y, d: fit(X[:24], y[:24], d)),
        (ValueError, "every class has a single image", lambda X, y, d: fit(X[::24], y[::24], d)),
        (ValueError, "images of a class are the same", lambda X, y, d: fit(np.ones_like(X), y, d)),
        (ValueError, "contains NaN", lambda X, y, d: fit(np.full_like(X, np.nan), y, d)),
        (ConfigError, "ridge must be above 0", lambda X, y, d: fit(X, y, d, settings={"ridge": 0})),
        (ConfigError, "needs descriptions of the classes",
         lambda X, y, d: fit(X, y, None, method="dkgzsl", settings=None)),
        (ConfigError, "needs descriptions of the classes",
         lambda X, y, d: fit(X, y, None, settings={"classifier": "softmax"})),
        (ConfigError, "there are no regions", lambda X, y, d: fit(X, y, d, representation="refined")),
        (ConfigError, "the device 'nowhere'", lambda X, y, d: fit(X, y, d, device="nowhere")),
        (ConfigError, "need a backbone", lambda X, y, d: fit(["a.jpg"] * 4, [0, 0, 1, 1], None)),
        (InputError, "there is a class 'class 3'", lambda X, y, d: fitted().add_class("class 3", np.ones(8))),
        (InputError, "3 numbers, those of the other classes", lambda X, y, d: fitted().add_class("x", np.ones(3))),
        (InputError, "class 3 cannot stand among", lambda X, y, d: fitted().add_class(3, np.ones(8))),
        (InputError, "there is no class 'clas 3'", lambda X, y, d: fitted().remove_class("clas 3")),
        (InputError, "no class is described here", lambda X, y, d: fit(X, y, None).add_class("x", np.ones(8))),
        (InputError, "there is no class 'x'", lambda X, y, d: fitted().synthesize(["x"], 3)),
        (InputError, "number must be at least 1", lambda X, y, d: fitted().synthesize(["class 1"], 0)),
        (InputError, "X holds regions", lambda X, y, d: fitted().predict(np.ones((2, 5, 20)))),
        (ValueError, "20 features as input", lambda X, y, d: fitted().predict(np.ones((2, 19)))),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told(error: type[Exception], message: str, call: Callable[..., Any]) -> None:
    with pytest.raises(error, match=message):
        call(*seen_part())


def fit(X: Any, y: Any, semantics: Any, **changes: Any) -> ZeroShotClassifier:
    return ZeroShotClassifier(**{**FEW, **changes}).fit(X, y, semantics=semantics)


@pytest.mark.filterwarnings(TOO_FEW)
def test_the_docstrings_example_is_true() -> None:
    import doctest

    import dkgzsl.estimator.estimator as module

    runner = doctest.DocTestRunner()
    examples = doctest.DocTestFinder().find(ZeroShotClassifier, "ZeroShotClassifier", module=module)
    assert [runner.run(one) for one in examples if one.examples] == [doctest.TestResults(0, 6)]


@pytest.mark.long
def test_numbers_are_read_as_well_as_by_the_command_line() -> None:
    """The default, on all of numbers: the figures of README, by the estimator's own way."""
    problem = load_dataset("numbers")
    names = np.array(problem.class_names)
    training, unseen = problem.parts.trainval, problem.parts.test_unseen
    described = dict(zip(names.tolist(), problem.semantics, strict=True))
    model = ZeroShotClassifier(
        settings={"components": 256, "shrinkage": 0.4, "kernel_width": 4.0, "ridge": 0.1, "seen_blend": 1.0},
        random_state=0,
    ).fit(problem.features[training], names[problem.labels[training]], semantics=described)
    assert model.score(problem.features[unseen], names[problem.labels[unseen]]) > 0.95


def test_a_file_without_descriptions_takes_no_new_class(tmp_path) -> None:
    X, y, _ = seen_part()
    model = ZeroShotClassifier(**FEW).fit(X, y)
    model.save(tmp_path / "seen")
    recognizer = Recognizer.from_run(tmp_path / "seen")
    with pytest.raises(RunError, match="no class is described"):
        recognizer.with_class("new", np.ones(recognizer.record.semantics.size, dtype=np.float32))
