"""Shares of work on a cluster: the same results, lost workers, errors, and no process that stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import work

from dkgzsl.cluster.processes import descendants
from dkgzsl.cluster.shares import map_shares
from dkgzsl.errors import ConfigError, DataError, RunError


def test_shares_of_this_process_are_a_loop() -> None:
    assert list(map_shares(work.power, 2, [3, 4])) == [(0, (9, os.getpid())), (1, (16, os.getpid()))]
    assert list(map_shares(work.power, 2, [])) == []


@pytest.mark.parametrize("in_order", [True, False])
def test_workers_give_what_a_loop_gives(two_workers, in_order) -> None:
    found = list(map_shares(work.power, 3, list(range(20)), on="ray", in_order=in_order))
    if in_order:
        assert [position for position, _ in found] == list(range(20))
    assert {position: value for position, (value, _) in found} == {one: one**3 for one in range(20)}
    assert os.getpid() not in {process for _, (_, process) in found}
    assert list(map_shares(work.power, 3, [], on="ray")) == []


def test_each_call_has_its_own_common_part(two_workers) -> None:
    for common in (1, 2):
        assert [value for _, (value, _) in map_shares(work.power, common, [5, 6], on="ray")] == [
            5**common,
            6**common,
        ]


def test_a_lost_share_is_done_again(two_workers, tmp_path, capfd) -> None:
    found = list(map_shares(work.dies_once, str(tmp_path), list(range(8)), on="ray"))
    assert (tmp_path / "died").exists()
    assert found == [(one, 10 * one) for one in range(8)]
    assert capfd.readouterr().out == ""  # results go there


def test_a_share_that_is_always_lost_is_an_error(two_workers, monkeypatch) -> None:
    monkeypatch.setattr("dkgzsl.cluster.engine._RETRIES", 0)
    with pytest.raises(RunError, match="share 1 of 1 was lost"):
        list(map_shares(work.always_dies, None, [1], on="ray"))


def test_errors_come_as_they_were_raised(two_workers) -> None:
    with pytest.raises(DataError, match="share 2 is bad") as found:
        list(map_shares(work.refuses, None, list(range(5)), on="ray"))
    assert (found.value.what, found.value.where, found.value.fix) == ("share 2 is bad", "here", "take another")


def test_a_gpu_that_is_not_there_is_refused(two_workers) -> None:
    with pytest.raises(ConfigError, match="no GPU"):
        list(map_shares(work.power, 2, [1], on="ray", gpu=True))


@pytest.mark.parametrize("on", ["rays", "ray://", "ray://host", "ray://:6379", "ray://host:0", "local"])
def test_what_is_no_place_is_refused(on) -> None:
    with pytest.raises(ConfigError, match="cannot be a place to work"):
        list(map_shares(work.power, 2, [1], on=on))


def test_without_ray_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r'pip install "dkgzsl\[cluster\]"'):
        list(map_shares(work.power, 2, [1], on="ray"))


COMMAND = """
import sys
sys.path.insert(0, sys.argv[1])
import work
from dkgzsl.cli.interrupts import Interrupts
from dkgzsl.cluster.shares import map_shares
interrupts = Interrupts()
interrupts.begin()
try:
    for position, _ in map_shares(work.slow, .3, list(range(1000)), on="ray"):
        print(position, flush=True)
except KeyboardInterrupt:
    pass
interrupts.code_after(0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found by /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_stays_after_a_signal(has_ray, number) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    child = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"0\n"
        started = descendants([child.pid])
        assert len(started) > 3
        child.send_signal(number)
        begun = time.monotonic()
        child.wait(timeout=10)
        assert time.monotonic() - begun < 3
    while any((left := Path(f"/proc/{one}")).exists() and not is_zombie(left) for one in started):
        assert time.monotonic() - begun < 6, [Path(f"/proc/{one}/cmdline").read_text() for one in started]
        time.sleep(0.1)


def is_zombie(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
