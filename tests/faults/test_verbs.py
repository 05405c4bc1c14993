"""Every verb that writes against every fault: stops, limits of file sizes, a full disk, lost rights, signals."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import faults_forks as forks
import faults_kills as kills
from dkgzsl.cli.main import VERBS, main
from faults_verbs import WITHOUT_OUTPUT

if not hasattr(os, "fork"):
    pytest.skip("faults are planted in forked processes", allow_module_level=True)

STOPS = {
    "train": (1, 3, 5, 11, 60, -2),
    "train --overwrite": (2, 5, 9, 12, -20, -9, -1),
    "extract": (3, -2),
    "extract --overwrite": (1, 2, 4, 8, 15, -8, -6, -4, -2),
    "push": (2, -3),
    "push --overwrite": (1, 3, 9, -12, -10, -8, -4, -1),
    "pull": (2, -3),
    "add-class": (1, 4, 12, -8, -5, -1),
    "remove-class": (4, -5),
    "adapt": (3, -9, -6),
    "predict --out": (2, -4),
    "predict --out, replaced": (-4, -3),
    "benchmark": (2, 4, -1),
    "data convert": (2, -4),
    "synthesize": (2, -4, -3),
    "report": (-4, -3),
    "report of two": (-3,),
    "data check --write-checksums": (1, 2, -1),
    "app: save": (4, -6, -3),
    "export": (-4, -3, -1),
    "data import": (2, -4, -2),
    "data import --overwrite": (2, -8, -4, -2),
    "data describe": (2, 4, 6, -2),
    "data describe --overwrite": (2, 4, 6, 8, 10, -2),
    "reproduce": (4, -2),
    "tune": (3, 5),
    "data fetch": (3, -6, -3, -1),
    "data fetch, features": (-5, -3, -2),
}
"""Verbs that write, and steps that each is stopped at; negative ones are counted from the end. All steps:
`experiments/faults_kills.py --stops`."""
FEWER_STOPS = {
    "train": (5, -2),
    "train --overwrite": (-9,),
    "benchmark": (4,),
    "reproduce": (-2,),
    "adapt": (-6,),
}
"""Steps of the verbs that take longest, outside of the tier `long`."""
LONG_SIGNALS = {"train --overwrite", "reproduce", "adapt", "tune"}
"""Slow verbs whose signals only the tier `long` sends: they go the way of `train` and `benchmark`."""
EXTRAS = {"extract": "timm", "extract --overwrite": "timm", "export": "onnxruntime", "tune": "optuna"}
FUNCTIONS = {"extract", "extract --overwrite", "app: save"}
"""Called below the command line, which would turn their errors into exit code 2, and take over signals."""
NO_ROOM = re.compile(
    "File too large|No space left|no space left|disk is full|not enough room|are free", re.IGNORECASE
)
PROMPT = 10.0
"""Seconds after a signal; half a second on a quiet machine, and machines are noisy."""

every_verb = pytest.mark.parametrize("name", list(STOPS))


@pytest.fixture
def verb(name: str, verbs: dict[str, forks.Verb]) -> forks.Verb:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason="the extra of this verb is not installed")
    return verbs[name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_every_verb_is_in_the_table_or_writes_nothing(verbs) -> None:
    def verb_of(name: str) -> str:
        return next(v for v in sorted(VERBS, key=len, reverse=True) if re.match(rf"{v}\b", name))

    assert {verb_of(name) for name in STOPS} | set(WITHOUT_OUTPUT) == set(VERBS)
    assert set(STOPS) - set(EXTRAS) <= set(verbs) <= set(STOPS)


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        *(pytest.param(name, stops, id=name) for name, stops in (STOPS | FEWER_STOPS).items()),
        *(pytest.param(name, STOPS[name], marks=pytest.mark.long, id=f"{name}-all") for name in FEWER_STOPS),
    ],
)
def test_a_planted_stop_loses_nothing(verb, undisturbed, tmp_path, name, stops) -> None:
    truth, steps = undisturbed(name)
    for at in stops:
        kills.planted_stop(verb, tmp_path / "case", at if at > 0 else steps + 1 + at, truth)


def said_of(work) -> tuple[int, str]:
    """Exit code and output of a forked process; a pipe has no limit of size, and needs no room."""
    reads, writes = os.pipe()
    code = forks.run_forked(work, log=Path(f"/dev/fd/{writes}"))
    os.close(writes)
    with os.fdopen(reads) as output:
        return code, output.read()


def fails(case: forks.Case, pattern: str | re.Pattern[str], work=None) -> None:
    """The command fails in our own words, and the older result is whole."""
    code, said = said_of(work or (lambda: case.verb.command(case.folder)))
    function = case.verb.name in FUNCTIONS
    assert code == (70 if function else 2), said
    assert re.search(pattern, said), said
    assert "Traceback" not in said or function, said
    case.check_whole()


@every_verb
def test_a_limit_of_file_sizes(verb, undisturbed, tmp_path, name) -> None:
    case = forks.Case(verb, tmp_path / "case", undisturbed(name)[0])

    def limited() -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        return verb.command(case.folder)

    fails(case, NO_ROOM, limited)


@every_verb
def test_a_full_disk_and_one_that_cannot_be_written(verb, undisturbed, small_disk, name) -> None:
    case = forks.Case(verb, small_disk / "case", undisturbed(name)[0])
    case.log = small_disk.with_name("log")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**16, 2**12):
            while room(small_disk) >= size:
                file.write(bytes(size))
    fails(case, NO_ROOM)
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True, capture_output=True)
    fails(case, "(?i)read-only")
    subprocess.run([*remount[:2], "remount,rw", str(small_disk)], check=True, capture_output=True)
    filler.unlink()
    case.go_on()


def room(disk: Path) -> int:
    return shutil.disk_usage(disk).free


@every_verb
def test_a_folder_that_has_gone(verb, tmp_path, name) -> None:
    case = forks.Case(verb, tmp_path / "case")
    case.folder.rename(tmp_path / "away")
    case.folder.touch()  # a file has its name: no verb can make the folder again
    code, said = said_of(lambda: verb.command(case.folder))
    assert code == (70 if name in FUNCTIONS else 2), said
    assert "Traceback" not in said or name in FUNCTIONS, said
    assert forks.Case(verb, tmp_path / "again").older == case.result(tmp_path / "away" / verb.target)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name in LONG_SIGNALS else ())
        for name in STOPS
        if name not in FUNCTIONS
    ],
)
def test_signals(verb, undisturbed, tmp_path, monkeypatch, name) -> None:
    """In the middle of the command, and towards its end: exit codes, what is said, how long it takes, no child."""
    truth, steps = undisturbed(name)
    stamp = tmp_path / "signalled"

    def of_the_process(words: list[str]) -> int:
        sys.argv = ["dkgzsl", *words]
        return main()

    for number, code, at in ((signal.SIGINT, 130, steps // 2), (signal.SIGTERM, 143, steps - steps // 4)):
        case = forks.Case(verb, tmp_path / "case", truth)  # a command that goes on has fewer steps

        def raised(number=number) -> None:
            stamp.write_text(str(time.monotonic()))
            os.kill(os.getpid(), number)

        def work(at=at, raised=raised, case=case) -> int:
            os.setsid()
            forks.main = of_the_process
            with forks.stopping(max(1, at), [0], raised):
                return verb.command(case.folder)

        process = forks.forked(work, log=tmp_path / f"log-{code}")
        found, said = forks.finished(process), (tmp_path / f"log-{code}").read_text()
        assert found == code, said
        assert time.monotonic() - float(stamp.read_text()) < PROMPT
        assert re.search(r"interrupted\n\w.+", said), said
        assert "Traceback" not in said
        assert not forks.children_of(process)
        case.check_whole()
