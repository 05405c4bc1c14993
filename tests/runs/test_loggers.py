"""Loggers get what `metrics.jsonl` gets, and their files show its figures."""

import json
from dataclasses import replace

import pytest

from dkgzsl import TrainConfig, train
from dkgzsl.errors import ConfigError
from dkgzsl.runs.event_log import EventLog
from dkgzsl.runs.loggers import Logger, numbers_of

QUICK = TrainConfig("numbers", method="eszsl", baseline="none", report="off")


class Kept:
    def __init__(self) -> None:
        self.events, self.closed = [], 0

    def log(self, event, values) -> None:
        self.events.append({"event": event, **values})

    def close(self) -> None:
        self.closed += 1


def lines_of(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_logger_of_ones_own_gets_every_line_with_its_time_and_is_closed(tmp_path) -> None:
    mine = Kept()
    assert isinstance(mine, Logger)
    train(replace(QUICK, out=str(tmp_path / "run")), loggers=[mine])
    lines = lines_of(tmp_path / "run")
    assert mine.events == lines
    assert mine.closed == 1
    times = [line["seconds"] for line in lines[:-1]]
    assert times == sorted(times)
    assert times[0] > 0
    assert {line["event"] for line in lines} >= {"evaluation", "result"}


def test_a_logger_is_closed_where_the_run_breaks_off(tmp_path) -> None:
    class Broken(Kept):
        def log(self, event, values) -> None:
            raise KeyboardInterrupt

    mine = Broken()
    with pytest.raises(KeyboardInterrupt):
        train(replace(QUICK, out=str(tmp_path / "run")), loggers=[mine])
    assert mine.closed == 1


def test_tensorboard_shows_the_figures(tmp_path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(replace(QUICK, out=str(tmp_path / "run"), log=("tensorboard",)))
    shown = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    evaluations = [line for line in lines_of(tmp_path / "run") if line["event"] == "evaluation"]
    scalars = shown.Scalars("seed 0/evaluation/figures/ausuc")
    assert [one.value for one in scalars] == pytest.approx(
        [one["figures"]["ausuc"] for one in evaluations], abs=1e-6
    )
    assert [one.step for one in scalars] == list(range(1, len(evaluations) + 1))
    assert "log" not in (tmp_path / "run" / "config.yaml").read_text().split()


def test_an_unknown_logger_is_refused_before_any_work(tmp_path) -> None:
    with pytest.raises(ConfigError, match="tensorbord"):
        train(replace(QUICK, out=str(tmp_path / "run"), log=("tensorbord",)))
    assert not (tmp_path / "run").exists()


def test_numbers_of_an_event_without_settings_and_switches() -> None:
    event = {"figures": {"h": 0.5, "u": None}, "setting": {"ridge": 1.0}, "seed": 0, "done": True, "name": "x"}
    assert dict(numbers_of(event)) == {"figures/h": 0.5, "seed": 0.0}


def test_lines_of_a_worker_reach_loggers_too(tmp_path) -> None:
    log, mine = EventLog(tmp_path), Kept()
    log.loggers = [mine]
    log.add_lines('{"event": "epoch", "epoch": 1}\n{"event": "epoch", "epoch": 2}\n')
    assert [one["epoch"] for one in mine.events] == [1, 2]
