"""Writing verbs that are stopped, that meet a full disk, each other, or a signal: nothing is lost, all goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dkgzsl
import dkgzsl.files
import faults_forks as forks
import faults_kills as kills
from dkgzsl.cli.main import main
from dkgzsl.files import whole_folder, write_whole
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.runs.folder import RunFolder, versions_of
from dkgzsl.runs.states import aside_of, is_beginning
from dkgzsl.writing import InUseError, locked

if not hasattr(os, "fork"):
    pytest.skip("faults are planted in forked processes", allow_module_level=True)

SOURCE = str(Path(dkgzsl.__file__).parents[1])

PROMPT = 10.0
"""Seconds after a signal; half a second on a quiet machine, and machines are noisy."""


def test_the_harness_sees_a_verb_that_removes_the_older_result_first(tmp_path) -> None:
    def begin(folder: Path) -> None:
        (folder / "file").write_text("old")

    def careless(folder: Path) -> int:
        (folder / "file").unlink()
        (folder / "x").write_text("new")
        (folder / "x").rename(folder / "file")
        return 0

    verb = forks.Verb("careless", begin, careless, "file")
    truth, steps, _ = forks.undisturbed(verb, tmp_path / "undisturbed")
    assert steps == 2
    kills.planted_stop(verb, tmp_path / "case", 1, truth)
    with pytest.raises(AssertionError, match="neither the older result nor the new one"):
        kills.planted_stop(verb, tmp_path / "case", 2, truth)


def test_a_folder_is_replaced_by_two_renames_where_the_system_cannot_exchange(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(dkgzsl.files, "exchange", lambda *_: False)

    def begin(folder: Path) -> None:
        with whole_folder(folder / "it") as draft:
            (draft / "old").touch()

    def replace(folder: Path) -> int:
        with whole_folder(folder / "it", replace=True) as draft:
            (draft / "new").touch()
        return 0

    verb = forks.Verb("replace", begin, replace, "it", keeps=[".it.replaced.partial"])
    truth, steps, _ = forks.undisturbed(verb, tmp_path / "undisturbed")
    for at in range(1, steps + 1):
        kills.planted_stop(verb, tmp_path / "case", at, truth)


def test_states_of_a_run_folder(tmp_path) -> None:
    run = tmp_path / "run"
    assert not is_beginning(run)
    run.mkdir()
    assert is_beginning(run)
    (run / "environment.json").touch()
    assert not is_beginning(run)  # anybody's folder
    (run / ".replaces").touch()
    assert is_beginning(run)
    (run / ".config.yaml.0123abcd.partial").touch()
    assert is_beginning(run)
    (run / "config.yaml").touch()
    assert not is_beginning(run)
    run.rename(aside_of(run))  # stopped right after the older run was set aside: who reads it finds it
    assert RunFolder.open(run).path == run
    assert not aside_of(run).exists()


def test_one_writer_at_a_time(tmp_path) -> None:
    def hold() -> int:
        with locked(tmp_path / "it", what="it"):
            (tmp_path / "held").touch()
            time.sleep(60)
        return 0

    process = forks.forked(hold, log=tmp_path / "log")
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(InUseError, match="another command is writing it"), locked(tmp_path / "it", what="it"):
        pass
    os.kill(process, signal.SIGKILL)
    assert forks.finished(process) == -signal.SIGKILL
    with locked(tmp_path / "it", what="it"):  # what a killed process leaves locks nothing
        assert (tmp_path / ".it.lock").exists()
    assert not (tmp_path / ".it.lock").exists()


def test_extract_overwrite_does_not_touch_a_store_that_is_being_written(verbs, tmp_path) -> None:
    verb = verbs.get("extract --overwrite") or pytest.skip("the extra `images` is not installed")
    case = forks.Case(verb, tmp_path / "case")
    with locked(case.target, what="the store"):
        code = forks.run_forked(lambda: verb.command(case.folder), log=tmp_path / "log")
    assert code == 70
    assert "another process is writing this feature store" in (tmp_path / "log").read_text()
    assert forks.result_of(case.target) == case.older


def test_commands_that_make_a_version_at_once_both_count(verbs, shared, tmp_path) -> None:
    """Three real processes: three versions, and the newest has all classes."""
    shutil.copytree(shared / "run", tmp_path / "run")
    vector = ["--attributes", str(shared / "vector.npy")]
    names = ["one", "two", "three"]
    commands = [["add-class", str(tmp_path / "run"), "--name", name, *vector] for name in names]
    started = [
        forks.forked(lambda words=words: main(words), log=tmp_path / f"log-{number}")
        for number, words in enumerate(commands)
    ]
    codes = [forks.finished(process) for process in started]
    assert codes == [0, 0, 0], [(tmp_path / f"log-{number}").read_text() for number in range(3)]
    assert versions_of(tmp_path / "run") == [1, 2, 3]
    assert set(names) <= set(Recognizer.from_run(tmp_path / "run").known_names)
    parents = [
        json.loads((tmp_path / "run" / "versions" / str(k) / "history.json").read_text())["parent"]
        for k in (1, 2, 3)
    ]
    assert parents == [0, 1, 2]
    assert [path.name for path in (tmp_path / "run" / "versions").iterdir() if path.name.endswith("partial")] == []


def wait_until(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def command(words: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "dkgzsl", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_benchmark_with_its_workers(verbs, shared, tmp_path, number, code) -> None:
    words = ["benchmark", "--datasets", str(shared / "world"), "--methods", "closed-form", "--seeds", "40"]
    words += ["--jobs", "2", "--out", str(tmp_path / "b")]
    process = command(words)
    assert wait_until(lambda: list((tmp_path / "b" / "cells").glob("*.json")), 60)
    assert len(forks.children_of(process.pid)) >= 2
    started = time.monotonic()
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert time.monotonic() - started < PROMPT
    assert process.returncode == code
    assert error == f"interrupted\nwhat is done is kept: the same command with --out {tmp_path / 'b'} goes on\n"
    assert wait_until(lambda: not forks.children_of(process.pid), 1)
    kept = sorted(path.name for path in (tmp_path / "b" / "cells").glob("*.json"))
    assert 0 < len(kept) < 40
    for path in (tmp_path / "b" / "cells").glob("*.json"):
        assert "error" not in json.loads(path.read_text())


def test_a_worker_ends_when_its_parent_is_killed(verbs, shared, tmp_path) -> None:
    words = ["benchmark", "--datasets", str(shared / "world"), "--methods", "closed-form", "--seeds", "40"]
    process = command([*words, "--jobs", "2", "--out", str(tmp_path / "b")])
    assert wait_until(lambda: list((tmp_path / "b" / "cells").glob("*.json")), 60)
    process.kill()
    process.communicate(timeout=30)
    assert wait_until(lambda: not forks.children_of(process.pid), 2)


def test_a_signal_ends_a_computation_that_does_not_listen(tmp_path) -> None:
    """A verb that swallows the exception, as a library in the middle of a computation does."""
    (tmp_path / "stubborn.py").write_text(
        "import sys, time\nimport dkgzsl.cli.train as t\nfrom dkgzsl.cli.main import main\n"
        "from dkgzsl.writing import going_on\n"
        "def run(config):\n    with going_on('go on like this'):\n"
        "        while True:\n            try:\n                print('begun', flush=True)\n"
        "                time.sleep(60)\n"
        "            except BaseException:\n                pass\n"
        "t.run = run\nsys.argv = ['dkgzsl', 'train', 'numbers']\nsys.exit(main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, tmp_path / "stubborn.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert time.monotonic() - started < PROMPT
    assert process.returncode == 143
    assert error == "\ninterrupted\ngo on like this\n"


def test_a_signal_ends_train_and_its_line_goes_on(verbs, shared, tmp_path) -> None:
    words = ["train", str(shared / "world"), *kills.FEW, "--closed-form.ridge", "0.1", "--seeds", "8"]
    process = command([*words, "--out", str(tmp_path / "run")])
    assert wait_until(lambda: list((tmp_path / "run" / "seeds").glob("*.json")), 60)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert time.monotonic() - started < PROMPT
    assert process.returncode == 130
    assert error.endswith(f"interrupted\nto continue the run: dkgzsl train --resume --out {tmp_path / 'run'}\n")
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 0


def test_a_file_is_written_whole_or_not_at_all_at_each_step(tmp_path) -> None:
    def begin(folder: Path) -> None:
        write_whole(folder / "file", "old")

    def write(folder: Path) -> int:
        write_whole(folder / "file", "new")
        return 0

    verb = forks.Verb("write", begin, write, "file")
    truth, steps, _ = forks.undisturbed(verb, tmp_path / "undisturbed")
    assert steps == 4  # to the disk, the name, the folder to the disk, no draft left
    for at in range(1, steps + 1):
        case = forks.Case(verb, tmp_path / "case", truth)
        case.stop(at)
        assert (case.folder / "file").read_text() == ("old" if at < 3 else "new")


def test_the_table_sums_the_parts(tmp_path) -> None:
    lines = [
        {"verb": "a", "kind": "kill", "at": 0, "kills": 3, "fault": None},
        {"verb": "a", "kind": "kill", "at": 1, "kills": 1, "fault": "torn"},
        {"verb": "b", "kind": "stop", "at": 1, "kills": 1, "fault": None},
    ]
    assert kills.table(lines).splitlines()[2:] == [
        "| a | 4, 2 | 1 | 0 | 0 |", "| b | 0, 0 | 0 | 1 | 1 |", "| all | 4, 2 | 1 | 1 | 1 |",
    ]  # fmt: skip
    np.testing.assert_equal(len(kills.table([]).splitlines()), 3)
