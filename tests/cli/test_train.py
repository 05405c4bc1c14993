"""The main job from the command line: what it prints, leaves behind, refuses and continues."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dkgzsl.cli.main import main
from worlds import ONE_WAY, world_folder

FEW = ["--closed-form.components", "20", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.01", "0.1"]
FEW += ["--closed-form.kernel-width", "0", "2", "--closed-form.episodes", "weights"]
FEW += ONE_WAY
PUBLISHED = [
    "--epochs",
    "4",
    "--batch-size",
    "32",
    "--dkgzsl.hidden-size",
    "16",
    "--dkgzsl.softmax.per-class",
    "10",
]
ALONE = ["--baseline", "none", "--report", "off"]
"""The method alone, without what it is compared with and without a page."""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(world_folder(tmp_path_factory.mktemp("data") / "world"))


def train(capsys, *words: str) -> dict:
    assert main(["train", *words, "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    return json.loads(printed)


def refused(capsys, *words: str) -> str:
    assert main(["train", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_the_json_object_and_the_run_folder(capsys, data, tmp_path) -> None:
    out = tmp_path / "run"
    result = train(capsys, data, *FEW, "--seeds", "2", "--out", str(out))
    fixed = ["run", "dataset", "method", "protocol", "semantics", "backbone", "seeds", "metrics", "seconds"]
    fixed.append("estimated")
    assert list(result) == fixed
    assert result["method"] == "closed-form"
    assert result["protocol"] == "validated"
    assert result["seeds"] == [0, 1]
    assert list(result["metrics"]) == [
        "t1", "u", "s", "h", "h_calibrated", "ausuc", "u_calibrated", "s_calibrated",
    ]  # fmt: skip
    assert all(0 <= one["mean"] <= 1 for one in result["metrics"].values())
    assert result["metrics"]["t1"]["mean"] > 0.5

    there = {path.name for path in out.iterdir()}
    assert there >= {
        "config.yaml", "environment.json", "metrics.jsonl", "result.json", "card.md", "per_class.csv",
        "model.safetensors", "model-2.safetensors",
    }  # fmt: skip
    assert "checkpoints" not in there
    assert not [name for name in there if name.startswith(".")]
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["semantics"] == "att"
    environment = json.loads((out / "environment.json").read_text())
    assert len(environment["split_sha256"]) == 64
    rows = (out / "per_class.csv").read_text().splitlines()
    assert len(rows) == 1 + 16
    assert rows[-1].split(",")[1] == "unseen"
    assert "validated" in (out / "card.md").read_text()


def test_evaluate_gives_the_same_figures_from_the_folder(capsys, data, tmp_path) -> None:
    out = str(tmp_path / "run")
    trained = train(capsys, data, *FEW, "--out", out)
    assert main(["evaluate", out, "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["metrics"] == trained["metrics"]
    assert main(["evaluate", out]) == 0
    assert "T1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [FEW, PUBLISHED, [*FEW, "--closed-form.classifier", "softmax"]],
    ids=["default", "published", "softmax"],
)
def test_the_same_seed_gives_the_same_figures_twice(capsys, data, tmp_path, options) -> None:
    first = train(capsys, data, *options, *ALONE, "--out", str(tmp_path / "a"))
    second = train(capsys, data, *options, *ALONE, "--out", str(tmp_path / "b"))
    assert first["metrics"] == second["metrics"]


def test_epochs_select_the_published_form_and_say_so(capsys, data, tmp_path) -> None:
    assert main(["train", data, *PUBLISHED, "--json", "--out", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["method"] == "dkgzsl"
    assert "--method dkgzsl" in captured.err


def test_the_oracle_protocol_is_labelled_wherever_its_numbers_appear(capsys, data, tmp_path) -> None:
    out = tmp_path / "run"
    assert main(["train", data, *PUBLISHED, "--protocol", "oracle", "--baseline", "none", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "chosen on the test images" in printed
    assert "chosen on the test images" in (out / "card.md").read_text()
    result = json.loads((out / "result.json").read_text())
    assert result["protocol"] == "oracle"
    assert result["metrics"]["h_calibrated"] is None
    assert main(["evaluate", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["h"] == result["metrics"]["h"]


@pytest.mark.parametrize(
    ("stop_at", "protocol", "more"),
    [(3, "validated", []), (9, "validated", ALONE), (3, "oracle", ALONE), (9, "oracle", ALONE)],
)
def test_an_interrupted_run_resumes_to_the_same_figures(
    capsys, data, tmp_path, monkeypatch, protocol, stop_at, more
) -> None:
    """Ctrl-C at several evaluations; `--resume` must give what the uninterrupted run gives."""
    import dkgzsl.runs.training as training
    from dkgzsl.runs.folder import RunFolder

    words = [data, *PUBLISHED, "--protocol", protocol, "--seeds", "2", "--dkgzsl.evaluate-every", "1"]
    words += ["--dkgzsl.softmax.epochs", "2", *more]
    whole = train(capsys, *words, "--out", str(tmp_path / "whole"))
    evaluations = 0
    log = RunFolder.log

    def interrupt(self, event, **values):
        nonlocal evaluations
        evaluations += event == "evaluation"
        if evaluations == stop_at:
            raise KeyboardInterrupt
        log(self, event, **values)

    out = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(training.RunFolder, "log", interrupt)
        assert main(["train", *words, "--out", str(out), "--json"]) == 130
    assert not (out / "result.json").exists()
    assert capsys.readouterr().out == ""
    assert main(["evaluate", str(out)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert "started with" in refused(capsys, *words, "--dkgzsl.softmax.epochs", "3", "--out", str(out), "--resume")
    resumed = train(capsys, *words, "--out", str(out), "--resume")
    assert resumed["metrics"] == whole["metrics"]


KILLED = """
import os, signal, sys
from dkgzsl.cli.main import main
from dkgzsl.methods.shared import training
from dkgzsl.runs.folder import RunFolder

training.SECONDS_BETWEEN_CHECKPOINTS = -1.0
log, left = RunFolder.log, int(sys.argv[1])

def killing(self, event, **values):
    global left
    log(self, event, **values)
    left -= event == "epoch"
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

RunFolder.log = killing
main(["train", *sys.argv[2:]])
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
@pytest.mark.parametrize("after", [5, 9], ids=["exploring", "fitting"])
def test_a_killed_training_of_a_peer_resumes_to_the_same_files(capsys, data, tmp_path, after) -> None:
    """Killed at the end of an epoch, before its checkpoint: this epoch alone is trained again."""
    words = [data, "--method", "f-vaegan-d2", "--epochs", "8", "--f-vaegan-d2.hidden-size", "16"]
    words += ["--f-vaegan-d2.precision", "bfloat16", "--baseline", "none", "--report", "off"]
    whole, out = tmp_path / "whole", tmp_path / "broken"
    train(capsys, *words, "--out", str(whole))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(after), *words, "--out", str(out)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "result.json").exists()
    train(capsys, *words, "--out", str(out), "--resume")
    expected = epochs_in(whole)
    assert expected[:8] == list(range(1, 9))
    assert epochs_in(out) == [*expected[:after], *expected[after - 1 :]]
    for name in ("model.safetensors", "per_class.csv", "recognizer.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def epochs_in(out: Path) -> list[int]:
    log = out / "metrics.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    return [int(found[1]) for line in lines if (found := re.search(r'"event": "epoch".*"epoch": (\d+)', line))]


def test_a_run_is_never_overwritten_unasked(capsys, data, tmp_path) -> None:
    out = str(tmp_path / "run")
    train(capsys, data, *FEW, *ALONE, "--out", out)
    before = Path(out, "result.json").read_text()
    assert "--overwrite" in refused(capsys, data, *FEW, "--out", out)
    assert Path(out, "result.json").read_text() == before
    train(capsys, data, *FEW, *ALONE, "--out", out, "--overwrite")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    assert "no run" in refused(capsys, data, *FEW, "--out", str(tmp_path / "mine"), "--overwrite")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(capsys, data, tmp_path) -> None:
    out = tmp_path / "run"
    for options in (FEW, PUBLISHED):
        assert main(["train", data, *options, "--dry-run", "--out", str(out)]) == 0
        printed = capsys.readouterr().out
        assert "nothing was written" in printed
        assert re.search(r"^time +about \d", printed, re.MULTILINE)
    assert not out.exists()


@pytest.mark.parametrize("method", ["f-clswgan", "eszsl"])
def test_a_dry_run_does_not_guess_the_time_of_a_peer(capsys, data, method) -> None:
    assert main(["train", data, "--method", method, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^time +not known for this method *$", printed, re.MULTILINE)
    assert re.search(r"^memory +about \d", printed, re.MULTILINE)


def test_yaml_lies_under_the_flags(capsys, data, tmp_path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "seeds: 2\nbaseline: none\nrepresentation: pooled\n"
        "closed-form: {components: 20, ridge: [0.1], episodes: off, unit_length: on}\n"
    )
    out = tmp_path / "run"
    result = train(capsys, data, "--config", str(file), "--seeds", "1", "--out", str(out))
    assert result["seeds"] == [0]
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["closed_form"]["ridge"] == [0.1]
    assert config["closed_form"]["components"] == [20]  # one value may stand where several are taken
    assert config["representation"] == ["pooled"]
    assert config["baseline"] == "none"
    assert config["closed_form"]["episodes"] == "off"
    assert config["closed_form"]["unit_length"] == "on"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("seed: 3", "did you mean 'seeds'"),
        ("closed-form: {rigde: [1]}", "did you mean 'ridge'"),
        ("seeds: many", "seeds"),
        ("closed-form: 3", "closed-form"),
        ("closed-form: {ridge: much}", "ridge"),
        ("closed-form: {components: true}", "components"),
        ("- 1", "names and values"),
        ("seeds: [", "not a YAML file"),
    ],
)
def test_bad_yaml_is_explained(capsys, data, tmp_path, content, expected) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(content)
    message = refused(capsys, data, "--config", str(file), "--out", str(tmp_path / "run"))
    assert expected in message
    assert str(file) in message
    assert not (tmp_path / "run").exists()


def test_bad_settings_are_explained_and_leave_no_folder(capsys, data, tmp_path) -> None:
    out = tmp_path / "run"
    cases = {
        ("numbrs",): "numbers",
        (): "numbers",
        (data, "--dataset", "CUB"): "two data sets",
        (data, "--semantics", "nme"): "semantics here: att",
        (data, "--features", "vgg"): "vgg.mat",
        (data, "--device", "cuda:77"): "--device cpu",
        (data, "--method", "dkgzsl", "--closed-form.classifier", "density"): "--method closed-form",
        (data, "--seeds", "0"): "seeds",
        (data, "--epochs", "0"): "epochs",
        (data, "--closed-form.ridge", "-1"): "ridge",
        (data, "--closed-form.shrinkage", "1.5"): "shrinkage",
        (data, "--method", "dkgzsl", "--dkgzsl.learning-rate", "-1"): "learning_rate",
        (data, "--resume"): "no run to resume",
        (data, "--config", str(tmp_path / "none.yaml")): "none.yaml",
    }
    for words, expected in cases.items():
        assert expected in refused(capsys, *words, "--out", str(out)), words
        assert not out.exists(), words


def test_an_unwritable_folder_is_explained(capsys, data, tmp_path) -> None:
    (tmp_path / "file").touch()
    assert "cannot write" in refused(capsys, data, *FEW, "--out", str(tmp_path / "file" / "run"))


@pytest.mark.parametrize("words", [["--sedes", "3"], ["--batch-sise", "3"], ["--seeds", "many"]])
def test_unknown_options_name_the_nearest(capsys, data, words) -> None:
    message = refused(capsys, data, *words)
    assert {"--sedes": "--seeds", "--batch-sise": "--batch-size", "--seeds": "--seeds"}[words[0]] in message


def test_the_published_command_is_accepted_and_missing_data_explained(capsys, tmp_path) -> None:
    published = ["--dataset", "CUB", "--backbone", "vit-b/16", "--batch_size", "128", "--epochs", "100"]
    message = refused(capsys, *published, "--data-root", str(tmp_path))
    assert "CUB" in message
    assert str(tmp_path) in message
    assert "next:" in message


def test_without_out_a_fresh_folder_under_runs(capsys, data, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = train(capsys, data, *FEW, *ALONE)["run"]
    second = train(capsys, data, *FEW, *ALONE)["run"]
    assert first != second
    assert Path(first).parent == Path(second).parent == Path("runs")
