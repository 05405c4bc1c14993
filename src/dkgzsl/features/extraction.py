"""Extraction: images through a backbone into a feature store, resumable at any moment."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dkgzsl.cluster.shares import check_place, map_shares
from dkgzsl.device import fast_products, sent
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.features.backbones import Backbone
from dkgzsl.features.images import UnreadableImageError, read_image
from dkgzsl.features.photo_files import as_on_disk
from dkgzsl.features.store_writer import StoreWriter


@dataclass(frozen=True)
class ImageList:
    """Images to extract.

    Attributes:
        name: of the data set, for the record.
        root: folder that the paths are relative to.
        paths: relative path of each image.
        labels: class of each image, a position in `class_names`.
        class_names: names of the classes.
    """

    name: str
    root: Path
    paths: Sequence[str]
    labels: Sequence[int]
    class_names: Sequence[str]


Precision = Literal["auto", "float32", "float16", "bfloat16"]
Progress = Callable[[int, int], None]
"""Called with the images done and all images, once at the start and after each batch."""

_SHARE_BYTES: Final = 32 * 2**20
"""Tokens that a worker of a cluster sends at once, and in batches:"""
_MOST_BATCHES: Final = 8
_AHEAD: Final = 2  # batches that are decoded while one is in the backbone


@dataclass(frozen=True)
class Extraction:
    """What an extraction did.

    Attributes:
        resumed: images that were done before.
        done: images in the store.
        seconds: time that it took.
        shape: of the tokens, [N, 1 + R, C].
    """

    resumed: int
    done: int
    seconds: float
    shape: tuple[int, int, int]

    @property
    def rate(self) -> float | None:
        """Images a second; None where nothing was left to do."""
        return (self.done - self.resumed) / self.seconds if self.done > self.resumed else None


@fast_products()
def extract(
    images: ImageList,
    backbone: Backbone,
    out: Path,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    device: str | None = None,
    precision: Precision = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
    on: str | None = None,
) -> Extraction:
    """Extract the region features of every image into the store at `out`, or go on where it was interrupted.

    Batches follow the order of the images, and an unreadable image keeps its place as a black one, so that a
    resumed store equals an uninterrupted one bit by bit (on the same device and libraries).

    Args:
        images: what to read.
        backbone: what to run.
        out: the store's folder.
        batch_size: images that go through the backbone together.
        workers: threads that read and decode (default: one a processor, at most 8; one a worker of a cluster).
        device: where the backbone runs (default: CUDA where there is one).
        precision: of the backbone; auto is float16 on CUDA and float32 elsewhere. The store is float16 always.
        overwrite: start again, whatever store is there.
        progress: called with how far it is.
        on: a cluster whose workers compute (see `dkgzsl.cluster.shares`); they read the images by the same paths.
            This process writes the store, and a lost share is done again, so that the bytes are the same.

    Raises:
        ConfigError: a setting out of range, a device that is not there, a store made with other settings, or a
            cluster that cannot be used.
        DataError: the store cannot be written, the backbone gives features that are not finite, or the workers of
            the cluster do not see the images.
        RunError: a share of the cluster was lost each time.
    """
    check_place(on)
    _check_numbers(images, batch_size, workers)
    place = _device(device)
    dtype = _dtype(precision, place)
    started = time.perf_counter()
    store = StoreWriter(
        out,
        record=_record(images, backbone, batch_size, place, dtype),
        paths=images.paths,
        labels=images.labels,
        tokens=1 + backbone.regions,
        channels=backbone.channels,
        overwrite=overwrite,
    )
    with store:
        resumed, threads = store.done, workers or (min(8, os.cpu_count() or 1) if on is None else 1)
        if resumed < len(images.paths):
            _fill(store, images, _Work(images.root, backbone, place, dtype, threads), batch_size, progress, on)
        elif progress is not None:
            progress(resumed, resumed)
        shape = (store.done, 1 + backbone.regions, backbone.channels)
        return Extraction(resumed, store.done, time.perf_counter() - started, shape)


def _check_numbers(images: ImageList, batch_size: int, workers: int | None) -> None:
    if batch_size < 1 or (workers is not None and workers < 1):
        raise ConfigError("batch size and workers must be at least 1")
    if not images.paths:
        raise DataError("there are no images to extract", where=str(images.root))


def _record(
    images: ImageList, backbone: Backbone, batch_size: int, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """All that decides the tokens' values."""
    return {
        "problem": images.name,
        "class_names": list(images.class_names),
        **backbone.record(),
        "batch_size": batch_size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": str(dtype).removeprefix("torch."),
        "libraries": {name: version(name) for name in ("dkgzsl", "torch", "timm", "pillow", "numpy")},
    }


Computed = tuple[np.ndarray, list[tuple[str | None, str | None]]]
"""Tokens of a batch; sha256 and why it is unreadable of each image."""


@dataclass(frozen=True)
class _Work:
    """What all batches have in common."""

    root: Path
    backbone: Backbone
    device: torch.device
    dtype: torch.dtype
    threads: int


def _fill(
    store: StoreWriter, images: ImageList, work: _Work, batch_size: int, progress: Progress | None, on: str | None
) -> None:
    """Extract what is not yet done, batch by batch."""
    total, report = len(images.paths), progress or _silent
    report(store.done, total)
    batches = [images.paths[start : start + batch_size] for start in range(store.done, total, batch_size)]
    with closing(_computed(work, batches) if on is None else _on_workers(work, batches, on)) as computed:
        for tokens, files in computed:
            store.append(tokens, files)
            report(store.done, total)


def _computed(work: _Work, batches: Sequence[Sequence[str]]) -> Generator[Computed, None, None]:
    """The batches through the backbone, in their order."""
    run = Runner(work.backbone, work.device, work.dtype)
    files_of = [[work.root / path for path in batch] for batch in batches]
    with bombs_as_errors():
        read = decoded(files_of, work.backbone, work.threads)
        for batch, (pixels, files) in zip(batches, read, strict=True):
            tokens = run(pixels)
            _refuse_infinite(tokens, batch)
            tokens[[why is not None for _, why in files]] = 0
            yield tokens, files


def _on_workers(work: _Work, batches: Sequence[Sequence[str]], on: str) -> Generator[Computed, None, None]:
    """The same by the workers of a cluster, a few batches a share."""
    size = len(batches[0]) * (1 + work.backbone.regions) * work.backbone.channels * 2
    each = max(1, min(_MOST_BATCHES, _SHARE_BYTES // size))
    shares = [batches[start : start + each] for start in range(0, len(batches), each)]
    gpu = work.device.type == "cuda"
    with closing(map_shares(tokens_of_share, work, shares, on=on, gpu=gpu)) as found:
        for position, results in found:
            for paths, (tokens, files) in zip(shares[position], results, strict=True):
                _refuse_unseen(work.root, paths, files)
                yield tokens, files


def tokens_of_share(work: _Work, batches: Sequence[Sequence[str]]) -> list[Computed]:
    """On a worker: its batches through the backbone."""
    return list(_computed(work, batches))


def _refuse_unseen(root: Path, paths: Sequence[str], files: Sequence[tuple[str | None, str | None]]) -> None:
    """That no image is missing on the worker alone: the store would have black ones in its place."""
    for path, (digest, why) in zip(paths, files, strict=True):
        if (
            digest is None
            and why is not None
            and as_on_disk(root / path).is_file()
            and os.access(root / path, os.R_OK)
        ):
            raise DataError(
                f"a worker of the cluster cannot read an image that this machine has: {path} {why}",
                where=str(root),
                fix="put the images where every machine has them under the same path, such as a shared folder",
            )


def _silent(_done: int, _total: int) -> None:
    pass


class Runner:
    """The backbone on its device: pixels in, tokens out as they are stored.

    Args:
        backbone: what to run; it is moved.
        device: where it runs.
        dtype: precision that it computes in.
        stored: precision of the tokens.
    """

    def __init__(
        self,
        backbone: Backbone,
        device: torch.device,
        dtype: torch.dtype,
        *,
        stored: torch.dtype = torch.float16,
    ) -> None:
        self.backbone, self.device, self._dtype, self._stored = backbone, device, dtype, stored
        backbone.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(
        self, pixels: UInt8[np.ndarray, "batch 3 height width"]
    ) -> Float[np.ndarray, "batch tokens channels"]:
        """Tokens of resized images."""
        images = self.backbone.preprocessing.scale(sent(torch.from_numpy(pixels), self.device))
        images = images.contiguous(memory_format=torch.channels_last)
        # One fixed algorithm, not the fastest of the moment: resuming must give the same bits.
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
            torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32),
        ):
            tokens: Tensor = self.backbone.tokens(images)
        rounded: np.ndarray = tokens.to(self._stored).cpu().numpy()
        return rounded


def decoded(
    batches: Sequence[Sequence[Path]], backbone: Backbone, threads: int
) -> Iterator[tuple[np.ndarray, list[tuple[str | None, str | None]]]]:
    """Batches of pixels [B, 3, H, W] in order, and (sha256, why it is unreadable) of each image.

    They are decoded ahead in threads: Pillow decodes and resizes outside Python's lock. Unreadable ones are black.
    """
    blank = np.zeros((3, *backbone.preprocessing.image_size), np.uint8)

    def one(path: Path) -> tuple[np.ndarray, str | None, str | None]:
        try:
            image, digest = read_image(path)
        except UnreadableImageError as error:
            return blank, error.sha256, error.why
        return backbone.preprocessing.pixels(image), digest, None

    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        waiting: deque[list[Future[Any]]] = deque()
        for batch in itertools.chain(batches, [None] * _AHEAD):
            if batch is not None:
                waiting.append([pool.submit(one, path) for path in batch])
            if waiting and (batch is None or len(waiting) > _AHEAD):
                results = [future.result() for future in waiting.popleft()]
                yield np.stack([pixels for pixels, _, _ in results]), [(d, why) for _, d, why in results]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def bombs_as_errors() -> Iterator[None]:
    """Images that are far too large count as unreadable; Pillow only warns of them."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _refuse_infinite(tokens: Float[np.ndarray, "batch tokens channels"], paths: Sequence[str]) -> None:
    finite = np.isfinite(tokens).all((1, 2))
    if not finite.all():
        raise DataError(
            "the backbone gives features that are not finite in half precision",
            where=paths[int(np.argmin(finite))],
            fix="check the weights, or run with --precision float32",
        )


def _device(name: str | None) -> torch.device:
    available = torch.cuda.is_available()
    try:
        device = torch.device(name or ("cuda" if available else "cpu"))
        torch.empty(0, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError and others here
        raise ConfigError(f"the device {name!r} cannot be used here", fix="leave --device out, or cpu") from error
    return device


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if precision == "float16" and device.type == "cpu":
        raise ConfigError("processors compute slowly in float16", fix="--precision bfloat16, or float32")
    dtype: torch.dtype = getattr(torch, precision)
    return dtype
