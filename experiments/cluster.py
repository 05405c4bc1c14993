"""A cluster of two workers on this machine and one process: the same store, cells, statistics.

    python experiments/cluster.py PROBLEM --weights FILE --out FOLDER [--photos 500]

PROBLEM is an imported problem with photos. Half-way through the extraction a worker is killed. The script writes
cluster.json, and exits with 1 where anything differs. OMP_NUM_THREADS=1 gives one process one core.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from dkgzsl.benchmark.run import benchmark
from dkgzsl.cluster.processes import descendants
from dkgzsl.config import BenchmarkConfig
from dkgzsl.data.load import list_images
from dkgzsl.features.backbones import build_backbone
from dkgzsl.features.extraction import ImageList, extract
from dkgzsl.features.store import FeatureStore, open_store
from dkgzsl.methods.shared.store_statistics import statistics_of_store

METHODS = ("sae", "eszsl", "ridge", "gfzsl")


def timed(function: Any) -> tuple[Any, float]:
    """The result and its seconds."""
    start = time.perf_counter()
    return function(), round(time.perf_counter() - start, 2)


def first_of(images: ImageList, number: int) -> ImageList:
    """So many images, evenly over the list."""
    chosen = [k * len(images.paths) // number for k in range(min(number, len(images.paths)))]
    return replace(images, paths=[images.paths[k] for k in chosen], labels=[images.labels[k] for k in chosen])


def extraction(arguments: argparse.Namespace) -> dict[str, Any]:
    """One process, then two workers of which one is killed half-way."""
    images = first_of(list_images(arguments.problem), arguments.photos)
    backbone = build_backbone(arguments.backbone, weights=arguments.weights, image_size=arguments.image_size)
    killed: list[int] = []

    def half_way(done: int, total: int) -> None:
        if done >= total // 2 and not killed:
            killed.append(kill_a_worker())

    how: dict[str, Any] = {"batch_size": 16, "device": "cpu", "overwrite": True}
    here, there, whole = (arguments.out / name for name in ("store-1", "store-2", "store-2-undisturbed"))
    seconds = {"one process": timed(lambda: extract(images, backbone, here, workers=1, **how))[1]}
    seconds["two workers"] = timed(lambda: extract(images, backbone, whole, on="ray", **how))[1]
    seconds["two workers, one killed"] = timed(
        lambda: extract(images, backbone, there, on="ray", progress=half_way, **how)
    )[1]
    same = digests(here) == digests(there) == digests(whole)
    return {
        "photos": len(images.paths),
        "killed": len(killed),
        "identical": same and bool(killed),
        "seconds": seconds,
    }


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def kill_a_worker() -> int:
    """End one of Ray's workers without a word."""
    for process in sorted(descendants([os.getpid()])):
        with suppress(OSError):
            if Path(f"/proc/{process}/cmdline").read_text().startswith("ray::_do"):
                os.kill(process, signal.SIGKILL)
                return process
    raise SystemExit("no worker was found")


def cells(out: Path) -> dict[str, Any]:
    """12 cells of `numbers`."""
    config = BenchmarkConfig(("numbers",), METHODS, seeds=3)
    one = timed(lambda: benchmark(replace(config, out=str(out / "cells-1"))))[1]
    two = timed(lambda: benchmark(replace(config, on="ray", out=str(out / "cells-2"))))[1]
    here, there = (records(out / name / "cells") for name in ("cells-1", "cells-2"))
    return {"cells": len(here), "identical": here == there, "seconds": {"one process": one, "two workers": two}}


def records(folder: Path) -> dict[str, Any]:
    """Each cell's record without its time."""
    return {file.name: json.loads(file.read_text()) | {"seconds": 0} for file in folder.glob("*.json")}


def statistics(store: FeatureStore) -> dict[str, Any]:
    """Counts, sums and second moments."""
    here, one = timed(lambda: statistics_of_store(store, block=32))
    there, two = timed(lambda: statistics_of_store(store, on="ray", block=32))
    pairs = [(getattr(here, name), getattr(there, name)) for name in ("sums", "scatter")]
    largest = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    return {
        "largest relative difference": largest,
        "identical": bool((here.counts == there.counts).all()) and largest <= 1e-9,
        "seconds": {"one process": one, "two workers": two},
    }


def main() -> None:
    """Measure, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = {"load average at the start": os.getloadavg()[0], "cores": len(os.sched_getaffinity(0))}
    found["extraction"] = extraction(arguments)
    found["statistics"] = statistics(open_store(arguments.out / "store-1"))
    found["benchmark"] = cells(arguments.out)
    found["load average at the end"] = os.getloadavg()[0]
    (arguments.out / "cluster.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    sys.exit(not all(found[part]["identical"] for part in ("extraction", "statistics", "benchmark")))


if __name__ == "__main__":
    main()
