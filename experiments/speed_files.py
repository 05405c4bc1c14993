"""Stages of `speed.py`: photos to a store, reading a store, starting the program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dkgzsl.features.backbones import Backbone, build_backbone
from dkgzsl.features.extraction import ImageList, extract
from dkgzsl.features.store import TOKENS, open_store
from dkgzsl.features.store_writer import StoreWriter
from dkgzsl.features.stream import chunks, read_ahead
from speed_stages import Sizes, Stage

BATCH = 16


def _photos(folder: Path, number: int) -> ImageList:
    """Photos of 500 x 375 pixels with smooth noise, as JPEG."""
    folder.mkdir()
    random = np.random.default_rng(0)
    names = [f"{one:04d}.jpg" for one in range(number)]
    for name in names:
        small = random.integers(0, 256, (38, 50, 3), dtype=np.uint8)
        Image.fromarray(small).resize((500, 375)).save(folder / name, quality=90)
    return ImageList("photos", folder, names, [0] * number, ["photo"])


def _plain_extraction(photos: ImageList, backbone: Backbone, file: Path) -> None:
    """Read one photo after the other, run a batch, keep everything, save at the end."""
    made = []
    for start in range(0, len(photos.paths), BATCH):
        pixels = []
        for path in photos.paths[start : start + BATCH]:
            with Image.open(photos.root / path) as image:
                pixels.append(torch.from_numpy(backbone.preprocessing.pixels(image.convert("RGB"))))
        with torch.no_grad():
            made.append(backbone.tokens(backbone.preprocessing.scale(torch.stack(pixels))).half().numpy())
    np.save(file, np.concatenate(made))


def _extraction(sizes: Sizes, folder: Path) -> Stage:
    number, side = sizes.photos
    photos = _photos(folder / "photos", number)
    backbone = build_backbone(sizes.backbone, image_size=side, random_seed=0)
    ready = torch.rand(BATCH, 3, *backbone.preprocessing.image_size)
    turns = count()

    def bare() -> None:
        with torch.no_grad():
            for start in range(0, number, BATCH):
                backbone.tokens(ready[: number - start])

    return Stage(
        size=f"{number} photos, {sizes.backbone} at {side} pixels, drawn weights",
        package=lambda: extract(
            photos, backbone, folder / f"store-{next(turns)}", batch_size=BATCH, device="cpu", precision="float32"
        ),
        reference=lambda: _plain_extraction(photos, backbone, folder / "plain.npy"),
        reference_is="one photo after the other",
        limits={"bare backbone": bare},
    )


def _reads(sizes: Sizes, folder: Path) -> Stage:
    images, tokens, channels = sizes.tokens
    store = folder / "read-store"
    random = np.random.default_rng(0)
    paths = [f"{one:05d}.jpg" for one in range(images)]
    with StoreWriter(
        store,
        record={"backbone": {"name": "drawn", "grid": None}, "class_names": ["one"], "batch_size": BATCH},
        paths=paths,
        labels=[0] * images,
        tokens=tokens,
        channels=channels,
    ) as writer:
        for start in range(0, images, BATCH):
            here = min(BATCH, images - start)
            writer.append(random.random((here, tokens, channels)).astype(np.float16), [("0" * 64, None)] * here)

    def positions() -> Iterator[np.ndarray]:
        return chunks(np.arange(images), BATCH)

    def ours() -> int:
        return sum(len(batch) for _, batch in read_ahead(open_store(store).tokens, positions()))

    def plain() -> int:
        mapped = np.load(store / TOKENS, mmap_mode="r", allow_pickle=False)
        batches = (torch.stack([torch.from_numpy(np.array(mapped[i])) for i in here]) for here in positions())
        return sum(len(batch) for batch in batches)

    memory = bytearray((store / TOKENS).stat().st_size)

    def limit() -> None:
        with (store / TOKENS).open("rb") as file:
            file.readinto(memory)

    return Stage(
        size=f"{images} images x {tokens} x {channels}, {len(memory) / 1e6:.0f} MB, page cache, checksums on",
        package=ours,
        reference=plain,
        reference_is="a row at a time, no checksums",
        limits={"reading the bytes": limit},
    )


def _python(*arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def _start(*arguments: str) -> Stage:
    return Stage(
        size=f"python {' '.join(arguments)}",
        package=_python(*arguments),
        reference=_python("-c", "import torch"),
        reference_is="import torch",
        limits={"python -c pass": _python("-c", "pass")},
        warm_up=False,  # torch's files have been read by this process
    )


def file_stages(sizes: Sizes, folder: Path) -> dict[str, Callable[[], Stage]]:
    """From starting the program to reading a store."""
    return {
        "start-help": partial(_start, "-m", "dkgzsl", "--help"),
        "start-import": partial(_start, "-c", "import dkgzsl"),
        "extraction": partial(_extraction, sizes, folder),
        "reads": partial(_reads, sizes, folder),
    }
