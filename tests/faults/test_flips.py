"""Flipped bits: in every file of a run and of a store they give an error or the same answers, never other ones."""

import logging
import os
import random
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from dkgzsl.checksums import Checksums, check_files
from dkgzsl.cli.main import main
from dkgzsl.errors import DataError, DkgzslError, RunError
from dkgzsl.features.store import INDEX, RECORD, TOKENS, add_checksums, open_store
from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.runs.folder import RunFolder
from faults_flips import QUICK, SHAPE, flip, flip_at, make_run, photos, results_of, said_of, write_store

FLIPS = int(os.environ.get("DKGZSL_FLIPS", "4"))
"""Flips a file; `experiments/faults.py flips` takes more."""
PHOTOS = photos()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of two seeds with a baseline, a page, and a version with a class of its own."""
    path = tmp_path_factory.mktemp("numbers") / "run"
    make_run(path)
    return path


def test_a_flip_in_a_run_is_an_error_or_changes_nothing(run, tmp_path) -> None:
    copy, generator = tmp_path / "run", random.Random(0)
    shutil.copytree(run, copy)
    expected, found = results_of(copy), {"error": 0, "same": 0}
    for file in sorted(path for path in copy.rglob("*") if path.is_file() and path.stat().st_size):
        for _ in range(FLIPS):
            at, bit = flip(file, generator)
            try:
                assert results_of(copy) == expected, f"bit {bit} of byte {at} of {file} changes answers silently"
                found["same"] += 1
                assert file.name in ("card.md", "report.html", "history.json", "checksums.json"), file
            except DkgzslError as error:
                said = str(error)
                found["error"] += 1
                assert file.name in said
            flip_at(file, at, bit)
    assert results_of(copy) == expected
    assert found["error"] > 10 * FLIPS


def test_damage_is_named_by_data_check_and_never_pushed(run, tmp_path, capsys) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert main(["data", "check", str(copy), "--deep"]) == 0
    assert "are as they were written" in capsys.readouterr().out
    flip(copy / "model-2.safetensors", random.Random(1))
    flip(copy / "versions/1/history.json", random.Random(1))
    assert main(["data", "check", str(copy), "--deep"]) == 2
    said = capsys.readouterr().out
    assert "model-2.safetensors is damaged" in said
    assert "history.json is damaged" in said
    assert main(["push", str(copy), str(tmp_path / "pushed")]) == 2
    assert "model-2.safetensors is damaged" in capsys.readouterr().err
    shutil.copy(run / "model-2.safetensors", copy)
    assert main(["push", str(copy), str(tmp_path / "pushed")]) == 2
    assert "history.json is damaged" in capsys.readouterr().err
    shutil.copy(run / "versions/1/history.json", copy / "versions/1")
    assert not (tmp_path / "pushed").exists()
    assert main(["push", str(copy), str(tmp_path / "pushed")]) == 0
    assert main(["pull", str(tmp_path / "pushed"), "--out", str(tmp_path / "pulled")]) == 0
    pulled = tmp_path / "pulled"
    assert (
        Recognizer.from_run(pulled).scores(PHOTOS).tobytes() == Recognizer.from_run(run).scores(PHOTOS).tobytes()
    )
    assert check_files(pulled) is not None
    assert check_files(pulled / "versions/1") is not None


def test_a_missing_file_is_an_error(run, tmp_path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "in_distribution.safetensors").unlink()
    with pytest.raises(RunError, match=r"in_distribution\.safetensors is missing"):
        Recognizer.from_run(copy, 0)


def test_a_run_of_before_loads_with_one_line_of_warning(run, tmp_path, caplog, capsys) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "checksums.json").unlink()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            Recognizer.from_run(copy, 0)
    assert len(caplog.records) == 1
    assert "\n" not in caplog.text.strip()
    assert "has no checksums" in caplog.text
    assert main(["data", "check", str(copy), "--deep"]) == 0
    assert "--write-checksums adds them" in capsys.readouterr().out
    assert main(["data", "check", str(copy), "--deep", "--write-checksums"]) == 0
    assert Checksums.read(copy).sha256 == Checksums.read(run).sha256


def test_a_finished_run_that_goes_on_is_verified_and_sealed_again(run, tmp_path, capsys) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    words = ["train", "numbers", *QUICK, "--seeds", "2", "--out", str(copy), "--resume"]
    flip(copy / "seeds/1.json", random.Random(0))
    assert main(words) == 2
    assert "seeds/1.json is damaged" in capsys.readouterr().err
    shutil.copy(run / "seeds/1.json", copy / "seeds/1.json")
    RunFolder(copy).unseal()  # as a kill would leave it, before result.json is written again
    with pytest.raises(RunError, match="not finished"):
        RunFolder.open(copy).read_result()
    assert main(words) == 0
    assert RunFolder.open(copy).read_result()["seeds"] == [0, 1]


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float16)


@pytest.fixture
def store(tmp_path, tokens) -> Path:
    write_store(tmp_path / "store", range(SHAPE[0]), tokens)
    return tmp_path / "store"


def test_a_flip_in_a_store_is_an_error_or_changes_nothing(store) -> None:
    expected, generator = said_of(open_store(store)), random.Random(0)
    for file in (store / TOKENS, store / INDEX, store / RECORD):
        errors = 0
        for _ in range(20 * FLIPS):
            at, bit = flip(file, generator)
            try:
                assert said_of(open_store(store)) == expected, f"bit {bit} of byte {at} of {file.name}"
            except DataError:
                errors += 1
            flip_at(file, at, bit)
        assert errors > 15 * FLIPS
    assert said_of(open_store(store)) == expected


def test_only_what_is_read_is_checked_and_the_row_is_named(store, tokens, capsys) -> None:
    start = (store / TOKENS).stat().st_size - tokens.nbytes
    flip_at(store / TOKENS, start + 2 * (5 * 32 + 8 + 3), 4)  # the first region of row 5
    found = open_store(store).tokens
    assert np.array_equal(found[:, 0], tokens[:, 0])
    assert np.array_equal(found[[1, 4]], tokens[[1, 4]])
    assert np.array_equal(found[np.arange(9) % 2 == 0], tokens[::2])
    for read in (lambda: found[5], lambda: found[4:6], lambda: found[[5, 0]], lambda: found[5, 1:3]):
        with pytest.raises(DataError, match=r"image 5 \(p/5.jpg\) are damaged"):
            read()
    with pytest.raises(DataError):
        np.asarray(found)
    assert main(["data", "check", str(store), "--deep"]) == 2
    assert "row 5 (p/5.jpg)" in capsys.readouterr().out


@pytest.mark.parametrize("done", range(0, 9, 2))
def test_a_resumed_store_has_the_same_checksums(store, tokens, tmp_path, done) -> None:
    other = tmp_path / "other"
    if done:
        write_store(other, range(done), tokens)
        with (other / INDEX).open("ab") as file:  # killed in the middle of a line
            file.write(b'{"path": "p/')
    write_store(other, range(9), tokens)
    for name in (TOKENS, INDEX, RECORD):
        assert (other / name).read_bytes() == (store / name).read_bytes()
    sums = [(zlib.crc32(row[0].tobytes()), zlib.crc32(row[1:].tobytes())) for row in tokens]
    assert [tuple(entry.sums) for entry in open_store(other).entries] == sums


def test_a_store_of_before_loads_with_a_warning_and_gets_checksums(store, tokens, caplog) -> None:
    whole = (store / INDEX).read_bytes()
    lines = [line.split(', "crc32"')[0] + "}\n" for line in whole.decode().splitlines()]
    (store / INDEX).write_text("".join(lines))
    with caplog.at_level(logging.WARNING):
        old = open_store(store)
    assert len(caplog.records) == 1
    assert np.array_equal(old.tokens, tokens)
    write_store(store, range(9), tokens)  # complete: nothing is to be done, and nothing is mixed
    add_checksums(old)
    assert (store / INDEX).read_bytes() == whole
    (store / INDEX).write_text("".join([*whole.decode().splitlines(keepends=True)[:8], lines[8]]))
    with pytest.raises(DataError, match="checksums are missing"):
        open_store(store)
