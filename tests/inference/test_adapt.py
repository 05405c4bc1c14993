"""The verb adapt, as a person types it, and what comes after it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dkgzsl import ZeroShotClassifier, load_dataset
from dkgzsl.cli.main import main
from dkgzsl.errors import InputError, RunError
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.methods.registry import load_model, read_model
from sealing import reseal
from worlds import CLASSES, SEEN, arrays, world_folder

QUICK = ["--closed-form.components", "20", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.1"]
QUICK += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off", "--closed-form.unit-length", "off"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the linear world, with its data."""
    place = tmp_path_factory.mktemp("adapt")
    data = str(world_folder(place / "world"))
    words = ["train", data, *QUICK, "--baseline", "none", "--report", "off", "--out", str(place / "run")]
    assert main(words) == 0
    return place


@pytest.fixture
def run(trained, tmp_path) -> str:
    """A copy of the run, whose versions may change."""
    shutil.copytree(trained / "run", tmp_path / "run")
    return str(tmp_path / "run")


@pytest.fixture(scope="module")
def problem(trained):
    return load_dataset(str(trained / "world"))


def pool_of(problem, tmp_path: Path, images: np.ndarray, name: str = "pool") -> str:
    np.save(tmp_path / f"{name}.npy", np.asarray(problem.features[images]))
    return str(tmp_path / f"{name}.npy")


def adapted(capsys, *words: str) -> dict:
    capsys.readouterr()
    assert main(["adapt", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def error_of(capsys, *words: str) -> str:
    capsys.readouterr()
    assert main(["adapt", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def test_a_new_version_has_moved_and_says_what_each_class_took(run, problem, tmp_path, capsys) -> None:
    parts = problem.parts
    pool = pool_of(problem, tmp_path, np.concatenate([parts.test_unseen, parts.test_seen]))
    found = adapted(capsys, run, pool)
    assert (found["adapted"], found["version"], found["reason"]) == (True, 1, None)
    assert found["photos"] == len(parts.test_unseen) + len(parts.test_seen)
    assert {one["class"] for one in found["classes"]} == {f"class_{c}" for c in range(SEEN, CLASSES)}
    assert sum(one["photos"] for one in found["classes"]) == pytest.approx(len(parts.test_unseen), rel=0.3)
    assert found["worth"] is not None
    history = json.loads((Path(run) / "versions" / "1" / "history.json").read_text())
    assert (history["action"], history["pool_sha256"], history["parent"]) == ("adapt", found["pool_sha256"], 0)
    capsys.readouterr()
    assert main(["evaluate", run, "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert (evaluated["version"], evaluated["adapted_to_pools"]) == (1, 1)
    assert main(["evaluate", run]) == 0
    assert "transductive" in capsys.readouterr().out
    assert main(["evaluate", run, "--version", "0"]) == 0
    assert "transductive" not in capsys.readouterr().out


def test_saved_model_recognizer_and_python_score_alike_and_the_old_version_stays(
    run, problem, tmp_path, capsys
) -> None:
    features = np.asarray(problem.features[problem.parts.test_unseen])
    before = Recognizer.from_run(Path(run)).scores(features)
    adapted(capsys, run, pool_of(problem, tmp_path, problem.parts.test_unseen))
    saved = load_model(read_model(Path(run) / "versions" / "1" / "model.safetensors"))
    by_hand = Recognizer.from_run(Path(run), 0).model.adapted(torch.from_numpy(features.astype(np.float32)))
    torch.testing.assert_close(
        saved.scores(torch.from_numpy(features)), by_hand.scores(torch.from_numpy(features)), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(Recognizer.from_run(Path(run), 0).scores(features), before)
    assert np.abs(Recognizer.from_run(Path(run)).scores(features) - before).max() > 0


def test_the_same_photos_in_another_order_give_the_same_sha256_and_are_refused_twice(
    run, problem, tmp_path, capsys
) -> None:
    images = problem.parts.test_unseen
    adapted(capsys, run, pool_of(problem, tmp_path, images))
    message = error_of(capsys, run, pool_of(problem, tmp_path, images[::-1], "again"))
    assert "adapted to these photos already" in message
    assert (
        adapted(capsys, run, pool_of(problem, tmp_path, images[::-1], "again"), "--version", "0")["version"] == 2
    )


def test_classes_are_added_and_removed_after_an_adaptation_and_it_adapts_again(
    run, problem, tmp_path, capsys
) -> None:
    images = problem.parts.test_unseen
    adapted(capsys, run, pool_of(problem, tmp_path, images[::2]))
    np.save(tmp_path / "described.npy", problem.semantics[:2].mean(0))
    words = ["--name", "new", "--attributes", str(tmp_path / "described.npy")]
    assert main(["add-class", run, *words]) == 0
    assert main(["remove-class", run, "--name", "class_12"]) == 0
    found = adapted(capsys, run, pool_of(problem, tmp_path, images[1::2], "second"))
    names = {one["class"] for one in found["classes"]}
    assert names == {"new", *(f"class_{c}" for c in range(SEEN + 1, CLASSES))}
    recognizer = Recognizer.from_run(Path(run))
    assert "new" in recognizer.known_names
    assert "class_12" not in recognizer.known_names
    assert np.isfinite(recognizer.scores(np.asarray(problem.features[images[:3]]))[:, recognizer.is_known]).all()
    assert len(recognizer.record.pools) == 2


def test_a_pool_of_seen_classes_leaves_the_run_as_it_is_unless_it_is_forced(
    run, problem, tmp_path, capsys
) -> None:
    pool = pool_of(problem, tmp_path, problem.parts.test_seen)
    found = adapted(capsys, run, pool)
    assert (found["adapted"], found["version"]) == (False, 0)
    assert "no described class" in found["reason"]
    assert not (Path(run) / "versions").exists()
    assert main(["adapt", run, pool]) == 0
    out, err = capsys.readouterr()
    assert "stays as it is" in out
    assert "--force" in err
    forced = adapted(capsys, run, pool, "--force")
    assert (forced["adapted"], forced["version"]) == (True, 1)


def test_an_adaptation_that_validation_finds_worthless_is_refused(run, problem, tmp_path, capsys) -> None:
    file = Path(run) / "recognizer.json"
    content = json.loads(file.read_text())
    worth = {"ausuc_before": 0.6, "ausuc_after": 0.5, "gain": -0.1, "gain_error": None, "cuts": 1, "pools": 2}
    file.write_text(json.dumps({**content, "adaptation": {**worth, "refused": 0}}))
    reseal(Path(run))
    pool = pool_of(problem, tmp_path, problem.parts.test_unseen)
    found = adapted(capsys, run, pool)
    assert not found["adapted"]
    assert "validation classes" in found["reason"]
    file.write_text(json.dumps({**content, "adaptation": {**worth, "refused": 2}}))
    reseal(Path(run))
    assert adapted(capsys, run, pool)["adapted"], "validation could not say"


def test_training_images_and_repeated_photos_are_left_out_and_named(run, problem, tmp_path, capsys) -> None:
    parts = problem.parts
    images = np.concatenate([parts.test_unseen, parts.trainval[:7], parts.test_unseen[:3]])
    found = adapted(capsys, run, pool_of(problem, tmp_path, images))
    assert found["left_out"] == {"trained_on": 7, "repeated": 3}
    assert found["photos"] == len(parts.test_unseen)
    message = error_of(capsys, run, pool_of(problem, tmp_path, parts.trainval[:7], "trained"))
    assert "all 7 photos of the pool are training images" in message


def test_bad_pools_are_named(run, problem, tmp_path, capsys) -> None:
    good = np.asarray(problem.features[problem.parts.test_unseen[:6]], np.float32)
    for name, rows, said in (
        ("empty", good[:0], "the pool is empty"),
        ("narrow", good[:, :7], "the model takes 20 channels"),
        ("nan", np.where(np.arange(6)[:, None] == 4, np.nan, good), "the first in row 4"),
        ("inf", np.where(np.arange(6)[:, None] == 2, np.inf, good), "the first in row 2"),
    ):
        np.save(tmp_path / f"{name}.npy", rows)
        assert said in error_of(capsys, run, str(tmp_path / f"{name}.npy"))
    assert "no such image" in error_of(capsys, run, str(tmp_path / "missing"))
    (tmp_path / "folder").mkdir()
    assert "holds no images" in error_of(capsys, run, str(tmp_path / "folder"))


def test_without_the_data_a_note_says_that_training_images_are_not_looked_for(
    run, problem, tmp_path, capsys, monkeypatch
) -> None:
    pool = pool_of(problem, tmp_path, problem.parts.test_unseen)
    config = Path(run) / "config.yaml"
    config.write_text(config.read_text().replace("world", "gone"))
    reseal(Path(run))
    assert main(["adapt", run, pool]) == 0
    assert "training images among the photos are not looked for" in capsys.readouterr().err


def test_photos_and_a_store_of_them_are_pools_and_unreadable_ones_are_skipped(tmp_path, capsys) -> None:
    pytest.importorskip("timm", reason="the extra `images` is not installed")
    from photo_runs import photo_run

    made = photo_run(tmp_path / "made")
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, photo in enumerate(made.photos):
        shutil.copy(photo, folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    words = [str(made.run), str(folder), "--weights", str(made.weights), "--device", "cpu", "--force"]
    capsys.readouterr()
    assert main(["adapt", *words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "skipped: " in err
    assert "broken.png" in err
    assert json.loads(out)["photos"] == len(made.photos)
    store = next(path.parent for path in (tmp_path / "made").rglob("store.json"))
    found = adapted(capsys, str(made.run), str(store), "--version", "0", "--force")
    assert found["left_out"]["trained_on"] > 0, "the run's own store holds its training images"
    assert found["photos"] >= len(made.photos)
    mixed = error_of(capsys, str(made.run), str(store), str(folder))
    assert "name the file of features alone" in mixed


def classifier(**settings) -> tuple[ZeroShotClassifier, np.ndarray, np.ndarray]:
    X, y, attributes = arrays()
    options = {"components": 20, "shrinkage": 0.5, "kernel_width": 0.0, "ridge": 0.1, "unit_length": "off"}
    model = ZeroShotClassifier(random_state=0, settings={**options, "episodes": "off"}, **settings)
    seen = y < SEEN
    train = seen & (np.arange(len(y)) % 4 > 0)
    model.fit(X[train], y[train], semantics=dict(enumerate(attributes)))
    return model, X, y


def test_an_estimator_adapts_into_a_new_one(tmp_path) -> None:
    model, X, y = classifier()
    test = (y >= SEEN) | (np.arange(len(y)) % 4 == 0)
    before = model.predict_proba(X[test])
    moved = model.adapt(X[test], force=True)
    assert moved is not model
    np.testing.assert_array_equal(model.predict_proba(X[test]), before)
    assert np.abs(moved.predict_proba(X[test]) - before).max() > 0
    assert moved.score(X[test], y[test]) >= model.score(X[test], y[test]) - 0.02
    np.testing.assert_array_equal(model.adapt(X[test], force=True).predict_proba(X), moved.predict_proba(X))
    moved.save(tmp_path / "saved")
    loaded = ZeroShotClassifier.load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.predict_proba(X[test]), moved.predict_proba(X[test]), rtol=1e-5, atol=1e-7)
    assert 99 in moved.add_class(99, np.full(8, 0.5)).classes_
    assert 99 not in model.classes_


def test_an_estimator_says_why_it_does_not_adapt() -> None:
    model, X, y = classifier()
    held = (y < SEEN) & (np.arange(len(y)) % 4 == 0)
    with pytest.warns(UserWarning, match="not adapted: the pool shows no described class"):
        same = model.adapt(X[held])
    np.testing.assert_array_equal(same.predict_proba(X), model.predict_proba(X))
    fitted = (y < SEEN) & (np.arange(len(y)) % 4 > 0)
    with pytest.raises(InputError, match="training images of this model"):
        model.adapt(X[fitted])
    with pytest.warns(UserWarning, match="images were left out: fit had them"):
        model.adapt(X, force=True)
    alone = ZeroShotClassifier(random_state=0).fit(X[fitted], y[fitted])
    with pytest.raises(InputError, match="no class is described here"):
        alone.adapt(X[held])


def test_a_method_that_cannot_adapt_names_those_that_can() -> None:
    X, y, attributes = arrays()
    model = ZeroShotClassifier(method="eszsl", random_state=0)
    model.fit(X[y < SEEN], y[y < SEEN], semantics=dict(enumerate(attributes)))
    with pytest.raises(RunError, match=r"cannot adapt to unlabelled photos[\s\S]*closed-form"):
        model.adapt(X[y >= SEEN])
