"""Photos extracted by workers of a cluster: the bytes of one process, also where a worker is killed half-way."""

import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("timm", reason="the extra `images` is not installed")

from PIL import Image

from dkgzsl.cluster.processes import descendants
from dkgzsl.errors import DataError
from dkgzsl.features import extraction
from dkgzsl.features.backbones import build_backbone
from dkgzsl.features.extraction import ImageList, extract
from dkgzsl.features.store import open_store


def photos(root: Path, number: int) -> ImageList:
    root.mkdir()
    rng = np.random.default_rng(0)
    paths = [f"{k:03}.png" for k in range(number)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(root / path)
    (root / paths[5]).write_bytes(b"no image")
    return ImageList("photos", root, paths, [k % 2 for k in range(number)], ["cat", "dog"])


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill_a_worker() -> int:
    """The id of a worker that was at work, or had just been."""
    for process in sorted(descendants([os.getpid()])):
        with suppress(OSError):
            name = Path(f"/proc/{process}/cmdline").read_text()
            if name.startswith(("ray::_do", "ray::IDLE")):
                os.kill(process, signal.SIGKILL)
                return process
    raise AssertionError("there is no worker")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="workers are found by /proc")
def test_the_store_is_the_same_with_a_worker_killed_half_way(two_workers, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(extraction, "_MOST_BATCHES", 2)  # many shares of few images
    images, killed = photos(tmp_path / "photos", 45), []

    def half_way(done: int, total: int) -> None:
        if done >= total // 2 and not killed:
            killed.append(kill_a_worker())

    backbone = build_backbone("test_resnet", image_size=64, random_seed=0)
    extract(images, backbone, tmp_path / "one", batch_size=2, device="cpu")
    extract(images, backbone, tmp_path / "two", batch_size=2, device="cpu", on="ray", progress=half_way)
    assert killed
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert open_store(tmp_path / "two").entries[5].why == "not an image"


def test_an_interrupted_store_goes_on_elsewhere(two_workers, tmp_path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, _total: int) -> None:
        if done >= 8:
            raise Stop

    images, backbone = photos(tmp_path / "photos", 20), build_backbone("test_vit", random_seed=0)
    how = {"batch_size": 4, "device": "cpu"}
    extract(images, backbone, tmp_path / "whole", **how)
    with pytest.raises(Stop):
        extract(images, backbone, tmp_path / "s", on="ray", progress=stop, **how)
    result = extract(images, backbone, tmp_path / "s", **how)
    assert 8 <= result.resumed < 20
    assert files_of(tmp_path / "s") == files_of(tmp_path / "whole")


def test_images_that_only_this_machine_has_are_refused(two_workers, tmp_path, monkeypatch) -> None:
    """In place of another machine: a share whose images lie in a folder that is not there."""
    images = photos(tmp_path / "photos", 6)
    real = extraction.map_shares

    def elsewhere(function, work, shares, **how):
        return real(function, replace(work, root=tmp_path / "nowhere"), shares, **how)

    monkeypatch.setattr(extraction, "map_shares", elsewhere)
    with pytest.raises(DataError, match=r"cannot read an image that this machine has: 000\.png"):
        extract(images, build_backbone("test_vit", random_seed=0), tmp_path / "s", device="cpu", on="ray")
