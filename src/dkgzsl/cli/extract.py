"""`dkgzsl extract`: a problem's images through a backbone into a feature store."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dkgzsl.cli.next_step import command, next_line
from dkgzsl.errors import DataError, refuse_without

if TYPE_CHECKING:
    from dkgzsl.features.extraction import Progress
    from dkgzsl.features.store import FeatureStore


@dataclass(frozen=True)
class Config:
    """Extract region features of a problem's images; the same command continues an interrupted one."""

    problem: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROBLEM")]
    """An imported problem (see dkgzsl data import), or a benchmark by name, once its images are fetched."""
    backbone: str
    """resnet101 (448 pixels), vit-b/16 (224 pixels), any timm model by its name, clip:MODEL@WEIGHTS, or a
    backbone from outside (docs/extend.md)."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the feature store, or its URL (s3://, gs://, ...)."""
    data_root: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets (default: data in DKGZSL_HOME, or else in the user's cache folder)."""
    weights: Path | None = None
    """File of weights, safetensors or PyTorch (default: timm's, from its cache or downloaded)."""
    image_size: int | None = None
    """Side of the square image in pixels; position embeddings are resampled (default: the model's own)."""
    batch_size: int = 32
    """Images that go through the backbone together."""
    workers: int | None = None
    """Threads that read and decode images (default: one per processor, at most 8)."""
    device: str | None = None
    """cpu, cuda, ... (default: CUDA where there is one)."""
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Precision of the backbone; auto: float16 on CUDA, float32 elsewhere. The store holds float16."""
    on: str | None = None
    """ray: a worker for each core of this machine, or the cluster at RAY_ADDRESS; ray://HOST:PORT: a cluster. Its
    machines have the images under the same paths."""
    overwrite: bool = False
    """Start again, and replace the store in --out."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Extract, report unreadable images, print a summary."""
    refuse_without("PIL")
    from dkgzsl.data.load import list_images
    from dkgzsl.features.backbones import build_backbone
    from dkgzsl.features.extraction import extract
    from dkgzsl.features.store import open_store
    from dkgzsl.features.store_url import is_url, send_store

    out = _folder_of(config)
    images = list_images(config.problem, data_root=config.data_root)
    backbone = build_backbone(config.backbone, weights=config.weights, image_size=config.image_size)
    (height, width), (rows, columns) = backbone.preprocessing.image_size, backbone.grid
    gigabytes = 2 * len(images.paths) * (1 + backbone.regions) * backbone.channels / 1e9
    print(
        f"{len(images.paths):,} images at {height} x {width} pixels: for each, {rows} x {columns} regions and the "
        f"whole image, {backbone.channels:,} numbers a piece; {gigabytes:.2f} GB in all",
        file=sys.stderr,
    )
    with _bar() as progress:
        result = extract(
            images,
            backbone,
            out,
            batch_size=config.batch_size,
            workers=config.workers,
            device=config.device,
            precision=config.precision,
            overwrite=config.overwrite,
            progress=progress,
            on=config.on,
        )
    store = open_store(out)
    if is_url(config.out):
        send_store(out, config.out, overwrite=config.overwrite)
    unreadable = _reported(store)
    lost = lost_classes(store)
    if config.json:
        summary = {
            "store": config.out,
            "backbone": config.backbone,
            "weights": dict(backbone.weights),
            "images": result.done,
            "resumed": result.resumed,
            "unreadable": [{"path": path, "why": why} for path, why in unreadable],
            "shape": list(result.shape),
            "grid": list(backbone.grid),
            "seconds": result.seconds,
            "images_per_second": result.rate,
        }
        print(json.dumps(summary, ensure_ascii=False))
        refuse_lost(lost, config.problem)
        return
    rate = f"{result.rate:.1f} images/s" if result.rate else "nothing was left to do"
    print(f"store      {config.out}: {result.done - len(unreadable):,} images, {len(unreadable)} unreadable")
    refuse_lost(lost, config.problem)
    print(f"features   {' x '.join(f'{size:,}' for size in result.shape)} numbers (float16), {rate}")
    root = () if config.data_root is None else ("--data-root", config.data_root)
    print(next_line(command("train", config.problem, *root, "--features", config.out)))


def _folder_of(config: Config) -> Path:
    """The folder to fill: the store's own, or this machine's copy of one by URL."""
    from dkgzsl.features.store_url import has_store, is_url, local_folder, local_store

    if not is_url(config.out):
        return Path(config.out)
    if not config.overwrite and has_store(config.out):
        return local_store(config.out)
    return local_folder(config.out)


def _reported(store: FeatureStore) -> list[tuple[str, str]]:
    """The images that could not be read, and why, printed."""
    unreadable = [(entry.path, entry.why) for entry in store.entries if entry.why is not None]
    for path, why in unreadable[:20]:
        print(f"skipped: {path}: {why}", file=sys.stderr)
    if len(unreadable) > 20:
        print(f"skipped: {len(unreadable) - 20} more, see {store.folder / 'index.jsonl'}", file=sys.stderr)
    return unreadable


def lost_classes(store: FeatureStore) -> dict[str, list[str]]:
    """Classes with photos of which none could be read, and why each could not."""
    whys: dict[str, list[str]] = {}
    for entry in store.entries:
        whys.setdefault(store.class_names[entry.label], []).append(entry.why or "")
    return {name: found for name, found in whys.items() if all(found)}


def refuse_lost(lost: Mapping[str, Sequence[str]], problem: str) -> None:
    """That there is no such class: `train` would refuse it, too.

    Raises:
        DataError: there is one; all other photos are in the store.
    """
    if lost:
        named = "; ".join(
            f"class {name}: {len(whys)} files, none can be read ({whys[0]})" for name, whys in lost.items()
        )
        raise DataError(
            named,
            where=problem,
            fix="replace the files or take the classes' folders out, import and extract again",
        )


@contextmanager
def _bar() -> Iterator[Progress]:
    """A progress bar with rate and time left on standard error; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f} images/s" if task.speed else "", style="progress.data.speed")

    console = Console(stderr=True)
    columns = (TextColumn("extracting"), BarColumn(), MofNCompleteColumn(), Rate(""), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: list[int] = []

        def report(done: int, total: int) -> None:
            if not tasks:  # images done earlier do not count as speed
                tasks.append(bars.add_task("", total=total, completed=done))
            bars.update(tasks[0], completed=done)  # type: ignore[arg-type]

        yield report
