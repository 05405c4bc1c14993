"""One vector an image, fitted on training images alone, and saved with the run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dkgzsl.cli.main import main
from dkgzsl.config import RefinementConfig
from dkgzsl.data.problem import Problem
from dkgzsl.errors import ConfigError
from dkgzsl.evaluation.protocols import validated
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.representation.representation import Pooled, representations
from formats.files import write_feature_map
from formats.toy import Toy
from worlds import FEW, arrays, world

CONFIG = RefinementConfig(steps=5, batch_size=12)
QUICK = ["--closed-form.components", "20", "--closed-form.ridge", "0.1", "--closed-form.kernel-width", "0"]
QUICK += ["--closed-form.episodes", "off"]
NAMES = ["pooled", "pooled+maximum", "pooled+scores", "refined"]


def region_world(regions: int = 9) -> Problem:
    """The world, each image's features spread over regions; the global token is their mean."""
    problem = world()
    rng = np.random.default_rng(5)
    spread = problem.features[:, None] * (0.5 + rng.random((len(problem.labels), regions, 1)))
    tokens = np.concatenate([spread.mean(1, keepdims=True), spread], axis=1).astype(np.float32)
    return replace(problem, features=tokens)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_fitted_depends_on_training_images_alone(name) -> None:
    problem = region_world()
    others = np.setdiff1d(np.arange(len(problem.labels)), problem.parts.trainval)
    changed = problem.features.copy()
    changed[others] = 1000 * np.random.default_rng(0).random(changed[others].shape)
    elsewhere = replace(problem, features=changed)
    training = problem.parts.trainval
    one, two = (
        representations([name], CONFIG, seed=0)[0].fit(p, training)(p.features, training)
        for p in (problem, elsewhere)
    )
    assert torch.equal(one, two)


@pytest.mark.parametrize("name", NAMES)
def test_images_seen_alone_or_together_get_the_same_vector(name) -> None:
    problem = region_world()
    fitted = representations([name], CONFIG, seed=0)[0].fit(problem, problem.parts.trainval)
    together = fitted(problem.features, np.arange(20))
    copy = problem.features.copy()  # another array, so that nothing read before is used
    torch.testing.assert_close(fitted(copy, np.array([7])), together[[7]], atol=1e-5, rtol=1e-5)


def test_one_training_serves_all_representations(monkeypatch) -> None:
    import dkgzsl.representation.representation as module

    trained = []
    original = module.train_refiner
    monkeypatch.setattr(module, "train_refiner", lambda *a, **k: trained.append(1) or original(*a, **k))
    problem = region_world()
    for one in representations(["refined", "pooled+scores", "pooled"], CONFIG, seed=0):
        one.fit(problem, problem.parts.trainval)
    assert len(trained) == 1


@pytest.mark.standard
def test_the_best_representation_is_chosen_on_validation_classes() -> None:
    """Global tokens without information lose against the regions' mean."""
    problem = region_world()
    tokens = problem.features.copy()
    tokens[:, 0] = np.random.default_rng(1).random(tokens[:, 0].shape)
    blind = replace(problem, features=tokens)
    choice = representations(["pooled", "mean"], CONFIG, seed=0)
    linear = replace(FEW, kernel_width=(0.0,))  # as this world is
    outcome = validated(ClosedForm(linear), blind, seed=0, representations=choice)
    assert outcome.representation == "mean"
    assert outcome.figures.t1 > 0.7
    alone = validated(ClosedForm(linear), blind, seed=0, representations=choice[1:])
    assert outcome.figures == alone.figures
    assert outcome.evaluations > alone.evaluations


def test_names_are_checked() -> None:
    assert isinstance(representations(["pooled"], CONFIG, seed=0)[0], Pooled)
    with pytest.raises(ConfigError, match="did you mean 'scores'"):
        representations(["pooled+score"], CONFIG, seed=0)


@pytest.fixture(scope="module")
def maps(tmp_path_factory) -> str:
    _, labels, attributes = arrays()
    problem = region_world(16)
    parts = vars(problem.parts)
    kept = {name: parts[name] for name in ("trainval", "test_seen", "test_unseen")}
    toy = Toy(problem.features, labels, attributes, attributes, None, kept)
    path = tmp_path_factory.mktemp("maps") / "world.hdf5"
    write_feature_map(path, toy)
    return str(path)


@pytest.mark.standard
def test_train_and_evaluate_on_region_features(capsys, maps, tmp_path) -> None:
    out = str(tmp_path / "run")
    words = [maps, *QUICK, "--baseline", "none"]
    words += ["--refinement.steps", "5", "--refinement.batch-size", "8", "--out", out, "--json"]
    words += ["--representation", "pooled+scores"]
    assert main(["train", *words]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert (tmp_path / "run" / "representation.safetensors").is_file()
    assert trained["metrics"]["t1"]["mean"] > 0.5
    assert main(["evaluate", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == trained["metrics"]


@pytest.mark.standard
def test_signed_region_features_train_by_default(capsys, tmp_path) -> None:
    """A vision transformer's tokens are of either sign; what is tried by default must take them."""
    _, labels, attributes = arrays()
    problem = region_world(16)
    kept = {name: vars(problem.parts)[name] for name in ("trainval", "test_seen", "test_unseen")}
    signed = problem.features - problem.features.mean()
    path = tmp_path / "signed.hdf5"
    write_feature_map(path, Toy(signed, labels, attributes, attributes, None, kept))
    words = [str(path), *QUICK, "--baseline", "none", "--json"]
    words += ["--refinement.steps", "3", "--refinement.batch-size", "8", "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["t1"]["mean"] > 0.5


def test_representations_of_pooled_features_are_refused(capsys, tmp_path) -> None:
    assert main(["train", "numbers", "--representation", "refined", "--out", str(tmp_path / "run")]) == 2
    assert "no regions" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_block_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        representations(["pooled+pooled"], CONFIG, seed=0)
