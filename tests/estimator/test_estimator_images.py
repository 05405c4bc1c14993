"""The estimator on region tokens, in memory and not, and on image files; methods that end in a softmax."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from dkgzsl import ZeroShotClassifier, load_dataset
from dkgzsl.config import RefinementConfig, SoftmaxConfig
from dkgzsl.data.formats.tables import SemanticTable
from dkgzsl.data.numbers.dataset import numbers_regions
from dkgzsl.data.problem import Problem
from dkgzsl.errors import ConfigError, DataError, InputError
from dkgzsl.methods.sections import settings_from
from worlds import ATTRIBUTES, QUICK, SEEN, SMALL, arrays

OPTIONS = {
    "components": 64, "shrinkage": 0.5, "kernel_width": 0.0, "ridge": 0.1, "seen_blend": 0.0, "episodes": "off",
    "unit_length": "on",
}  # fmt: skip
ONE = {"settings": OPTIONS, "random_state": 0}
DIGITS = [f"{number:02d}" for number in (1, 2, 4, 6, 7, 8, 9, 10, 11, 12)]


@pytest.fixture(scope="module")
def regions() -> tuple[np.ndarray, np.ndarray, SemanticTable]:
    """Tokens of ten numbers, eight images each, and their strokes."""
    problem = load_dataset("numbers")
    names = np.array(problem.class_names)
    rows = np.concatenate([np.flatnonzero(names[problem.labels] == name)[:8] for name in DIGITS])
    tokens = np.asarray(numbers_regions(problem).features[rows], np.float16)
    numbers = [problem.class_names.index(name) for name in DIGITS]
    table = SemanticTable(
        tuple(DIGITS), problem.attribute_names["strokes"], np.asarray(problem.semantics)[numbers]
    )
    return tokens, names[problem.labels[rows]], table


def test_regions_stay_in_their_file_and_are_refined_where_attributes_are_known(
    regions: tuple[np.ndarray, np.ndarray, SemanticTable], tmp_path: Path
) -> None:
    tokens, y, table = regions
    np.save(tmp_path / "tokens.npy", tokens)
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    few = RefinementConfig(steps=3, batch_size=8)
    model = ZeroShotClassifier(**ONE, refinement=few, representation="pooled+scores")
    model.fit(mapped, y, semantics=table)
    assert model.setting_["representation"] == "pooled+scores"
    assert model.n_features_in_ == tokens.shape[2]
    assert model.score(mapped, y) > 0.8
    shares = model.predict_proba(tokens)
    np.testing.assert_array_equal(shares, model.predict_proba(mapped))
    model.save(tmp_path / "model")
    np.testing.assert_allclose(
        ZeroShotClassifier.load(tmp_path / "model").predict_proba(tokens), shares, atol=1e-6
    )
    joblib.dump(model, tmp_path / "in-memory")
    np.testing.assert_allclose(joblib.load(tmp_path / "in-memory").predict_proba(tokens), shares, atol=1e-6)


def test_what_is_tried_on_regions(regions: tuple[np.ndarray, np.ndarray, SemanticTable]) -> None:
    from dkgzsl.estimator.plan import plan_for
    from worlds import world

    tokens, y, table = regions
    unnamed = dict(zip(table.classes, table.values, strict=True))
    model = ZeroShotClassifier(**ONE).fit(tokens, y, semantics=unnamed)
    assert model.setting_["representation"] == "pooled"  # an embedding's numbers cannot be attended by
    pooled = ZeroShotClassifier(**ONE).fit(tokens[:, 0].astype(np.float32), y, semantics=unnamed)
    np.testing.assert_allclose(model.predict_proba(tokens), pooled.predict_proba(tokens[:, 0]), atol=1e-6)
    alone = ZeroShotClassifier(**ONE, representation=["pooled", "mean"]).fit(tokens, y)
    assert alone.score(tokens, y) > 0.8
    problem = numbers_regions(load_dataset("numbers"))
    computed = {"computed_semantics": {problem.semantics_name: {}}}
    embedded = replace(problem, provenance={**problem.provenance, **computed})
    params = ZeroShotClassifier().get_params(deep=False)
    published = {**params, "method": "dkgzsl", "epochs": 1}

    def tried(given: dict[str, Any], problem: Problem) -> tuple[str, ...] | None:
        return plan_for(given, problem, seed=0, described=True).config.representation

    assert tried(params, problem) == ("pooled", "pooled+scores")
    assert tried(params, embedded) == ("pooled",)
    assert tried({**params, "method": "eszsl"}, problem) == ("pooled", "pooled+scores")
    assert tried(published, problem) == ("refined",)
    assert tried(published, embedded) == ("pooled",)
    assert tried(published, world()) == ("pooled",)


def test_regions_that_cannot_be_used_are_told(regions: tuple[np.ndarray, np.ndarray, SemanticTable]) -> None:
    tokens, y, table = regions
    model = ZeroShotClassifier(**ONE, representation="pooled")
    broken = tokens.copy()
    broken[0, 3, 1] = np.nan
    for unfit, why in (
        (broken, "contain NaN"),
        (tokens[:, :1], "cannot have the shape"),
        (tokens.astype(complex), "real numbers"),
        (tokens[:5], "inconsistent numbers of samples"),
    ):
        with pytest.raises(ValueError, match=why):
            model.fit(unfit, y, semantics=table)
    model.fit(tokens, y, semantics=table)
    with pytest.raises(InputError, match="X has 3 channels"):
        model.predict(tokens[..., :3])
    with pytest.raises(InputError, match="X holds vectors, and fit took regions"):
        model.predict(tokens[:, 0])
    with pytest.raises(ValueError, match="y is None"):
        model.fit(tokens, None)


@pytest.fixture(scope="module")
def photographed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str], Path]:
    """Files of four colours and the weights of a small backbone."""
    pytest.importorskip("timm", reason="the extra `images` is not installed")
    from PIL import Image
    from safetensors.torch import save_file

    from dkgzsl.features.backbones import build_backbone

    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    files, colours = [], []
    for name, colour in (("red", (220, 30, 30)), ("green", (30, 200, 40)), ("blue", (30, 40, 220))):
        for number in range(8):
            noise = rng.integers(-25, 26, (48, 56, 3))
            files.append(str(folder / f"{name}-{number}.png"))
            colours.append(name)
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(files[-1])
    save_file(
        build_backbone("test_resnet", image_size=64, random_seed=0).model.state_dict(), folder / "w.safetensors"
    )
    return files, colours, folder / "w.safetensors"


@pytest.mark.filterwarnings("ignore:.* are too few to validate:UserWarning")
def test_image_files_go_through_the_backbone(
    photographed: tuple[list[str], list[str], Path], tmp_path: Path
) -> None:
    files, colours, weights = photographed
    model = ZeroShotClassifier(**ONE, backbone="test_resnet", weights=weights, image_size=64, device="cpu")
    model.fit(files, colours, semantics={"red": [1, 0, 0], "green": [0, 1, 0], "blue": [0, 0, 1]})
    assert model.score(files, colours) > 0.9
    np.testing.assert_array_equal(model.predict([Path(files[0])]), model.predict(files[:1]))
    model.save(tmp_path / "model")
    loaded = ZeroShotClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(files), model.predict_proba(files), atol=1e-6)
    joblib.dump(model, tmp_path / "in-memory")
    joblib.dump(ZeroShotClassifier.load(tmp_path / "model"), tmp_path / "unused")  # has built no backbone yet
    assert abs((tmp_path / "in-memory").stat().st_size - (tmp_path / "unused").stat().st_size) < 2000
    np.testing.assert_allclose(
        joblib.load(tmp_path / "in-memory").predict_proba(files[:3]), model.predict_proba(files[:3])
    )

    (tmp_path / "broken.png").write_bytes(b"no image")
    for call in (lambda x: model.predict(x), lambda x: model.fit(x, colours[:2])):
        with pytest.raises(InputError, match=r"(?s)cannot be read.*broken\.png"):
            call([str(tmp_path / "broken.png"), files[-1]])
    without = ZeroShotClassifier.load(tmp_path / "model").set_params(weights=None)
    np.testing.assert_array_equal(without.predict(files[:1]), model.predict(files[:1]))
    without = ZeroShotClassifier.load(tmp_path / "model").set_params(weights=None)
    moved = weights.rename(weights.with_name("elsewhere.safetensors"))
    with pytest.raises(DataError, match="weights came from the file"):
        without.predict(files[:1])
    moved.rename(weights)


def test_files_need_a_model_that_knows_how_an_image_becomes_features(
    photographed: tuple[list[str], list[str], Path],
) -> None:
    files, colours, _ = photographed
    X, y, _ = arrays()
    model = ZeroShotClassifier(**ONE).fit(X, y)
    with pytest.raises(DataError, match="does not record how its features were computed"):
        model.predict(files[:1])
    with pytest.raises(ConfigError, match="need a backbone"):
        ZeroShotClassifier(**ONE).fit(files, colours)


LATE = replace(
    SMALL, evaluate_every=40, learning_rate=1e-2, softmax=SoftmaxConfig(per_class=24, learning_rate=0.05, epochs=5)
)


@pytest.mark.parametrize(
    "form",
    [
        {"method": "dkgzsl", "epochs": 40, "batch_size": 64, "settings": LATE},
        {"settings": {**OPTIONS, "components": 20, "classifier": "softmax", "softmax": asdict(QUICK)}},
    ],
    ids=["dkgzsl", "softmax"],
)
def test_methods_with_a_softmax_take_classes_later(form: dict[str, Any], tmp_path: Path) -> None:
    X, y, attributes = arrays()
    seen = y < SEEN
    model = ZeroShotClassifier(**form, random_state=0)
    model.fit(X[seen], y[seen], semantics=dict(enumerate(attributes[:SEEN])))
    assert model.score(X[seen], y[seen]) > 0.5
    for number in range(SEEN, 16):
        model.add_class(number, attributes[number])
    new = X[~seen], y[~seen]
    assert model.score(*new) > 0.3  # chance: 1 in 16
    model.save(tmp_path / "model")
    loaded = ZeroShotClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.settings == settings_from(model.method, model.settings)
    assert (loaded.method, loaded.epochs, loaded.batch_size) == (model.method, model.epochs, model.batch_size)
    drawn, labels = model.synthesize([3, 14], 20)
    assert drawn.shape == (40, X.shape[1])
    assert np.isfinite(drawn).all()
    assert labels.tolist() == [3] * 20 + [14] * 20


def test_a_few_images_sharpen_a_class_that_joins() -> None:
    X, y, attributes = arrays()
    seen = y < SEEN
    rng = np.random.default_rng(0)
    vague = attributes + 0.5 * rng.normal(size=attributes.shape)  # descriptions that say less than images
    right = []
    for shots in (0, 1, 5):
        model = ZeroShotClassifier(settings={**OPTIONS, "components": 20}, random_state=0)
        model.fit(X[seen], y[seen], semantics=dict(enumerate(vague[:SEEN])))
        for number in range(SEEN, 16):
            images = X[y == number][:shots]
            model.add_class(number, vague[number], images if shots else None)
        later = np.concatenate([np.flatnonzero(y == number)[5:] for number in range(SEEN, 16)])
        right.append(model.score(X[later], y[later]))
    assert right[0] < right[1] <= right[2]
    assert right[2] > 0.85
    assert attributes.shape[1] == ATTRIBUTES


def test_the_example_runs() -> None:
    script = Path(__file__).parents[2] / "examples" / "estimator.py"
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "learned 80 numbers from 4800 images"
    assert float(lines[1].partition("100: ")[2].split()[0]) > 0.95
    assert lines[2].startswith("an image of ")
