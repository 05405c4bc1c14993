"""A cluster of two workers on this machine and one process: the same store, statistics, cells, run and search.

    python experiments/cluster.py [PROBLEM --weights FILE] --out FOLDER [--photos 500] [--parts NAME...]

PROBLEM is an imported problem with photos; without it, extraction and statistics are left out. Within the
extraction, the training and the search a worker is killed. The script writes cluster.json, and exits with 1 where
anything differs. OMP_NUM_THREADS=1 gives one process one core.

The part `workers` measures one worker and then two, each after a warm-up that is not measured, so that neither the
start of the cluster nor that of the workers counts: wall seconds, and the processor seconds of each worker. On a
machine that has other work to do, wall seconds of two workers by those of one say what was gained there and then;
the processor seconds of the busiest of two workers by those of one say how evenly the work is divided, whatever
else the machine does.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dkgzsl.benchmark.run import benchmark
from dkgzsl.benchmark.tune import tune
from dkgzsl.cluster.processes import descendants
from dkgzsl.cluster.shares import kept_workers
from dkgzsl.config import BenchmarkConfig, TrainConfig, TuneConfig
from dkgzsl.data.load import list_images
from dkgzsl.features.backbones import build_backbone
from dkgzsl.features.extraction import ImageList, extract
from dkgzsl.features.store import FeatureStore, open_store
from dkgzsl.methods.shared.store_statistics import statistics_of_store
from dkgzsl.runs.progress import Reporter
from dkgzsl.runs.training import train

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
    one = timed(lambda: benchmark(replace(config, out=fresh(out / "cells-1"))))[1]
    two = timed(lambda: benchmark(replace(config, on="ray", out=fresh(out / "cells-2"))))[1]
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


class Killing(Reporter):
    """Kills a worker when the first training is done."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.killed: list[int] = []

    def advance(self, note: str = "") -> None:  # noqa: ARG002
        """The first call kills."""
        if not self.killed:
            self.killed.append(kill_a_worker())


def training(out: Path) -> dict[str, Any]:
    """Three seeds and the baseline."""
    config, reporter = TrainConfig(name="numbers", seeds=3, report="off", overwrite=True), Killing()
    here, there = out / "run-1", out / "run-2"
    one = timed(lambda: train(replace(config, out=str(here))))[1]
    two = timed(lambda: train(replace(config, out=str(there), on="ray"), reporter=reporter))[1]
    return {
        "killed": len(reporter.killed),
        "identical": run_of(here) == run_of(there) and bool(reporter.killed),
        "seconds": {"one process": one, "two workers, one killed": two},
    }


def run_of(folder: Path) -> dict[str, Any]:
    """Digests of a run's files, and its result; without what names the folder, the time or the machine."""
    others = {"result.json", "metrics.jsonl", "environment.json", "card.md", "checksums.json"}
    files = {path.name: path for path in folder.rglob("*") if path.is_file() and path.name not in others}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    log = (folder / "metrics.jsonl").read_text().splitlines()[:-1]
    result = json.loads((folder / "result.json").read_text()) | {"run": "", "seconds": 0}
    return {**found, "metrics.jsonl": log, "result.json": result}


def search(out: Path) -> dict[str, Any]:
    """16 trials, four at once."""
    config, killed = TuneConfig(name="numbers", trials=16), list[int]()

    def kill(record: Any, _best: float | None) -> None:
        if record.number == 5:
            killed.append(kill_a_worker())

    (here, one), (there, two) = (
        timed(lambda: tune(replace(config, out=fresh(out / "search-1")))),
        timed(lambda: tune(replace(config, out=fresh(out / "search-2"), on="ray"), on_trial=kill)),
    )
    trials = [[replace(one, seconds=0) for one in found.trials] for found in (here, there)]
    return {
        "killed": len(killed),
        "identical": trials[0] == trials[1] and bool(killed),
        "seconds": {"one process": one, "two workers, one killed": two},
    }


def fresh(folder: Path) -> str:
    """The name of a folder that is not there any more."""
    shutil.rmtree(folder, ignore_errors=True)
    return str(folder)


@contextmanager
def cluster_of(workers: int) -> Iterator[None]:
    """A cluster of this machine that has so many workers, whatever the number of cores."""
    with patch("os.sched_getaffinity", lambda _: range(workers)), kept_workers("ray"):
        yield


class Meter:
    """Processor seconds of the workers since it was made; a worker that has ended counts with what it had last."""

    def __init__(self) -> None:
        self._begin, self._last, self._end = processor_seconds(), dict[int, float](), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._end.wait(0.2):
            self._last |= processor_seconds()

    def read(self) -> list[float]:
        """Of each worker that has done something, the busiest first."""
        self._end.set()
        self._thread.join()
        last = self._last | processor_seconds()
        found = (round(value - self._begin.get(one, 0.0), 1) for one, value in last.items())
        return sorted((value for value in found if value >= 0.5), reverse=True)


def processor_seconds() -> dict[int, float]:
    """Processor seconds of each of Ray's workers so far."""
    found, tick = {}, os.sysconf("SC_CLK_TCK")
    for process in descendants([os.getpid()]):
        with suppress(OSError):
            if Path(f"/proc/{process}/cmdline").read_text().startswith("ray::"):
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                found[process] = (int(fields[11]) + int(fields[12])) / tick
    return found


def workers(out: Path) -> dict[str, Any]:
    """One worker and two: seconds of `train` with four seeds, of 12 trials of `tune`, of 12 cells."""
    how: dict[str, Any] = {"on": "ray", "out": str(out / "w")}

    def seeds(number: int) -> None:
        train(TrainConfig(name="numbers", baseline="none", report="off", seeds=number, overwrite=True, **how))

    def trials(number: int) -> None:
        tune(TuneConfig(name="numbers", trials=number, on="ray", out=fresh(out / "w-search")))

    def cells(number: int) -> None:
        benchmark(BenchmarkConfig(("numbers",), METHODS, seeds=number, on="ray", out=fresh(out / "w-cells")))

    jobs = {"train": (seeds, 2, 4), "tune": (trials, 4, 12), "benchmark": (cells, 1, 3)}
    found: dict[str, Any] = {name: {} for name in jobs}
    for number in (1, 2):
        with cluster_of(number):
            for name, (job, few, all_of_them) in jobs.items():
                job(few)
                meter = Meter()
                seconds = timed(lambda job=job, number=all_of_them: job(number))[1]
                found[name][f"{number} workers"] = {"wall": seconds, "processor": meter.read()}
    for one in found.values():
        alone, both = one["1 workers"], one["2 workers"]
        one["wall of two by one"] = round(both["wall"] / alone["wall"], 2)
        one["processor of the busiest of two by one"] = round(max(both["processor"]) / sum(alone["processor"]), 2)
    return found


def main() -> None:
    """Measure, compare, write."""
    parts = ("extraction", "statistics", "benchmark", "train", "tune", "workers")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", nargs="?")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    wanted = [part for part in arguments.parts if arguments.problem or part not in ("extraction", "statistics")]
    found = {"load average at the start": os.getloadavg()[0], "cores": len(os.sched_getaffinity(0))}
    measured: dict[str, Callable[[], Any]] = {
        "extraction": lambda: extraction(arguments),
        "statistics": lambda: statistics(open_store(arguments.out / "store-1")),
        "benchmark": lambda: cells(arguments.out),
        "train": lambda: training(arguments.out),
        "tune": lambda: search(arguments.out),
        "workers": lambda: workers(arguments.out),
    }
    for part in wanted:
        found[part] = measured[part]()
        (arguments.out / "cluster.json").write_text(json.dumps(found, indent=1) + "\n")
    found["load average at the end"] = os.getloadavg()[0]
    (arguments.out / "cluster.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    sys.exit(not all(found[part]["identical"] for part in wanted if part != "workers"))


if __name__ == "__main__":
    main()
