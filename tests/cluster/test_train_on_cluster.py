"""Seeds and baseline trained by workers: the files of one process, also where a worker is killed."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from run_folders import files_of, kill_a_worker, log_of, result_of

from dkgzsl.cli.main import main
from dkgzsl.config import TrainConfig
from dkgzsl.errors import ConfigError
from dkgzsl.runs import follow, shares
from dkgzsl.runs.folder import RunFolder
from dkgzsl.runs.plan import make_plan
from dkgzsl.runs.progress import Reporter
from worlds import world_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(world_folder(tmp_path_factory.mktemp("data") / "world"))


def same(here: Path, there: Path) -> None:
    assert files_of(here).keys() == files_of(there).keys()
    assert files_of(here) == files_of(there)
    assert result_of(here) == result_of(there)
    assert log_of(here) == log_of(there)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="workers are found by /proc")
def test_a_run_is_the_same_with_a_worker_killed(two_workers, data, tmp_path, monkeypatch, capsys) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    words = ["train", data, "--method", "ridge", "--seeds", "3"]
    assert main([*words, "--out", str(here)]) == 0
    capsys.readouterr()
    killed, take = [], shares._take

    def killing(folder, name, left, reporter) -> None:
        if not killed:
            killed.append(kill_a_worker())
        take(folder, name, left, reporter)

    monkeypatch.setattr(shares, "_take", killing)
    assert main([*words, "--out", str(there), "--on", "ray", "--json"]) == 0
    assert killed
    assert json.loads(capsys.readouterr().out)["seeds"] == [0, 1, 2]
    same(here, there)
    assert not (there / "checkpoints").exists()
    assert main(["evaluate", str(there), "--json"]) == 0  # checksums fit, and it can be read


def test_the_published_method_and_what_it_is_compared_with(two_workers, data, tmp_path, monkeypatch) -> None:
    """A command that is broken off goes on in either place."""
    words = ["train", data, "--epochs", "2", "--batch-size", "64", "--dkgzsl.hidden-size", "16", "--seeds", "2"]
    words += ["--dkgzsl.softmax.epochs", "2", "--report", "off"]
    here, there = tmp_path / "here", tmp_path / "there"
    assert main([*words, "--out", str(here)]) == 0
    take, broken = shares._take, []

    def breaks_off(folder, name, left, reporter) -> None:
        if len(list(folder.file("seeds").glob("*"))) == 1 and not broken:
            broken.append(name)
            raise KeyboardInterrupt
        take(folder, name, left, reporter)

    monkeypatch.setattr(shares, "_take", breaks_off)
    assert main([*words, "--out", str(there), "--on", "ray"]) == 130
    assert len(list((there / "seeds").iterdir())) == 1
    assert main(["train", "--resume", "--out", str(there), "--on", "ray"]) == 0
    assert {path.stem for path in (there / "seeds").iterdir()} == {"0", "1", "baseline", "default"}
    same(here, there)


def test_mistakes_leave_no_run(two_workers, data, tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / "run"
    words = ["train", data, "--method", "ridge", "--report", "off", "--out", str(out)]
    assert main([*words, "--on", "slurm"]) == 2
    assert "cannot be a place to work" in capsys.readouterr().err
    of = shares.SentPlan.of
    monkeypatch.setattr(
        shares.SentPlan, "of", lambda plan: shares.replace(of(plan), split="that of another machine")
    )
    assert main([*words, "--on", "ray"]) == 2
    assert "has another split on this machine" in capsys.readouterr().err
    assert not out.exists()


def test_torchrun_and_a_cluster_exclude_each_other(data, monkeypatch) -> None:
    monkeypatch.setattr(follow, "current", lambda: SimpleNamespace(size=2))
    monkeypatch.setattr(follow, "device_here", lambda device: device)
    with pytest.raises(ConfigError, match="both given"):
        follow.check_shared(make_plan(TrainConfig(name=data, method="dkgzsl", on="ray")))


def test_messages_of_a_worker_name_the_run_folder(tmp_path, data, monkeypatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr("dkgzsl.runs.seed.predictions_record", fails)
    sent = shares.SentPlan.of(make_plan(TrainConfig(name=data, method="ridge")))
    left = shares.training_of_share(sent, "baseline")
    folder, said = RunFolder(tmp_path), []
    folder.write_text("metrics.jsonl", "")
    monkeypatch.setattr(Reporter, "log", lambda _, message: said.append(message))
    shares._take(folder, "baseline", left, Reporter(quiet=True))
    [message] = said
    assert "no room" in message
    assert message.endswith(f"dkgzsl report {tmp_path}")
