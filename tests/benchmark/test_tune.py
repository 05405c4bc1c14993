"""The search: what it may look at, that it goes on where it stopped, that `train` takes what it found."""

import csv
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("optuna", reason="the search needs the extra tune")

from dkgzsl.benchmark.trials import TrialRecord, TrialRunner, settings_of
from dkgzsl.benchmark.tune import chosen, first_trial, space_of, tune
from dkgzsl.cli.main import main
from dkgzsl.config import TrainConfig, TuneConfig
from dkgzsl.display import percent
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.evaluation.protocols import run_protocol
from dkgzsl.evaluation.selection import RAW_SHARE
from dkgzsl.methods.registry import BUILT_IN
from dkgzsl.methods.sections import read_train_config
from dkgzsl.runs.plan import make_plan
from few_episodes import few_episodes
from worlds import world, world_folder

__all__ = ["few_episodes"]
pytestmark = pytest.mark.usefixtures("few_episodes")


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
    whole = tune(TuneConfig(name=data, method="ridge", trials=13, out=str(tmp_path / "whole")))
    tune(TuneConfig(name=data, method="ridge", trials=11, out=str(tmp_path / "parts")))
    journal = tmp_path / "parts" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')  # killed as it wrote
    done = []
    parts = tune(
        TuneConfig(name=data, method="ridge", trials=13, out=str(tmp_path / "parts")),
        on_trial=lambda one, _: done.append(one.number),
    )
    assert done == [11, 12]
    assert tried(parts.trials) == tried(whole.trials)
    other = tune(TuneConfig(name=data, method="ridge", trials=3, seed=1, out=str(tmp_path / "other")))
    assert other.trials[2].values != whole.trials[2].values
    table = (tmp_path / "parts" / "trials.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.splitlines()))
    assert [int(row["trial"]) for row in rows] == list(range(13))
    assert float(rows[12]["score"]) == whole.trials[12].score


def test_train_takes_the_best_settings_and_finds_the_same_on_validation(capsys, data, tmp_path) -> None:
    found = tune(TuneConfig(name=data, trials=6, out=str(tmp_path / "search")))
    best = found.highest
    assert best.score == max(one.score for one in found.trials)
    assert best.score == pytest.approx(best.figures["ausuc"] + RAW_SHARE * best.figures["h"])
    run = tmp_path / "run"
    words = ["--config", str(tmp_path / "search" / "highest.yaml"), "--report", "off", "--out", str(run), "--json"]
    assert main(["train", data, *words]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "closed-form"
    validation = validation_of_run(run)
    for name in ("ausuc", "h", "u", "s", "h_calibrated"):
        assert validation[name] == pytest.approx(best.figures[name], abs=1e-9)


@pytest.mark.parametrize("episodes", ["off", "weights"])
def test_train_considers_nothing_but_the_settings_of_a_trial(data, tmp_path, episodes) -> None:
    plan = make_plan(TrainConfig(name=data))
    values = {
        "closed_form.components": 20, "closed_form.shrinkage": 0.37, "closed_form.kernel_width": 1.3,
        "closed_form.feature_kernel_width": 0.5, "closed_form.ridge": 0.05, "closed_form.seen_blend": 0.21,
        "closed_form.gate": "on", "closed_form.seen_expert": "off", "closed_form.episodes": episodes,
    }  # fmt: skip
    assert values.keys() == space_of(plan).keys()
    chosen = replace(plan, config=settings_of(plan, values))
    outcome = run_protocol("validated", chosen.make_method(0), plan.problem, seed=0)
    switches = {"closed_form.gate": True, "closed_form.seen_expert": False}
    found = {f"closed_form.{name}": value for name, value in outcome.setting.items()}
    assert found.items() >= {**values, **switches}.items()


@pytest.mark.long
def test_the_published_method(capsys, data, tmp_path) -> None:
    words = ["tune", data, "--epochs", "3", "--batch-size", "64", "--trials", "2", "--out", str(tmp_path / "s")]
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["method"] == "dkgzsl"
    assert found["trials"] == 2
    assert "--epochs and --batch-size select the published method" in printed.err
    settings = found["highest"]["settings"]
    best = read_train_config(tmp_path / "s" / "highest.yaml")
    assert (best.method, best.settings.epochs, best.settings.batch_size) == ("dkgzsl", 3, 64)
    assert best.settings.gamma == settings["dkgzsl.gamma"]
    assert best.settings.hidden_size == settings["dkgzsl.hidden_size"]
    assert best.settings.softmax.learning_rate == settings["dkgzsl.softmax.learning_rate"]
    run = tmp_path / "run"
    words = ["--config", str(tmp_path / "s" / "highest.yaml"), "--report", "off", "--out", str(run), "--json"]
    assert main(["train", data, *words]) == 0
    assert validation_of_run(run)["ausuc"] == pytest.approx(found["highest"]["validation"]["ausuc"], abs=1e-9)


SEARCHED = tuple(name for name in BUILT_IN if name != "clip")


@pytest.mark.parametrize("method", SEARCHED)
def test_a_trial_of_every_method_is_a_configuration_of_train(data, tmp_path, method) -> None:
    """Within its ranges, one value of each setting, and the same again from `best.yaml`."""
    plan = make_plan(TrainConfig(name=data, method=method))
    space = space_of(plan)
    first = first_trial(plan, space)
    assert first.keys() == space.keys()
    assert {name: part.nearest(first[name]) for name, part in space.items()} == first
    changed = {name: part.nearest(1e9) for name, part in space.items()}  # the upper end, or the first word
    for values in (first, changed):
        chosen = replace(plan, config=settings_of(plan, values))
        (tmp_path / "best.yaml").write_text(yaml.safe_dump(chosen.recorded()))
        read = read_train_config(tmp_path / "best.yaml")
        assert read.settings == chosen.config.settings
        for name, value in values.items():
            found = read.settings
            for part in name.split(".")[1:]:
                found = getattr(found, part)
            assert found in (value, (value,))


@pytest.mark.parametrize(
    ("method", "flags"),
    [
        ("ale", ["--epochs", "3"]),
        ("class-norm", ["--epochs", "3", "--class-norm.scalings", "none", "min-max"]),
        ("eszsl", ["--eszsl.powers", "-1", "0", "2"]),
    ],
)
def test_a_peer_is_tuned_and_its_best_settings_are_trained(capsys, data, tmp_path, method, flags) -> None:
    words = ["tune", data, "--method", method, *flags, "--trials", "3", "--out", str(tmp_path / "s"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["method"], found["trials"], found["failed"]) == (method, 3, 0)
    section, settings = method.replace("-", "_"), found["highest"]["settings"]
    assert settings
    assert all(name.startswith(f"{section}.") for name in settings)
    run, best = tmp_path / "run", tmp_path / "s" / "highest.yaml"
    assert yaml.safe_load(best.read_text())[section]["scalings"] == [settings[f"{section}.scalings"]]
    words = ["--config", str(best), "--report", "off", "--baseline", "none", "--out", str(run), "--json"]
    assert main(["train", data, *words]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == method
    assert validation_of_run(run)["ausuc"] == pytest.approx(found["highest"]["validation"]["ausuc"], abs=1e-9)


def test_representations_are_searched_where_several_are_named(capsys, tmp_path) -> None:
    out = tmp_path / "s"
    words = ["tune", "numbers", "--features", "regions", "--method", "ridge", "--trials", "6", "--out", str(out)]
    assert main([*words, "--representation", "pooled", "pooled+maximum"]) == 0
    rows = list(csv.DictReader((out / "trials.csv").read_text().splitlines()))
    tried_on = [row["representation"] for row in rows]
    assert tried_on[:2] == ["", "pooled"]
    assert set(tried_on[1:]) == {"pooled", "pooled+maximum"}
    best = max(rows[1:], key=lambda row: float(row["score"]))
    settings = read_train_config(out / "highest.yaml")
    assert settings.representation == (best["representation"],)
    assert settings.settings.scalings == (best["ridge.scalings"],)
    text = capsys.readouterr().out
    printed = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert printed["ridge.powers"] == best["ridge.powers"]
    shown = [line.split()[-4:] for line in text.splitlines() if ", trial " in line]
    for row, cells in zip((rows[0], best), shown, strict=True):
        values = [row[name] for name in ("ausuc", "h", "h_calibrated", "score")]
        assert cells == [f"{percent(float(value))}" for value in values]


def test_a_method_without_settings_names_those_that_can_be_tuned(capsys, data, tmp_path) -> None:
    words = ["tune", data, "--out", str(tmp_path / "s")]
    assert main([*words, "--method", "clip"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "clip has no setting to search for" in printed.err
    assert f"--method {', '.join(SEARCHED)}\n" in printed.err
    assert (
        main(
            [
                *words,
                "--method",
                "eszsl",
                "--eszsl.powers",
                "0",
                "--eszsl.scalings",
                "none",
                "--eszsl.labels",
                "signed",
            ]
        )
        == 2
    )
    assert "every setting of eszsl has one value" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_search_of_an_older_version_is_refused(capsys, data, tmp_path) -> None:
    tune(TuneConfig(name=data, trials=1, out=str(tmp_path)))
    search = json.loads((tmp_path / "search.json").read_text())
    del search["settings"]["format"]
    (tmp_path / "search.json").write_text(json.dumps(search))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["tune", data, "--trials", "2", "--out", str(tmp_path)]) == 2
    assert "dkgzsl 0.1 (format 1) began this search" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_setting_that_fails_is_recorded_and_not_the_end(monkeypatch, data, tmp_path) -> None:
    run_trial = TrialRunner.__call__

    def fails_once(self, values):
        if values.get("closed_form.shrinkage") == 0.6:  # the first trial after the defaults
            raise RunError("it diverged")
        return run_trial(self, values)

    monkeypatch.setattr(TrialRunner, "__call__", fails_once)
    config = TuneConfig(name=data, trials=3, out=str(tmp_path / "search"))
    found = tune(config)
    assert [one.error for one in found.trials] == [None, "it diverged", None]
    assert found.highest.number == 2
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


def test_the_first_trial_is_what_train_does_by_itself(capsys, data, tmp_path) -> None:
    out, run = tmp_path / "s", tmp_path / "run"
    assert main(["tune", data, "--trials", "2", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    words = ["--report", "off", "--baseline", "none", "--out", str(run), "--json"]
    assert main(["train", data, *words]) == 0
    capsys.readouterr()
    validation = validation_of_run(run)
    assert found["default"]["trial"] == 0
    assert found["default"]["settings"] == {}
    for name in ("ausuc", "h", "h_calibrated"):
        assert found["default"]["validation"][name] == pytest.approx(validation[name], abs=1e-9)
    assert found["default"]["spread"] > 0


def test_the_spread_is_that_of_the_defaults_over_the_cuts(capsys, data, tmp_path) -> None:
    """Against the evaluations that `train` logs on each cut."""
    found = tune(TuneConfig(name=data, trials=1, out=str(tmp_path / "s")))
    scores: list[np.ndarray] = []

    def kept(selector, setting, models, *, candidate=True):
        scores.append(np.array(call(selector, setting, models, candidate=candidate)))
        return scores[-1]

    from dkgzsl.evaluation.cuts import CutsSelector

    call = CutsSelector.__call__
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(CutsSelector, "__call__", kept)
        plan = make_plan(TrainConfig(name=data))
        run_protocol("validated", plan.make_method(0), plan.problem, seed=0)
    deviations = [float(np.std(one, ddof=1)) for one in scores if np.isfinite(one).all() and len(one) > 1]
    assert any(found.default.spread == pytest.approx(one, abs=1e-9) for one in deviations)


@pytest.mark.parametrize(("gain", "taken"), [(0.1, 0), (0.125, 0), (0.15, 1), (-0.2, 0)])
def test_the_defaults_stay_unless_a_trial_beats_them_by_more_than_their_spread(gain, taken) -> None:
    default = TrialRecord(0, {}, 0.5, {}, 1.0, None, 0.125)
    highest = TrialRecord(1, {"a": 1}, 0.5 + gain, {}, 1.0, None, 0.4)
    assert chosen(default, highest).number == taken
    failed = TrialRecord(0, {}, None, {}, 1.0, "it diverged")
    assert chosen(failed, highest) is highest


def test_what_is_printed_runs_and_leads_to_the_settings_that_were_kept(
    capsys, data, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune", data, "--trials", "3", "--out", "my search"]) == 0
    text = capsys.readouterr().out
    assert "defaults, trial 0" in text
    kept = "the defaults are kept" in text
    content = yaml.safe_load(Path("my search", "best.yaml").read_text())
    plain = json.loads(json.dumps(make_plan(TrainConfig(name=data)).recorded()))
    assert (content == plain) == kept
    line = next(one for one in text.splitlines() if one.startswith("next "))
    program, *words = shlex.split(line.removeprefix("next "))
    assert program == "dkgzsl"
    assert main([*words, "--report", "off", "--baseline", "none", "--out", "run"]) == 0


def test_trials_of_a_batch_are_chosen_before_one_of_them_has_a_score(monkeypatch, data, tmp_path) -> None:
    """Scores that are turned around within a batch change what the next batch tries, and nothing of this one."""
    config = TuneConfig(name=data, method="ridge", trials=18, at_once=6, out=str(tmp_path / "plain"))
    plain, call = tune(config).trials, TrialRunner.__call__
    numbers = iter(range(18))

    def turned(self, values):
        found = call(self, values)
        return found if next(numbers) < 12 else found._replace(score=-found.score)

    monkeypatch.setattr(TrialRunner, "__call__", turned)
    other = tune(replace(config, out=str(tmp_path / "turned"))).trials
    assert [one.values for one in other] == [one.values for one in plain]
    assert len({json.dumps(one.values) for one in plain}) > 12
    numbers = iter(range(12, 30))
    earlier = tune(replace(config, out=str(tmp_path / "earlier"))).trials
    assert [one.values for one in earlier[:12]] == [one.values for one in plain[:12]]
    assert [one.values for one in earlier[12:]] != [one.values for one in plain[12:]]


def test_a_search_goes_on_with_the_batches_that_it_began_with(data, tmp_path, capsys) -> None:
    out = tmp_path / "s"
    words = ["tune", data, "--method", "ridge", "--out", str(out)]
    assert main([*words, "--trials", "2", "--at-once", "2"]) == 0
    assert main([*words, "--trials", "3"]) == 0
    assert main([*words, "--trials", "3", "--at-once", "4"]) == 2
    assert "a search by other settings" in capsys.readouterr().err
    content = json.loads((out / "search.json").read_text())
    assert content.pop("at_once") == 2
    (out / "search.json").write_text(json.dumps(content))  # as an older version wrote it
    assert main([*words, "--trials", "4"]) == 0
    assert main([*words, "--trials", "4", "--at-once", "1"]) == 0
