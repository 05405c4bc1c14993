"""A search on two workers: the journal of one process, also where a worker is killed or the search broken off."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the search needs the extra tune")

from run_folders import kill_a_worker

from dkgzsl.benchmark.tune import tune
from dkgzsl.cli.main import main
from dkgzsl.config import TuneConfig
from worlds import world_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(world_folder(tmp_path_factory.mktemp("data") / "world"))


def journal_of(folder: Path) -> list[dict]:
    """Its lines without times and the names of processes."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items() if key not in TIMES}
        return value

    return [plain(json.loads(line)) for line in (folder / "journal.jsonl").read_text().splitlines()]


TIMES = ("seconds", "datetime_start", "datetime_complete", "worker_id")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="workers are found by /proc")
def test_the_journal_is_the_same_with_a_worker_killed(two_workers, data, tmp_path) -> None:
    config = TuneConfig(name=data, method="ridge", trials=14, out=str(tmp_path / "here"))
    here, killed = tune(config), []

    def kill(record, _best) -> None:
        if record.number == 4:
            killed.append(kill_a_worker())

    there = tune(replace(config, on="ray", out=str(tmp_path / "there")), on_trial=kill)
    assert killed
    assert len(journal_of(tmp_path / "here")) == 15  # the study, and its trials
    assert journal_of(tmp_path / "here") == journal_of(tmp_path / "there")
    for name in ("best.yaml", "highest.yaml", "search.json"):
        assert (tmp_path / "here" / name).read_text() == (tmp_path / "there" / name).read_text()
    found = [[replace(one, seconds=0.0) for one in search.trials] for search in (here, there)]
    assert found[0] == found[1]
    assert json.loads((tmp_path / "here" / "search.json").read_text())["at_once"] == 4


def test_a_search_goes_on_in_the_other_place(two_workers, data, tmp_path, capsys) -> None:
    """Broken off within a batch: the trials that follow are those of a search in one go."""
    words = ["tune", data, "--method", "ridge", "--at-once", "3", "--out"]
    assert main([*words, str(tmp_path / "whole"), "--trials", "16"]) == 0
    assert main([*words, str(tmp_path / "parts"), "--trials", "5", "--on", "ray"]) == 0
    assert main([*words, str(tmp_path / "parts"), "--trials", "13"]) == 0
    assert main([*words, str(tmp_path / "parts"), "--trials", "16", "--on", "ray"]) == 0
    assert journal_of(tmp_path / "whole") == journal_of(tmp_path / "parts")
    capsys.readouterr()
    assert main([*words, str(tmp_path / "whole"), "--trials", "16", "--on", "here"]) == 2
    assert "cannot be a place to work" in capsys.readouterr().err
