"""`metrics.jsonl` of trainings that were done at once: read as a file that may be damaged."""

from pathlib import Path

import pytest

from dkgzsl.errors import RunError
from dkgzsl.runs.event_log import EventLog
from dkgzsl.runs.shares import _in_order


def test_lines_come_in_the_order_of_the_seeds(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    lines = [
        f'{{"event": "epoch", "seed": {seed}, "epoch": {epoch}}}\n' for seed, epoch in ((3, 1), (1, 1), (3, 2))
    ]
    other = '{"event": "baseline", "name": "caf\u00e9\u2028"}\n'
    log.write_text(lines[0] + other + lines[1] + lines[2] + '{"event": "broken o', encoding="utf-8")
    assert _in_order(log, [1, 3]) == lines[1] + lines[0] + lines[2] + other


@pytest.mark.parametrize("line", ["no JSON", "[1]", '{"seed": 1}'])
def test_a_damaged_line_is_an_error_that_names_the_file(tmp_path: Path, line: str) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text(line + "\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
        _in_order(log, [1])


class Kept:
    def __init__(self) -> None:
        self.events: list[str] = []

    def log(self, event, values) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass


def test_loggers_get_whole_lines_alone(tmp_path: Path) -> None:
    events, kept = EventLog(tmp_path), Kept()
    events.add_lines("no JSON\n")  # nobody reads it
    events.loggers = [kept]
    events.add("epoch", name="caf\u00e9\u2028\u0085")  # ends a line in Unicode, and none in this file
    assert kept.events == ["epoch"]
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
        events.add_lines("no JSON\n")
