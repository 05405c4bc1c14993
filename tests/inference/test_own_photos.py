"""From an Excel table to a deployed ONNX: every command is run as the one before printed it."""

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from dkgzsl.cli.main import main
from dkgzsl.inference.recognizer import Recognizer
from inference.own_photos import DESCRIBED, SEEN, own_photos, tiny_weights

for _module in ("timm", "openpyxl", "onnx", "onnxruntime"):
    pytest.importorskip(_module, reason="needs the extras images, tables and export")

PAGE = Path(__file__).parents[2] / "docs" / "own-photos.md"
VERBS = ["data import", "data check", "extract", "train", "predict", "add-class", "export", "run_onnx.py"]


def next_of(printed: str) -> str:
    """The command on the last line `next`, which holds nothing else."""
    [line] = [line for line in printed.splitlines() if re.match(r"next\s", line)]
    return re.sub(r"^next\s+", "", line)


def verb_of(line: str) -> str:
    words = shlex.split(line)
    if words[0] != "dkgzsl":
        return Path(words[1]).name
    return " ".join(words[1:3]) if words[1] == "data" else words[1]


def walk(line: str) -> tuple[list[str], str]:
    """Run a command and whatever each prints next, up to one that prints no next; the lines, the last's output."""
    lines = []
    while True:
        lines.append(line)
        program, *words = shlex.split(line)
        if program != "dkgzsl":
            done = subprocess.run([program, *words], capture_output=True, text=True, check=True)
            return lines, done.stdout
        with io.StringIO() as said, redirect_stdout(said), redirect_stderr(said):
            assert main(words) == 0, line
            line = next_of(said.getvalue())


class Walked(NamedTuple):
    """The whole walk in a working folder: its commands, and what the last one printed."""

    work: Path
    lines: list[str]
    printed: str


def first_command(own: Path) -> str:
    weights = str(own.parent / "tiny.safetensors")
    words = ["dkgzsl", "data", "import", "my photos", "--semantics", "attributes", "--out", "problem"]
    return shlex.join([*words, "--backbone", "test_resnet", "--weights", weights, "--image-size", "64"])


@pytest.fixture(scope="module")
def whole_walk(tmp_path_factory) -> tuple[Walked, Path]:
    """A working folder with `my photos`, a folder whose name has a blank, and weights beside it; and a copy."""
    place = tmp_path_factory.mktemp("walk") / "place"
    work = place / "work"
    work.mkdir(parents=True)
    own_photos(work / "my photos")
    tiny_weights(place / "tiny.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.setenv("DKGZSL_HOME", str(place / "home"))
        walked = Walked(work, *walk(first_command(work)))
    return walked, Path(shutil.copytree(place, place.with_name("copy")))


@pytest.fixture
def own(whole_walk, monkeypatch, capsys) -> Walked:
    """The walk as it has ended, under the same path for every test, which may change the folder."""
    walked, copy = whole_walk
    place = walked.work.parent
    shutil.rmtree(place)
    shutil.copytree(copy, place)
    monkeypatch.chdir(walked.work)
    monkeypatch.setenv("DKGZSL_HOME", str(place / "home"))
    capsys.readouterr()
    return walked


def test_eight_commands_from_a_table_to_a_deployed_model(capsys, own) -> None:
    _, lines, printed = own
    assert [verb_of(line) for line in lines] == VERBS
    assert len(lines) <= 8
    assert not [line for line in lines[2:] if "--weights" in line and "extract" not in line]
    # what the deployed file says is what the package says
    said = json.loads(printed)
    run = Path(shlex.split(lines[4])[2])
    photo = Path(said["image"])
    assert photo.parent.name == "green round"
    capsys.readouterr()
    assert main(["predict", str(run), str(photo), "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)
    assert said["class"] == (ours["class"] or "none of these")
    if ours["class"] is not None:
        assert said["probability"] == pytest.approx(ours["probability"], abs=1e-4)
    names = Recognizer.from_run(run).known_names
    assert {*(name.replace(" ", "_") for name in (*SEEN, *DESCRIBED)), "new_class"} <= {
        name.replace(" ", "_") for name in names
    }


def test_a_run_and_its_data_are_moved_and_a_colleague_gets_them(capsys, own, monkeypatch) -> None:
    work, lines, _ = own
    run = Path(shlex.split(lines[4])[2])
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    before = json.loads(capsys.readouterr().out)["metrics"]
    moved = work.rename(work.with_name("moved"))
    monkeypatch.chdir(moved)
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == before
    photo = next((moved / "my photos" / "images" / "green round").iterdir())
    assert main(["predict", str(run), str(photo), "--json"]) == 0  # the weights are where they were
    capsys.readouterr()
    # what is named is taken, and what is not found is asked for by the option that names it
    (moved / "problem").rename(moved / "other")
    assert main(["evaluate", str(run)]) == 2
    assert f"dkgzsl evaluate {run} --data FOLDER" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--data", str(moved / "other"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == before
    [store] = moved.glob("problem-*")
    store.rename(moved / "store")
    assert main(["evaluate", str(run), "--data", str(moved / "other")]) == 2
    assert f"dkgzsl evaluate {run} --features STORE" in capsys.readouterr().err
    words = ["--data", str(moved / "other"), "--features", str(moved / "store"), "--json"]
    assert main(["evaluate", str(run), *words]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == before


def test_weights_that_are_gone_are_asked_for_by_name_and_hash(capsys, own) -> None:
    work, lines, _ = own
    run, weights = shlex.split(lines[4])[2], work.parent / "tiny.safetensors"
    photo = str(next((work / "my photos" / "images" / "red round").iterdir()))
    digest = json.loads((Path(run) / "recognizer.json").read_text())["images"]["weights"]["sha256"]
    elsewhere = weights.rename(work.parent / "copy.safetensors")
    export = ["export", run, "--out", "again.onnx"]
    photos = str(work / "my photos" / "images" / "red round")
    add = ["add-class", run, "--name", "other", "--set", "red=1", "--photos", photos]
    for words in (["predict", run, photo], export, add, ["app", run]):
        capsys.readouterr()
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "tiny.safetensors" in error
        assert digest[:16] in error
        assert "--weights FILE" in error
    assert main(["predict", run, photo, "--weights", str(elsewhere)]) == 0
    home = work.parent / "home" / "weights"
    home.mkdir(parents=True)
    elsewhere.rename(home / "tiny.safetensors")  # where the message said
    assert main(["predict", run, photo]) == 0
    tiny_weights(weights)  # the same file again
    (home / "tiny.safetensors").write_bytes(b"another")
    assert main(["predict", run, photo]) == 0
    weights.write_bytes(b"another, too")
    assert main(["predict", run, photo]) == 2
    assert "is another file now" in capsys.readouterr().err


def test_a_push_says_how_the_weights_are_had_and_leaves_old_versions_here(capsys, own, monkeypatch) -> None:
    work, lines, _ = own
    run = Path(shlex.split(lines[4])[2])
    assert main(["add-class", str(run), "--name", "late", "--set", "red=1", "round=1"]) == 0
    capsys.readouterr()
    assert main(["push", str(run), "./pushed"]) == 0
    printed = capsys.readouterr().out
    assert "versions   2; 1 more stays here (--history" in printed
    assert "tiny.safetensors (sha256 " in printed
    assert "hand the file over" in printed
    assert "tiny.safetensors (sha256 " in (work / "pushed" / "README.md").read_text()
    assert not (work / "pushed" / "versions" / "1").exists()
    assert (work / "pushed" / "versions" / "2" / "model.safetensors").is_file()
    home = str(work.parent)
    assert not [p for p in (work / "pushed").rglob("*") if p.is_file() and home.encode() in p.read_bytes()]
    assert "photo" not in json.loads((work / "pushed" / "environment.json").read_text())
    # the colleague: another machine, with neither weights nor photos of it
    (work.parent / "tiny.safetensors").rename(work.parent / "mail.safetensors")
    line = next_of(printed)
    words = shlex.split(line)[1:]
    assert main(words) == 0
    printed = capsys.readouterr().out
    folder = work.parent / "home" / "weights"
    assert f"put it into {folder}" in printed
    assert main(shlex.split(next_of(printed))[1:]) == 0
    folder.mkdir(parents=True)
    (work.parent / "mail.safetensors").rename(folder / "tiny.safetensors")
    pulled = words[words.index("--out") + 1]
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (70, 80, 3), np.uint8)).save("mine.png")
    assert main(["predict", pulled, "mine.png", "--json"]) == 0
    theirs, ours = Recognizer.from_run(Path(pulled)), Recognizer.from_run(run)
    assert "late" in theirs.known_names
    assert (theirs.in_distribution is None) == (ours.in_distribution is None)
    capsys.readouterr()
    assert main(["push", str(run), "./all", "--history", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"] == [1, 2]
    assert main(["push", str(run), "./first", "--version", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"] == []
    assert not (work / "first" / "versions").exists()


def test_the_page_shows_the_commands_that_are_printed(own) -> None:
    """The page's commands are those of the walk, by verb and option, in their order."""
    if not PAGE.is_file():
        pytest.skip(f"the page is not here: {PAGE}")
    lines = own.lines
    block = PAGE.read_text(encoding="utf-8").partition("```console\n")[2].partition("```")[0]
    shown = [line for line in block.splitlines() if line.startswith(("dkgzsl ", "python "))]
    assert [verb_of(line) for line in shown] == VERBS

    def flags(line: str) -> set[str]:
        return {word for word in shlex.split(line) if word.startswith("--")}

    for line, printed in zip(shown, lines, strict=True):
        assert flags(line) <= flags(printed), (line, printed)


@pytest.mark.skipif(sys.platform == "win32", reason="paths are written for a POSIX shell")
def test_what_is_printed_is_quoted_for_a_shell(own) -> None:
    lines = own.lines
    done = subprocess.run(["/bin/sh", "-n", "-c", "\n".join(lines)], capture_output=True, check=False)
    assert done.returncode == 0
    assert any("'" in line for line in lines[3:])  # the photo's path has a blank
