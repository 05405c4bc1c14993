"""The search: what it may look at, that it goes on where it stopped, that `train` takes what it found."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("optuna", reason="the search needs the extra tune")

from dkgzsl.benchmark.tune import TrialRecord, tune
from dkgzsl.cli.main import main
from dkgzsl.config import TrainConfig, TuneConfig, read_yaml
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.evaluation.selection import RAW_SHARE
from dkgzsl.runs.plan import make_plan
from worlds import world, world_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(world_folder(tmp_path_factory.mktemp("data") / "world"))


def tried(trials: list[TrialRecord]) -> list[tuple]:
    return [(one.number, one.values, one.score) for one in trials]


def validation_of_run(out: Path) -> dict:
    return json.loads((out / "result.json").read_text())["seeds_detail"][0]["validation"]


def test_test_images_change_nothing(monkeypatch, tmp_path) -> None:
    clean = world()
    test = np.concatenate([clean.parts.test_seen, clean.parts.test_unseen])
    features, labels = clean.features.copy(), clean.labels.copy()
    features[test] = np.nan
    labels[test] = np.roll(labels[test], 5)
    assert (labels[test] != clean.labels[test]).any()
    found = []
    for name, problem in (("clean", clean), ("spoiled", replace(clean, features=features, labels=labels))):
        monkeypatch.setattr("dkgzsl.runs.plan.load_dataset", lambda *_, problem=problem, **__: problem)
        found.append(tune(TuneConfig(name="world", trials=4, out=str(tmp_path / name))))
    assert tried(found[0].trials) == tried(found[1].trials)
    assert found[0].best.score > 0.5


def test_the_same_seed_gives_the_same_trials_broken_off_or_not(data, tmp_path) -> None:
    whole = tune(TuneConfig(name=data, trials=13, out=str(tmp_path / "whole")))
    tune(TuneConfig(name=data, trials=11, out=str(tmp_path / "parts")))
    journal = tmp_path / "parts" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')  # killed as it wrote
    told = []
    parts = tune(
        TuneConfig(name=data, trials=13, out=str(tmp_path / "parts")),
        on_trial=lambda one, _: told.append(one.number),
    )
    assert told == [11, 12]
    assert tried(parts.trials) == tried(whole.trials)
    other = tune(TuneConfig(name=data, trials=2, seed=1, out=str(tmp_path / "other")))
    assert other.trials[1].values != whole.trials[1].values
    table = (tmp_path / "parts" / "trials.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.splitlines()))
    assert [int(row["trial"]) for row in rows] == list(range(13))
    assert float(rows[12]["score"]) == whole.trials[12].score


def test_train_takes_the_best_settings_and_finds_the_same_on_validation(capsys, data, tmp_path) -> None:
    found = tune(TuneConfig(name=data, trials=6, out=str(tmp_path / "search")))
    best = found.best
    assert best.score == max(one.score for one in found.trials)
    assert best.score == pytest.approx(best.figures["ausuc"] + RAW_SHARE * best.figures["h"])
    run = tmp_path / "run"
    words = ["--config", str(tmp_path / "search" / "best.yaml"), "--report", "off", "--out", str(run), "--json"]
    assert main(["train", data, *words]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "closed-form"
    validation = validation_of_run(run)
    for name in ("ausuc", "h", "u", "s", "h_calibrated"):
        assert validation[name] == pytest.approx(best.figures[name], abs=1e-9)


@pytest.mark.parametrize("episodes", ["off", "weights"])
def test_train_considers_nothing_but_the_settings_of_a_trial(data, tmp_path, episodes) -> None:
    from dkgzsl.benchmark.search_space import settings_of

    from dkgzsl.evaluation.protocols import run_protocol
    from dkgzsl.runs.training import make_method

    plan = make_plan(TrainConfig(name=data))
    values = {
        "knowledge.components": 20, "knowledge.shrinkage": 0.37, "knowledge.kernel_width": 1.3,
        "knowledge.ridge": 0.05, "knowledge.seen_blend": 0.21, "knowledge.episodes": episodes,
    }  # fmt: skip
    chosen = replace(plan, config=settings_of(plan, values))
    outcome = run_protocol("validated", make_method(chosen, 0), plan.problem, seed=0)
    assert {f"knowledge.{name}": value for name, value in outcome.setting.items()}.items() >= values.items()


def test_the_published_form(capsys, data, tmp_path) -> None:
    words = ["tune", data, "--epochs", "3", "--batch-size", "64", "--trials", "2", "--out", str(tmp_path / "s")]
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["method"] == "dkgzsl"
    assert found["trials"] == 2
    assert "select the published form" in printed.err
    settings = found["best"]["settings"]
    best = read_yaml(TrainConfig, tmp_path / "s" / "best.yaml")
    assert best.epochs == 3
    assert best.adversarial.gamma == settings["adversarial.gamma"]
    assert best.adversarial.hidden_size == settings["adversarial.hidden_size"]
    run = tmp_path / "run"
    words = ["--config", str(tmp_path / "s" / "best.yaml"), "--report", "off", "--out", str(run), "--json"]
    assert main(["train", data, *words]) == 0
    assert validation_of_run(run)["ausuc"] == pytest.approx(found["best"]["validation"]["ausuc"], abs=1e-9)


def test_a_setting_that_fails_is_told_and_not_the_end(monkeypatch, data, tmp_path) -> None:
    from dkgzsl.benchmark.search_space import TrialRunner

    look = TrialRunner.__call__

    def fails_once(self, values):
        if values["knowledge.shrinkage"] == 0.6:  # the first trial
            raise RunError("it diverged")
        return look(self, values)

    monkeypatch.setattr(TrialRunner, "__call__", fails_once)
    config = TuneConfig(name=data, trials=3, out=str(tmp_path / "search"))
    found = tune(config)
    assert [one.error for one in found.trials] == ["it diverged", None, None]
    assert found.best.number > 0
    assert tried(tune(config).trials) == tried(found.trials)  # counted, not tried again
    monkeypatch.setattr(TrialRunner, "__call__", lambda *_: (_ for _ in ()).throw(RunError("it diverged")))
    with pytest.raises(ConfigError, match="no trial came to a score: it diverged"):
        tune(replace(config, out=str(tmp_path / "none")))
    assert not (tmp_path / "none" / "best.yaml").exists()


def test_the_minutes_end_it(data, tmp_path) -> None:
    found = tune(TuneConfig(name=data, trials=10**6, minutes=0.01, out=str(tmp_path / "search")))
    assert 0 < len(found.trials) < 1000
    assert yaml.safe_load((tmp_path / "search" / "best.yaml").read_text())["method"] == "closed-form"


def test_mistakes_are_sentences(capsys, monkeypatch, data, tmp_path) -> None:
    def refused(*words: str) -> str:
        assert main(["tune", *words]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err
        return printed.err

    out = tmp_path / "search"
    assert "--out FOLDER" in refused(data)
    assert "must be at least 1" in refused(data, "--trials", "0", "--out", str(out))
    assert not out.exists()
    tune(TuneConfig(name=data, trials=1, out=str(out)))
    assert "other settings" in refused(data, "--seed", "1", "--out", str(out))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "holds something else" in refused(data, "--out", str(tmp_path / "mine"))
    (out / "journal.jsonl").write_text("no journal\n")
    assert "journal" in refused(data, "--trials", "2", "--out", str(out))
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'dkgzsl[tune]'" in refused(data, "--out", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
