"""Runs, pushes, benchmarks, estimators and YAML of dkgzsl 0.1 are read as what they were, or refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from dkgzsl import ZeroShotClassifier
from dkgzsl.cli.main import main
from dkgzsl.methods.closed_form.model import ClosedFormModel
from dkgzsl.methods.closed_form.softmax import SoftmaxModel
from dkgzsl.methods.dkgzsl.model import DKGZSLModel
from dkgzsl.methods.registry import load_model, read_model
from worlds import arrays, world_folder

OLD = Path(__file__).parents[1] / "fixtures" / "format1"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world_folder(tmp_path_factory.mktemp("data") / "world")


def old_run(name: str, data: Path, folder: Path) -> Path:
    """A copy of an old run whose data lies where the test's data lies."""
    copy = folder / name
    shutil.copytree(OLD / name, copy)
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("/tmp/f1/world", str(data)))
    return copy


@pytest.mark.parametrize(
    ("name", "method", "kind"),
    [
        ("closed-form", "closed-form", ClosedFormModel),
        ("softmax", "closed-form", SoftmaxModel),
        ("published", "dkgzsl", DKGZSLModel),
    ],
)
def test_old_runs_are_evaluated_to_their_own_figures(name, method, kind, data, tmp_path, capsys) -> None:
    run = old_run(name, data, tmp_path)
    assert isinstance(load_model(read_model(run / "model.safetensors")), kind)
    assert main(["evaluate", str(run), "--version", "0", "--json"]) == 0
    found, before = json.loads(capsys.readouterr().out), json.loads((run / "result.json").read_text())
    assert found["method"] == method
    assert "variant" not in found
    for figure, value in before["metrics"].items():
        assert found["metrics"][figure]["mean"] == pytest.approx(value["mean"], abs=1e-6), figure


def test_old_runs_predict_report_compare_and_grow(data, tmp_path, capsys) -> None:
    run, other = old_run("closed-form", data, tmp_path), old_run("published", data, tmp_path)
    np.save(tmp_path / "f.npy", arrays()[0][:5])
    for one in (run, other):
        assert main(["predict", str(one), "--features", str(tmp_path / "f.npy"), "--json"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 5
    assert "extra" in str(main(["evaluate", str(run)]) or "extra")  # its newest version has one more class
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "closed-form" in page
    assert main(["compare", str(run), str(other), "--json"]) == 0
    np.save(tmp_path / "v.npy", np.linspace(0.9, 0.1, 8))
    capsys.readouterr()
    words = ["add-class", str(run), "--name", "more", "--attributes", str(tmp_path / "v.npy"), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == 18


def test_old_pushes_are_pulled_and_pushed_again(tmp_path, capsys) -> None:
    assert main(["pull", str(OLD / "pushed"), "--out", str(tmp_path / "run"), "--json"]) == 0
    assert main(["push", str(tmp_path / "run"), f"{tmp_path}/again", "--json"]) == 0
    assert main(["pull", f"{tmp_path}/again", "--out", str(tmp_path / "third"), "--json"]) == 0
    models = [read_model(tmp_path / run / "model.safetensors") for run in ("run", "third")]
    assert {one.kind for one in models} == {"closed-form"}


def test_an_option_that_there_is_no_more_is_refused_in_one_line(data, tmp_path, capsys) -> None:
    run = old_run("uncertain", data, tmp_path)
    np.save(tmp_path / "f.npy", arrays()[0][:5])
    for words in (["predict", str(run), "--features", str(tmp_path / "f.npy")], ["evaluate", str(run)]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "dkgzsl 0.1" in said
        assert "uncertainty" in said
        assert "Traceback" not in said


def test_an_interrupted_old_run_is_not_continued(data, tmp_path, capsys) -> None:
    run = old_run("interrupted", data, tmp_path)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert main(["train", str(data), "--out", str(run), "--resume"]) == 2
    assert "dkgzsl 0.1 (format 1) started this run" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


def test_old_cells_never_stand_among_new_ones(data, tmp_path, capsys) -> None:
    folder = tmp_path / "benchmark"
    shutil.copytree(OLD / "benchmark", folder)
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    words = ["benchmark", "--datasets", str(data), "--methods", "eszsl", "--seeds", "1", "--out", str(folder)]
    assert main(words) == 2
    assert "dkgzsl 0.1 (format 1) made this benchmark" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_old_yaml_is_read_in_the_new_names(data, tmp_path, capsys) -> None:
    words = ["train", str(data), "--config", str(OLD / "settings.yaml"), "--report", "off", "--baseline", "none"]
    assert main([*words, "--out", str(tmp_path / "run"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["method"], result["protocol"]) == ("closed-form", "oracle")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["format"] == 2
    assert config["closed_form"]["ridge"] == [0.01, 0.1]
    assert config["closed_form"]["classifier"] == "density"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("variant: paper\nknowledge: {uncertainty: on}\n", None),  # of a section that this method does not use
        ("knowledge: {fusion: on}\n", "fusion"),
        ("knowledge: {episodes: residual}\n", "episodes"),
        ("knowledge: {rigde: [1]}\n", "did you mean 'ridge'"),
        ("format: 3\nmethod: eszsl\n", "later dkgzsl"),
        ("method: dkgzsl\nsoftmax: {epochs: 3}\n", "unknown setting softmax"),  # format 1 knew no `method`
        ("method: eszsl\nclassifier: softmax\n", "unknown setting classifier"),
    ],
)
def test_yaml_that_cannot_be_read_as_it_was_is_refused(content, expected, data, tmp_path, capsys) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(content)
    code = main(["train", str(data), "--config", str(file), "--dry-run"])
    said = capsys.readouterr().err
    if expected is None:
        assert code == 0, said
        return
    assert code == 2
    assert expected in said
    assert str(file) in said


def test_an_old_estimator_gives_its_own_probabilities() -> None:
    loaded = ZeroShotClassifier.load(OLD / "estimator")
    assert loaded.method == "closed-form"
    assert loaded.settings.ridge == (0.1,)
    expected = np.load(OLD / "estimator-probabilities.npy")
    np.testing.assert_allclose(loaded.predict_proba(arrays()[0][:40]), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["eszsl", "f-vaegan"])
def test_old_names_of_methods_lead_to_the_new_ones(name, data, capsys) -> None:
    code = main(["train", str(data), "--method", name, "--dry-run"])
    assert code == (0 if name == "eszsl" else 2)
    if code:
        assert "it is called 'f-vaegan-d2' now" in capsys.readouterr().err
