"""Features of a run's classes as arrays: what they are, how they lie in files, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.io import loadmat

from dkgzsl.cli.main import main
from dkgzsl.data.formats.matfile import read_mat
from dkgzsl.data.problem import Problem
from dkgzsl.evaluation.held_out import final_task
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.inference.synthesis import Synthesized, synthesize
from dkgzsl.methods.base import Method
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.peers.eszsl import ESZSL, ESZSLSettings
from dkgzsl.runs.model_record import RecognitionRecord
from worlds import FEW, world


def run_of(method: Method, folder: Path, problem: Problem) -> Path:
    """What a training leaves of a model, as far as using it takes."""
    shown = []
    task, _ = final_task(problem)
    method.explore(task, lambda setting, model, candidate=True: shown.append(model) or 0.0)
    Recognizer(shown[-1], None, RecognitionRecord.of(problem, None)).save(folder)
    return folder


@pytest.fixture(scope="module")
def problem() -> Problem:
    return world()


@pytest.fixture(scope="module")
def run(problem: Problem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(ClosedForm(FEW), tmp_path_factory.mktemp("runs") / "run", problem)


def means(made: Synthesized) -> np.ndarray:
    return np.stack([made.features[made.labels == k].mean(0) for k in range(len(made.class_names))])


def test_features_of_every_class_lie_nearest_to_their_own_images(run: Path, problem: Problem) -> None:
    made = synthesize(run, number=40)
    assert made.class_names == problem.class_names
    assert made.features.shape == (16 * 40, 20)
    assert made.features.dtype == np.float32
    assert made.labels.tolist() == sorted(list(range(16)) * 40)
    real = np.stack([problem.features[problem.labels == c].mean(0) for c in range(16)])
    nearest = np.linalg.norm(means(made)[:, None] - real, axis=2).argmin(1)
    assert (nearest == np.arange(16)).mean() > 0.8


def test_a_class_is_drawn_the_same_whichever_others_are_asked_for(run: Path, problem: Problem) -> None:
    everything, names = synthesize(run, number=3, seed=5), problem.class_names
    few = synthesize(run, classes=[names[13], names[2]], number=3, seed=5)
    assert few.class_names == (names[13], names[2])
    np.testing.assert_allclose(
        few.features[:3], everything.features[everything.labels == 13], rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(few.features[3:], everything.features[everything.labels == 2], rtol=1e-4, atol=1e-4)
    other = synthesize(run, classes=[names[2]], number=3, seed=6)
    assert not np.allclose(other.features, few.features[3:])


def test_classes_have_noise_of_their_own(run: Path) -> None:
    made = synthesize(run, number=50)
    first, second = (made.features[made.labels == k] - means(made)[k] for k in (0, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.2


def test_an_added_class_is_synthesized_from_its_description(run: Path, problem: Problem, tmp_path: Path) -> None:
    twin = Recognizer.load(run).with_class("twin", problem.semantics[14])
    twin.save(tmp_path / "twin")
    made = synthesize(
        tmp_path / "twin", classes=["twin", problem.class_names[14], problem.class_names[1]], number=200
    )
    mean = means(made)
    assert np.linalg.norm(mean[0] - mean[1]) < 0.2 * np.linalg.norm(mean[0] - mean[2])


def verb(capsys, *words: str | Path) -> dict:
    assert main(["synthesize", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words: str | Path) -> str:
    assert main(["synthesize", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_every_format_holds_the_same(capsys, run: Path, problem: Problem, tmp_path: Path) -> None:
    names = [problem.class_names[3], problem.class_names[15]]
    for ending in ("npz", "safetensors", "mat"):
        words = [run, "--classes", *names, "--number", "4", "--out", tmp_path / f"made.{ending}"]
        assert verb(capsys, *words)["shape"] == [8, 20]
    with np.load(tmp_path / "made.npz", allow_pickle=False) as npz:
        features, labels = npz["features"], npz["labels"]
        assert npz["class_names"].tolist() == names
        provenance = json.loads(str(npz["provenance"]))
    assert (provenance["seed"], provenance["version"], provenance["semantics"]) == (0, 0, "att")
    assert labels.tolist() == [0] * 4 + [1] * 4
    with safe_open(tmp_path / "made.safetensors", "np") as file:
        assert json.loads(file.metadata()["values"])["class_names"] == names
        np.testing.assert_array_equal(file.get_tensor("features"), features)
        np.testing.assert_array_equal(file.get_tensor("labels"), labels)
    mat = loadmat(tmp_path / "made.mat")
    np.testing.assert_array_equal(mat["features"], features.T)
    np.testing.assert_array_equal(mat["labels"], labels[:, None] + 1)
    assert [str(cell[0]) for cell in mat["allclasses_names"][:, 0]] == names
    assert read_mat(tmp_path / "made.mat")["allclasses_names"].tolist() == names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.mat", "made.npz", "made.safetensors"]


def test_a_file_is_not_overwritten_unasked(capsys, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.npz"
    out.write_text("mine")
    assert "there is a file already" in refused(capsys, run, "--out", out)
    assert out.read_text() == "mine"
    verb(capsys, run, "--number", "1", "--out", out, "--overwrite")
    assert np.load(out)["features"].shape == (16, 20)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--classes", "class_99", "--out", "made.npz"], "there is no class 'class_99'"),
        (["--number", "0", "--out", "made.npz"], "number must be at least 1"),
        (["--seed", "-1", "--out", "made.npz"], "seed must be at least 0"),
        (["--version", "3", "--out", "made.npz"], "no version 3"),
        (["--out", "made.csv"], "ending"),
        (["--out", "nowhere/made.npz"], "cannot write"),
    ],
)
def test_mistakes_are_explained(
    capsys, run: Path, tmp_path: Path, monkeypatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in refused(capsys, run, *words)
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_generator_is_named(capsys, problem: Problem, tmp_path: Path) -> None:
    run = run_of(ESZSL(ESZSLSettings(powers=(0,))), tmp_path / "run", problem)
    told = refused(capsys, run, "--out", tmp_path / "made.npz")
    assert "synthesizes no features" in told
    assert "eszsl" in told


def test_the_run_of_a_training_will_do(capsys, tmp_path: Path) -> None:
    words = [
        "numbers",
        "--out",
        str(tmp_path / "run"),
        "--baseline",
        "none",
        "--epochs",
        "1",
        "--batch-size",
        "64",
    ]
    words += ["--dkgzsl.hidden-size", "8", "--dkgzsl.softmax.per-class", "2", "--dkgzsl.softmax.epochs", "1"]
    assert main(["train", *words, "--protocol", "oracle", "--json"]) == 0
    capsys.readouterr()
    assert verb(capsys, tmp_path / "run", "--classes", "25", "--number", "2", "--out", tmp_path / "x.npz")[
        "shape"
    ] == [
        2,
        256,
    ]
    assert torch.from_numpy(np.load(tmp_path / "x.npz")["features"]).isfinite().all()
