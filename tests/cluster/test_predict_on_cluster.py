"""Folders of photos predicted by workers of a cluster: the same lines as in this process."""

import json
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("timm", reason="the extra `images` is not installed")

sys.path.append(str(Path(__file__).parents[1] / "inference"))

from photo_runs import photo_run

from dkgzsl.cli.main import main
from dkgzsl.errors import DataError
from dkgzsl.inference.photos import refuse_unseen


def test_folders_of_photos_are_predicted_alike(two_workers, tmp_path, capsys) -> None:
    made = photo_run(tmp_path / "made")
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, photo in enumerate(made.photos):
        shutil.copy(photo, folder / f"{number:02}.png")
    (folder / "07.png").write_bytes(b"no image")
    words = ["predict", str(made.run), str(folder), "--weights", str(made.weights), "--device", "cpu"]
    words += ["--batch-size", "4", "--json"]
    capsys.readouterr()
    assert main(words) == 0
    alone = capsys.readouterr()
    assert main([*words, "--on", "ray"]) == 0
    there = capsys.readouterr()
    assert len(alone.out.splitlines()) == len(made.photos)
    lines = [json.loads(line) for line in alone.out.splitlines()]
    assert [line["error"] for line in lines if "error" in line] == ["not an image"]
    assert there.out == alone.out
    assert there.err == alone.err
    assert main([*words, "--on", "ray", "--overlay", str(tmp_path / "o")]) == 2
    assert "without --overlay" in capsys.readouterr().err


def test_photos_that_only_this_machine_has_are_refused(tmp_path) -> None:
    photo = tmp_path / "one.jpg"
    refuse_unseen([(photo, "cannot be opened: No such file or directory")])  # it is nowhere
    photo.write_bytes(b"no image")
    refuse_unseen([(photo, "not an image")])
    with pytest.raises(DataError, match=r"one\.jpg cannot be opened"):
        refuse_unseen([(photo, "cannot be opened: No such file or directory")])
