import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from dkgzsl.errors import ConfigError, DataError
from dkgzsl.features.backbones import build_backbone
from dkgzsl.features.extraction import extract
from dkgzsl.features.images import read_image
from dkgzsl.features.store import INDEX, open_store


def files_of(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(store.iterdir())}


def test_each_row_holds_the_tokens_of_its_image(tmp_path, photos, small_backbone):
    images = photos(5)
    result = extract(images, small_backbone, tmp_path / "s", batch_size=2)
    store = open_store(tmp_path / "s")
    assert result.shape == store.tokens.shape == (5, 1 + small_backbone.regions, small_backbone.channels)
    assert store.paths == tuple(images.paths)
    assert store.labels.tolist() == images.labels
    for path, row in zip(images.paths, store.tokens, strict=True):
        image, digest = read_image(images.root / path)
        pixels = torch.from_numpy(np.array(small_backbone.preprocessing.pixels(image)))[None]
        with torch.inference_mode():
            alone = small_backbone.tokens(small_backbone.preprocessing.scale(pixels))[0].numpy()
        np.testing.assert_allclose(row.astype(np.float32), alone, rtol=2e-3, atol=1e-3)
        assert digest in [entry.sha256 for entry in store.entries]


def test_the_record_says_how_the_tokens_were_made(tmp_path, photos, small_backbone):
    extract(photos(2), small_backbone, tmp_path / "s", batch_size=2)
    record = json.loads((tmp_path / "s" / "store.json").read_text())
    assert record["backbone"]["timm"] == "test_resnet"
    assert record["weights"]["source"] == "random"
    assert record["preprocessing"]["image_size"] == [64, 64]
    assert record["grid"] == list(small_backbone.grid)
    assert {"torch", "timm", "pillow"} <= record["libraries"].keys()
    assert not {"semantics", "attributes"} & record.keys()


def test_unreadable_images_are_skipped_and_the_others_do_not_notice(tmp_path, photos, small_backbone):
    images = photos(6)
    extract(images, small_backbone, tmp_path / "whole", batch_size=3)
    (images.root / images.paths[1]).write_text("no picture")
    content = (images.root / images.paths[4]).read_bytes()
    (images.root / images.paths[4]).write_bytes(content[: len(content) // 2])
    result = extract(images, small_backbone, tmp_path / "s", batch_size=3)
    store = open_store(tmp_path / "s")
    assert result.done == 6
    assert store.readable.tolist() == [True, False, True, True, False, True]
    assert store.entries[1].why == "not an image"
    assert store.entries[1].sha256 == sha256(b"no picture").hexdigest()
    assert "truncated" in (store.entries[4].why or "")
    assert not store.tokens[~store.readable].any()
    whole = open_store(tmp_path / "whole")
    np.testing.assert_array_equal(store.tokens[store.readable], whole.tokens[store.readable])


class Stop(Exception):
    pass


def stopping_after(number: int):
    def progress(done: int, _total: int) -> None:
        if done >= number:
            raise Stop

    return progress


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_an_interrupted_store_goes_on_to_the_same_bytes(tmp_path, photos, name):
    images, backbone = photos(11), build_backbone(name, random_seed=0)
    extract(images, backbone, tmp_path / "whole", batch_size=4)
    with pytest.raises(Stop):
        extract(images, backbone, tmp_path / "s", batch_size=4, progress=stopping_after(4))
    with pytest.raises(DataError, match="unfinished: 4 of 11"):
        open_store(tmp_path / "s")
    with (tmp_path / "s" / INDEX).open("a") as index:  # part of a batch, and part of a line
        index.write('{"path": "004.jpg", "label": 0, "sha256": "", "status": "done"}\n{"path": "0')
    result = extract(images, backbone, tmp_path / "s", batch_size=4)
    assert result.resumed == 4
    assert files_of(tmp_path / "s") == files_of(tmp_path / "whole")


def test_a_finished_store_is_left_as_it_is(tmp_path, photos, small_backbone):
    images = photos(3)
    extract(images, small_backbone, tmp_path / "s")
    before = files_of(tmp_path / "s")
    assert extract(images, small_backbone, tmp_path / "s").rate is None
    assert files_of(tmp_path / "s") == before


def test_other_settings_and_other_images_are_refused(tmp_path, photos, small_backbone):
    images = photos(3)
    extract(images, small_backbone, tmp_path / "s", batch_size=2)
    before = files_of(tmp_path / "s")
    with pytest.raises(ConfigError, match="batch_size, 2 there and 3 now"):
        extract(images, small_backbone, tmp_path / "s", batch_size=3)
    other = build_backbone("test_resnet", image_size=64, random_seed=1)
    with pytest.raises(ConfigError, match="another weights"):
        extract(images, other, tmp_path / "s", batch_size=2)
    fewer = replace(images, labels=[1, 1, 1])
    with pytest.raises(ConfigError, match="images_sha256"):
        extract(fewer, small_backbone, tmp_path / "s", batch_size=2)
    assert files_of(tmp_path / "s") == before
    extract(images, other, tmp_path / "s", batch_size=2, overwrite=True)
    assert open_store(tmp_path / "s").record["weights"]["seed"] == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path, photos, small_backbone):
    images = photos(1)
    with pytest.raises(DataError, match="something else"):
        extract(images, small_backbone, images.root, overwrite=True)
    assert [path.name for path in images.root.iterdir()] == list(images.paths)


def test_features_that_overflow_are_refused(tmp_path, photos):
    backbone = build_backbone("test_resnet", image_size=64, random_seed=0)
    for parameter in backbone.model.parameters():
        parameter.mul_(1e4)
    with pytest.raises(DataError, match="not finite"):
        extract(photos(2), backbone, tmp_path / "s")


def test_settings_out_of_range(tmp_path, photos, small_backbone):
    images = photos(1)
    with pytest.raises(ConfigError, match="at least 1"):
        extract(images, small_backbone, tmp_path / "s", batch_size=0)
    with pytest.raises(ConfigError, match="cannot be used"):
        extract(images, small_backbone, tmp_path / "s", device="abacus")
    with pytest.raises(ConfigError, match="float16"):
        extract(images, small_backbone, tmp_path / "s", device="cpu", precision="float16")
    assert not (tmp_path / "s").exists()


def test_bfloat16_is_near_float32(tmp_path, photos, small_backbone):
    images = photos(2)
    extract(images, small_backbone, tmp_path / "a", device="cpu")
    extract(images, small_backbone, tmp_path / "b", device="cpu", precision="bfloat16")
    a, b = (np.asarray(open_store(tmp_path / name).tokens, np.float32) for name in "ab")
    assert not np.array_equal(a, b)
    assert np.abs(a - b).mean() < 0.03 * np.abs(a).mean()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_half_precision_on_a_gpu_is_near_the_processor(tmp_path, photos, small_backbone):
    images = photos(3)
    extract(images, small_backbone, tmp_path / "cpu", device="cpu")
    extract(images, build_backbone("test_resnet", image_size=64, random_seed=0), tmp_path / "gpu", device="cuda")
    a, b = (open_store(tmp_path / name).tokens.astype(np.float32) for name in ("cpu", "gpu"))
    assert np.abs(a - b).mean() < 0.01 * np.abs(a).mean()


CHILD = """
import json, sys
from pathlib import Path
import torch
from dkgzsl.features.backbones import build_backbone
from dkgzsl.features.extraction import ImageList, extract
torch.set_num_threads(1)
root, out, paths, labels, names = json.loads(sys.argv[1])
backbone = build_backbone("test_resnet", random_seed=0)
print("ready", flush=True)
sys.stdin.readline()
extract(ImageList("photos", Path(root), paths, labels, names), backbone, Path(out), batch_size=4, workers=2)
"""


def test_killed_at_random_points_it_resumes_to_the_same_bytes(tmp_path, photos):
    """`DKGZSL_KILLS` is the number of kills (default 3)."""
    images, backbone = photos(60), build_backbone("test_resnet", random_seed=0)
    extract(images, backbone, tmp_path / "whole", batch_size=4)
    started = time.perf_counter()
    extract(images, backbone, tmp_path / "timed", batch_size=4)
    usual = time.perf_counter() - started
    whole = files_of(tmp_path / "whole")
    rng = random.Random(0)
    killed_at = []
    for kill in range(int(os.environ.get("DKGZSL_KILLS", "3"))):
        out = tmp_path / f"s{kill}"
        given = [str(images.root), str(out), list(images.paths), list(images.labels), list(images.class_names)]
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.stdin.write("go\n")
        child.stdin.flush()
        time.sleep(rng.uniform(0, 0.8 * usual))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdin.close()
        child.stdout.close()
        killed_at.append(extract(images, backbone, out, batch_size=4).resumed)
        assert files_of(out) == whole, f"killed with {killed_at[-1]} images done"
    assert any(done < len(images.paths) for done in killed_at), f"no kill came in time: {killed_at}"
