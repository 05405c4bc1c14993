"""Versions of a run: what they are compared with, and what two people who save get."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dkgzsl.app.session import Session
from dkgzsl.cli.main import main
from dkgzsl.display import percent
from dkgzsl.inference.new_classes import Described
from dkgzsl.inference.recognizer import Recognizer, save_version
from dkgzsl.runs.folder import versions_of
from worlds import ATTRIBUTES, ONE_WAY, world_folder

FEW = ["--closed-form.components", "20", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.01"]
FEW += ["--closed-form.kernel-width", "0", "--closed-form.episodes", "off", "--report", "off"]
FEW += ONE_WAY


@pytest.fixture
def data(tmp_path) -> str:
    return str(world_folder(tmp_path / "world"))


def train(data: str, out: Path, *words: str) -> str:
    assert main(["train", data, *words, "--out", str(out)]) == 0
    return str(out)


def vector(folder: Path, seed: int = 0) -> str:
    file = folder / f"vector-{seed}.npy"
    np.save(file, np.random.default_rng(seed).random(ATTRIBUTES))
    return str(file)


def evaluated(capsys, run: str, *words: str) -> tuple[dict, str]:
    capsys.readouterr()
    assert main(["evaluate", run, *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert main(["evaluate", run, *words]) == 0
    return result, capsys.readouterr().out


def test_a_version_is_compared_with_a_baseline_of_its_own_classes(capsys, data, tmp_path) -> None:
    """The baseline's row is what a run of the baseline itself gives, when it gets the same classes."""
    run = train(data, tmp_path / "run", *FEW, "--baseline", "eszsl")
    peer = train(data, tmp_path / "peer", "--method", "eszsl", "--baseline", "none", "--report", "off")
    add = ["--name", "late", "--attributes", vector(tmp_path)]
    for folder in (run, peer):
        assert main(["add-class", folder, *add]) == 0
        assert main(["remove-class", folder, "--name", "class_13"]) == 0
    for version in ("1", "2"):
        expected, _ = evaluated(capsys, peer, "--version", version)
        result, printed = evaluated(capsys, run, "--version", version)
        assert result["version"] == int(version)
        row = next(line.split() for line in printed.splitlines() if line.startswith("eszsl"))
        names = ("t1", "u", "s", "h", "h_calibrated", "ausuc")
        assert row[1:] == [percent(expected["metrics"][name]["mean"]) for name in names]
    assert "version 2: removed class_13 (made from version 1); 16 classes" in printed
    _, printed = evaluated(capsys, run, "--version", "1")
    assert "version 1: added late (made from version 0); 17 classes" in printed
    plain, printed = evaluated(capsys, run, "--version", "0")
    assert "version" not in plain
    assert "made from version" not in printed


def test_a_run_without_a_baseline_says_so(capsys, data, tmp_path) -> None:
    run = train(data, tmp_path / "run", *FEW, "--baseline", "none")
    assert main(["add-class", run, "--name", "late", "--attributes", vector(tmp_path)]) == 0
    _, printed = evaluated(capsys, run)
    assert "no baseline: the run has none" in printed
    assert "eszsl" not in printed


def added(session: Session, name: str, seed: int, missing: int = 0) -> Session:
    return session._with(name, Described(np.random.default_rng(seed).random(ATTRIBUTES), missing))


def test_two_people_who_save_get_two_versions_and_the_newest_has_both_classes(data, tmp_path) -> None:
    run = Path(train(data, tmp_path / "run", *FEW, "--baseline", "none"))
    one, other = added(Session.open(run), "first", 1), added(Session.open(run), "second", 2, missing=ATTRIBUTES)
    own = other.recognizer.model.semantics[other.recognizer.number_of("second")]
    one, other = one.saved(), other.saved()
    assert (one.parent, one.note) == (1, None)
    assert other.parent == 2
    assert "version 1 was saved meanwhile" in other.note
    assert versions_of(run) == [1, 2]
    known = [Recognizer.from_run(run, number).known_names for number in (1, 2)]
    assert ["first" in names for names in known] == [True, True]
    assert ["second" in names for names in known] == [False, True]
    newest = Recognizer.from_run(run)
    np.testing.assert_array_equal(newest.model.semantics[newest.number_of("second")], own)
    assert newest.record.sparse == (newest.number_of("second"),)  # what is known of it is kept
    assert "first" in other.recognizer.known_names  # on the second one's page, too
    third = added(other, "third", 3).saved()
    assert (third.parent, third.note) == (3, None)
    history = json.loads((run / "versions" / "2" / "history.json").read_text())
    assert (history["parent"], history["classes"]) == (1, ["second"])


def test_a_class_of_the_same_name_is_not_lost_and_the_newest_says_what_it_lacks(data, tmp_path) -> None:
    run = Path(train(data, tmp_path / "run", *FEW, "--baseline", "none"))
    one, other = Session.open(run), added(Session.open(run), "mine", 2)
    added(added(one, "mine", 1), "more", 3).saved()
    other = other.saved()
    assert "has a class mine, too" in other.note
    assert "it has not: more" in other.note
    assert versions_of(run) == [1, 2]
    assert "more" not in Recognizer.from_run(run).known_names


def test_an_older_version_that_was_opened_on_purpose_stays_apart(data, tmp_path) -> None:
    run = Path(train(data, tmp_path / "run", *FEW, "--baseline", "none"))
    added(Session.open(run), "first", 1).saved()
    saved = added(Session.open(run, 0), "second", 2).saved()
    assert saved.note is None
    assert "first" not in Recognizer.from_run(run).known_names


def test_versions_that_are_saved_at_once_all_load(data, tmp_path) -> None:
    run = Path(train(data, tmp_path / "run", *FEW, "--baseline", "none"))
    start = Recognizer.from_run(run, 0)

    def save(number: int) -> int:
        made = start.with_class(f"new {number}", np.random.default_rng(number).random(ATTRIBUTES))
        return save_version(run, made, parent=0, change={"action": "add-class", "classes": [f"new {number}"]})

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(save, range(8)))
    assert sorted(numbers) == list(range(1, 9)) == list(versions_of(run))
    for number, version in enumerate(numbers):
        assert f"new {number}" in Recognizer.from_run(run, version).known_names
