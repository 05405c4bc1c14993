"""Seconds and peak memory of `train` over the numbers of images and classes, and of the statistics pass.

python experiments/scaling.py train 20000x256x4000 200000x64x50 --out FOLDER    images x channels x classes
python experiments/scaling.py statistics 10000000x512 --out FOLDER              images x channels, half precision
python experiments/scaling.py table --out FOLDER                                what is there, and a plot

The features are drawn: class means follow from descriptions by a linear map with noise; four of five classes are
seen. `train` runs as its own process on a feature store and an imported problem, as a user's would, with its own
validation, and its peak memory is that of the process. Every result is a line of FOLDER/scaling.jsonl; sizes that
have a line are not run again. The data are removed after each run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dkgzsl.data.formats.problem_record import FORMAT
from dkgzsl.device import fast_products
from dkgzsl.features.store_writer import StoreWriter
from dkgzsl.memory import BLOCK
from dkgzsl.methods.shared.class_statistics import ClassStatistics

SEMANTIC = 300
NOISE = 1.2
BATCH = 4096


def drawn(images: int, channels: int, classes: int) -> tuple[np.ndarray, np.ndarray, Iterator[np.ndarray]]:
    """Descriptions, the class of each image, and its features in batches of half precision."""
    rng = np.random.default_rng(0)
    described = rng.normal(size=(classes, SEMANTIC)).astype(np.float32)
    linear = rng.normal(size=(SEMANTIC, channels)).astype(np.float32) / SEMANTIC**0.5
    means = described @ linear + 0.5 * rng.normal(size=(classes, channels)).astype(np.float32)
    labels = np.sort(np.arange(images) % classes)

    def batches() -> Iterator[np.ndarray]:
        for first in range(0, images, BATCH):
            of = labels[first : first + BATCH]
            noise = rng.standard_normal((len(of), channels), dtype=np.float32)
            yield (means[of] + NOISE * noise).astype(np.float16)

    return described, labels, batches()


def write_problem(folder: Path, images: int, channels: int, classes: int) -> None:
    """A store, and the imported problem that it belongs to."""
    described, labels, batches = drawn(images, channels, classes)
    names = [f"class{number:05d}" for number in range(classes)]
    paths = [f"{names[label]}/{number:08d}.jpg" for number, label in enumerate(labels)]
    record = {"class_names": names, "grid": None, "batch_size": BATCH, "backbone": {"name": "drawn"}}
    writer = StoreWriter(
        folder / "store", record=record, paths=paths, labels=labels.tolist(), tokens=1, channels=channels
    )
    for batch in batches:
        writer.append(batch[:, None], [(None, None)] * len(batch))
    writer.close()
    problem = folder / "problem"
    (problem / "semantics").mkdir(parents=True)
    header = ",".join(["class", *(f"d{k}" for k in range(SEMANTIC))])
    rows = (f"{name},{','.join(f'{v:.4f}' for v in row)}" for name, row in zip(names, described, strict=True))
    (problem / "semantics" / "drawn.csv").write_text("\n".join([header, *rows]) + "\n")
    listed = (f"{path},{names[label]}" for path, label in zip(paths, labels, strict=True))
    (problem / "images.csv").write_text("\n".join(["path,class", *listed]) + "\n")
    unseen = set(range(4, classes, 5))
    content = {
        "format": FORMAT,
        "name": "drawn",
        "source": str(folder),
        "source_from_here": "..",
        "semantics": "drawn",
        "classes": [{"class": n, "role": "unseen" if k in unseen else "seen"} for k, n in enumerate(names)],
    }
    (problem / "problem.json").write_text(json.dumps(content))


def train(size: str, out: Path) -> dict[str, Any]:
    """`dkgzsl train` on drawn data of a size; seconds, peak memory, figures."""
    images, channels, classes = map(int, size.split("x"))
    folder = out / size
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_problem(folder, images, channels, classes)
    words = [sys.executable, "-m", "dkgzsl", "train", str(folder / "problem"), "--features", str(folder / "store")]
    words += ["--out", str(folder / "run"), "--baseline", "none", "--report", "off", "--json"]
    start = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=(out / f"{size}.log").open("w"), text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    found: dict[str, Any] = {"seconds": round(seconds, 1), "peak_gb": round(usage.ru_maxrss / 2**20, 2)}
    found["processor_seconds"] = round(usage.ru_utime + usage.ru_stime, 1)
    if os.waitstatus_to_exitcode(status) == 0:
        metrics = json.loads(said)["metrics"]
        found |= {name: round(100 * metrics[name]["mean"], 1) for name in ("h_calibrated", "ausuc")}
        found["model_gb"] = round(sum(f.stat().st_size for f in (folder / "run").rglob("*.safetensors")) / 1e9, 2)
        shutil.rmtree(folder)
    else:
        found["error"] = (out / f"{size}.log").read_text()[-500:]
    return found


@fast_products()
def statistics(size: str, out: Path) -> dict[str, Any]:
    """The statistics pass over a memory map, and what reading and multiplying alone take, in one run."""
    images, channels = map(int, size.split("x"))
    file, classes = out / f"{size}.npy", 1000
    if not file.exists():
        mapped = np.lib.format.open_memmap(file, "w+", np.float16, (images, channels))
        draw = np.random.default_rng(0)
        rows = draw.standard_normal((BATCH * 16, channels), dtype=np.float32).astype(np.float16)
        for first in range(0, images, len(rows)):
            mapped[first : first + len(rows)] = rows[: images - first]
        mapped.flush()
        del mapped
    mapped = np.load(file, mmap_mode="c")  # torch takes no array that cannot be written to
    labels = torch.arange(images) % classes
    start = time.monotonic()
    for _ in _blocks(mapped):
        pass
    read = time.monotonic() - start
    block, scatter = torch.randn(BLOCK, channels), torch.zeros(channels, channels)
    start = time.monotonic()
    for _ in range(0, images, BLOCK):
        torch.matmul(block.T, block, out=scatter)
    multiplied = time.monotonic() - start
    known = ClassStatistics.empty(classes, torch.zeros(channels))
    start = time.monotonic()
    for rows, of in zip(_blocks(mapped), labels.split(BLOCK), strict=True):
        known.add(rows, of)
    taken = time.monotonic() - start
    del mapped
    file.unlink()
    return {
        "seconds": round(taken, 1),
        "read_seconds": round(read, 1),
        "product_seconds": round(multiplied, 1),
        "share_of_slower": round(max(read, multiplied) / taken, 3),
    }


def _blocks(mapped: np.ndarray) -> Iterator[torch.Tensor]:
    """Rows as float32, in memory that the next block takes over."""
    block = torch.empty(BLOCK, mapped.shape[1])
    for first in range(0, len(mapped), BLOCK):
        rows = mapped[first : first + BLOCK]
        yield block[: len(rows)].copy_(torch.from_numpy(rows))  # numpy converts half precision much more slowly


def table(lines: list[dict[str, Any]], out: Path) -> str:
    """Markdown of all results; `scaling.png` of those of `train`."""
    names = ("what", "size", "seconds", "processor_seconds", "peak_gb", "h_calibrated", "ausuc", "share_of_slower")
    rows = [[str(line.get(name, "")) for name in names] for line in lines]
    trained = [line for line in lines if line["what"] == "train" and "error" not in line]
    if trained:
        _plot(trained, out / "scaling.png")
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(names), ["---"] * len(names), *rows])


def _plot(lines: list[dict[str, Any]], file: Path) -> None:
    """Two series: sizes that differ in the images alone, and sizes that differ in the classes alone."""
    import matplotlib.pyplot as plt

    sizes = [tuple(map(int, line["size"].split("x"))) for line in lines]
    figure, rows = plt.subplots(2, 2, figsize=(9, 5.5), layout="constrained", sharex="col", sharey="row")
    for column, place, label in ((0, 0, "images"), (1, 2, "classes")):
        others = [size[:place] + size[place + 1 :] for size in sizes]
        kept = max(sorted(set(others)), key=others.count)
        chosen = sorted(
            (size[place], line) for size, other, line in zip(sizes, others, lines, strict=True) if other == kept
        )
        numbers = [number for number, _ in chosen]
        fixed = (
            f"{kept[0]} channels, {kept[1]} classes" if place == 0 else f"{kept[0]:,} images, {kept[1]} channels"
        )
        for axis, name, unit in ((rows[0][column], "seconds", "s"), (rows[1][column], "peak_gb", "GiB")):
            values = [line[name] for _, line in chosen]
            axis.loglog(numbers, values, "o-", label="measured")
            axis.loglog(numbers[-2:], [values[-1] * n / numbers[-1] for n in numbers[-2:]], ":", label="linear")
            axis.set_ylabel("seconds" if unit == "s" else "peak memory, GiB")
            axis.grid(alpha=0.3)
        rows[0][column].set_title(fixed)
        rows[1][column].set_xlabel(label)
    rows[0][0].legend()
    figure.savefig(file, dpi=130)
    plt.close(figure)


def main() -> None:
    """Run what has no line yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "statistics", "table"])
    parser.add_argument("sizes", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "scaling.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for size in given.sizes:
        if any((line["what"], line["size"]) == (given.what, size) for line in lines):
            continue
        found = train(size, given.out) if given.what == "train" else statistics(size, given.out)
        when = {"date": datetime.now(UTC).date().isoformat(), "threads": torch.get_num_threads()}
        lines.append({"what": given.what, "size": size, **found, **when})
        with file.open("a") as opened:
            opened.write(json.dumps(lines[-1]) + "\n")
        print(json.dumps(lines[-1]), flush=True)
    print(table(lines, given.out))


if __name__ == "__main__":
    main()
