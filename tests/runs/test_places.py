"""A run that goes on by its folder alone, and one that is moved together with its data."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

import dkgzsl.runs.training as training
from dkgzsl.cli.main import main
from dkgzsl.runs.folder import RunFolder
from worlds import ONE_WAY, world_folder

FEW = ["--closed-form.components", "20", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.01", "0.1"]
FEW += ["--closed-form.kernel-width", "0", "2", "--closed-form.episodes", "off"]
FEW += ONE_WAY
PUBLISHED = ["--epochs", "4", "--batch-size", "32", "--dkgzsl.hidden-size", "16"]
PUBLISHED += ["--dkgzsl.softmax.per-class", "10", "--dkgzsl.evaluate-every", "1", "--dkgzsl.softmax.epochs", "2"]


def interrupted(monkeypatch, words: list[str], *, after: int) -> None:
    """Train, and press Ctrl-C after some evaluations."""
    seen, log = 0, RunFolder.log

    def interrupt(self, event, **values):
        nonlocal seen
        seen += event == "evaluation"
        if seen > after:
            raise KeyboardInterrupt
        log(self, event, **values)

    with monkeypatch.context() as patched:
        patched.setattr(training.RunFolder, "log", interrupt)
        assert main(["train", *words]) == 130


def metrics(capsys, words: list[str]) -> dict:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["metrics"]


@pytest.mark.parametrize("options", [FEW, PUBLISHED], ids=["closed-form", "dkgzsl"])
def test_resume_needs_the_folder_alone(capsys, tmp_path, monkeypatch, options) -> None:
    data, out = str(world_folder(tmp_path / "world")), tmp_path / "a run"
    common = [data, *options, "--baseline", "none", "--report", "off", "--seeds", "2"]
    whole = metrics(capsys, ["train", *common, "--out", str(tmp_path / "whole")])
    interrupted(monkeypatch, [*common, "--out", str(out)], after=3)
    error = capsys.readouterr().err
    line = next(one for one in error.splitlines() if one.startswith("to continue the run: "))
    words = shlex.split(line.removeprefix("to continue the run: "))
    assert words == ["dkgzsl", "train", "--resume", "--out", str(out)]
    assert main(["evaluate", str(out)]) == 2
    assert f"next:  {shlex.join(words)}" in capsys.readouterr().err
    assert metrics(capsys, words[1:]) == whole


def test_resume_refuses_what_differs_and_what_is_no_run(capsys, tmp_path, monkeypatch) -> None:
    data, out = str(world_folder(tmp_path / "world")), tmp_path / "run"
    interrupted(monkeypatch, [data, *FEW, "--baseline", "none", "--out", str(out)], after=3)
    capsys.readouterr()
    for words, said in (
        (["--seeds", "3"], "started with seeds 1, not 3"),
        (["--closed-form.ridge", "7"], "started with closed_form"),
        (["--protocol", "oracle"], "started with protocol"),
        (["--method", "eszsl", "--eszsl.powers", "1"], "the settings are of another method"),
    ):
        assert main(["train", "--resume", "--out", str(out), *words]) == 2
        assert said in capsys.readouterr().err, words
    assert main(["train", "--resume", "--out", str(tmp_path / "none")]) == 2
    assert "no run to resume" in capsys.readouterr().err
    assert main(["train", "--resume"]) == 2


def test_a_moved_run_finds_its_moved_data(capsys, tmp_path, monkeypatch) -> None:
    place = tmp_path / "here"
    data = world_folder(place / "world")
    shutil.copy(data / "res101.mat", data / "other.mat")
    common = [
        str(data),
        *FEW,
        "--report",
        "off",
        "--baseline",
        "none",
        "--extra-features",
        str(data / "other.mat"),
    ]
    before = metrics(capsys, ["train", *common, "--out", str(place / "runs" / "one")])
    interrupted(monkeypatch, [*common, "--out", str(place / "runs" / "two")], after=3)
    place.rename(tmp_path / "there")
    runs = tmp_path / "there" / "runs"
    assert metrics(capsys, ["evaluate", str(runs / "one")]) == before
    monkeypatch.chdir(runs)
    assert metrics(capsys, ["evaluate", "one"]) == before
    assert metrics(capsys, ["train", "--resume", "--out", "two"]) == before
    # a run that was moved without its data asks for it
    alone = (runs / "one").rename(tmp_path / "alone")
    assert main(["evaluate", str(alone)]) == 2
    error = capsys.readouterr().err
    assert f"not at {place / 'world'} any more" in error
    assert f"next:  say where they are: dkgzsl evaluate {alone} --data FOLDER" in error


def test_data_that_is_where_it_was_is_taken_from_there(tmp_path, capsys) -> None:
    """Other data that stands at the same place relative to a copied run is not taken for it."""
    data = world_folder(tmp_path / "here" / "world")
    run = tmp_path / "here" / "run"
    before = metrics(
        capsys, ["train", str(data), *FEW, "--report", "off", "--baseline", "none", "--out", str(run)]
    )
    shutil.copytree(run, tmp_path / "there" / "run")
    (tmp_path / "there" / "world").mkdir()
    assert metrics(capsys, ["evaluate", str(tmp_path / "there" / "run")]) == before


def test_what_is_recorded_of_places_is_relative(tmp_path, capsys) -> None:
    data = world_folder(tmp_path / "here" / "world")
    run = tmp_path / "runs" / "run"
    metrics(capsys, ["train", str(data), *FEW, "--report", "off", "--baseline", "none", "--out", str(run)])
    environment = json.loads((run / "environment.json").read_text())
    assert environment["places"] == {"name": "../../here/world"}
    assert Path(yaml.safe_load((run / "config.yaml").read_text())["name"]) == data
    assert "photo" not in environment  # features without images
