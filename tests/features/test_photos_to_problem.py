"""From a folder of photos to a loaded problem, by the verbs a person types."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dkgzsl.cli.main import main
from dkgzsl.data.load import load_dataset
from dkgzsl.features.store import open_store


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("crow", "ox", "yak"):
        (tmp_path / "mine" / "images" / name).mkdir(parents=True)
        for k in range(5):
            pixels = rng.integers(0, 256, (90, 70, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / "images" / name / f"{k}.jpg")
    (tmp_path / "mine" / "images" / "ox" / "3.jpg").write_text("no picture")
    (tmp_path / "mine" / "attributes.csv").write_text("class,tail,wings\ncrow,0,1\nox,1,0\nyak,1,0.2\nemu,0,0.5\n")
    (tmp_path / "mine" / "classes.csv").write_text("class,role\ncrow,seen\nox,seen\nyak,unseen\nemu,unseen\n")
    return tmp_path / "mine"


@pytest.fixture
def weights(tmp_path) -> Path:
    import timm

    torch.manual_seed(0)
    state = timm.create_model("test_vit", pretrained=False).state_dict()
    save_file({name: tensor.half() for name, tensor in state.items()}, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_import_extract_load(folder, weights, tmp_path, capsys):
    problem, store = tmp_path / "p", tmp_path / "s"
    assert main(["data", "import", str(folder), "--semantics", "attributes", "--out", str(problem), "--json"]) == 0
    imported = json.loads(capsys.readouterr().out)
    assert imported["classes"] == {"seen": 2, "unseen": 2}
    assert imported["images"] == 15
    words = ["extract", str(problem), "--backbone", "test_vit", "--weights", str(weights), "--out", str(store)]
    assert main([*words, "--image-size", "64", "--batch-size", "4", "--device", "cpu", "--json"]) == 0
    said = capsys.readouterr()
    extracted = json.loads(said.out)
    assert extracted["shape"] == [15, 17, 64]
    assert extracted["unreadable"] == [{"path": "images/ox/3.jpg", "why": "not an image"}]
    assert "skipped: images/ox/3.jpg: not an image" in said.err
    assert "\x1b[" not in said.err  # no progress bar off a terminal
    loaded = load_dataset(problem, features=store)
    assert loaded.has_regions
    assert loaded.features.shape == (15, 17, 64)
    assert len(loaded.parts.trainval) == 7 or len(loaded.parts.test_seen) == 1  # of ten, one unreadable
    assert [loaded.class_names[k] for k in loaded.unseen_classes] == ["emu", "yak"]


def test_mistakes_leave_nothing_behind(folder, weights, tmp_path, capsys):
    problem, store = tmp_path / "p", tmp_path / "s"
    assert main(["extract", str(folder), "--backbone", "test_vit", "--out", str(store)]) == 2
    assert "dkgzsl data import" in capsys.readouterr().err
    assert main(["data", "import", str(folder), "--semantics", "attributes", "--out", str(problem)]) == 0
    words = ["extract", str(problem), "--weights", str(weights), "--out", str(store)]
    assert main([*words, "--backbone", "test_resnet"]) == 2
    assert "do not fit the backbone" in capsys.readouterr().err
    assert main([*words, "--backbone", "test_vit", "--image-size", "65"]) == 2
    assert not store.exists()


def test_a_class_that_was_lost_is_named_by_extract_and_by_train(folder, weights, tmp_path, capsys):
    problem, store = str(tmp_path / "p"), str(tmp_path / "s")
    assert main(["data", "import", str(folder), "--semantics", "attributes", "--out", problem]) == 0
    for path in (folder / "images" / "ox").iterdir():
        path.write_bytes(b"")
    words = ["extract", problem, "--backbone", "test_vit", "--weights", str(weights), "--out", store]
    assert main([*words, "--image-size", "64", "--device", "cpu", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["images"] == 15
    assert "class ox: 5 files, none can be read (the file is empty)" in said.err
    assert main(["train", problem, "--features", store, "--out", str(tmp_path / "run")]) == 2
    assert "class ox: 5 files, none can be read as an image (the file is empty)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_photo_whose_name_is_no_utf8_is_extracted(folder, weights, tmp_path):
    (folder / "images" / "ox" / "0.jpg").rename(Path(os.fsdecode(os.fsencode(folder) + b"/images/ox/caf\xe9.jpg")))
    problem, store = str(tmp_path / "p"), str(tmp_path / "s")
    assert main(["data", "import", str(folder), "--semantics", "attributes", "--out", problem]) == 0
    words = ["extract", problem, "--backbone", "test_vit", "--weights", str(weights), "--out", store]
    assert main([*words, "--image-size", "64", "--device", "cpu"]) == 0
    entries = {entry.path: entry.why for entry in open_store(Path(store)).entries}
    assert entries[r"images/ox/caf\xe9.jpg"] is None
