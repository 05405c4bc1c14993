"""The speed of each stage, with a plain reference and the machine's own limit measured in the same run.

    python experiments/speed.py [--quick] [--stages iteration-unguided,scoring] [--out speed.json]

Each stage has three kinds of figures: this package; a reference, which does the same step for step as a plain loop
would; and the limit, the least work that the stage cannot do without (matrix products of the same shapes, reading
the same bytes, the bare backbone). Package and limit multiply by the faster library (`fast_products` of
`dkgzsl.device`), the reference by the one that torch takes. The three run in turn, several times, so that other
work on the machine slows all of them; medians are compared. `--clock processor` compares processor time, which
other processes disturb less.

The reference of the training is the published loop (`speed_reference.py`). The closed form has no released code:
its references are plain numpy, and for the exploration a fresh fit of each setting.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

import dkgzsl
from dkgzsl.device import fast_products
from speed_closed_form import closed_form_stages
from speed_files import file_stages
from speed_stages import SIZES, Sizes, Stage
from speed_training import training_stages


def stages_of(sizes: Sizes, folder: Path) -> dict[str, Callable[[], Stage]]:
    """What makes each stage, by name; nothing is prepared before its turn."""
    return {**file_stages(sizes, folder), **closed_form_stages(sizes), **training_stages(sizes)}


def processor_seconds() -> float:
    """Processor time of this process and of those it has waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def measure(stage: Stage, repeats: int, clock: str) -> dict[str, Any]:
    """Run package, reference and limits in turn; medians of their seconds and the two ratios."""
    runs = {"package": stage.package, "reference": stage.reference, **stage.limits}
    seconds: dict[str, dict[str, list[float]]] = {name: {"wall": [], "processor": []} for name in runs}
    for turn in range(0 if stage.warm_up else 1, repeats + 1):
        for name, run in runs.items():
            wall, processor = time.perf_counter(), processor_seconds()
            with nullcontext() if name == "reference" else fast_products():
                run()
            if turn > 0:
                seconds[name]["wall"].append(time.perf_counter() - wall)
                seconds[name]["processor"].append(processor_seconds() - processor)
    medians = {name: median(spent[clock]) for name, spent in seconds.items()}
    limit = max(stage.limits, key=lambda name: medians[name])
    return {
        "size": stage.size,
        "reference_is": stage.reference_is,
        "seconds": medians,
        "limit": limit,
        "times_reference": medians["reference"] / medians["package"],
        "share_of_limit": medians[limit] / medians["package"],
        "most_possible": medians["reference"] / medians[limit],
        "turns": seconds,
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    processor = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), processor)
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "load": os.getloadavg()[0],
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def machine_rates(folder: Path, size: int) -> dict[str, float]:
    """Rates of the machine, each the best of five in wall time: they are limits, not averages.

    Args:
        folder: on the disk that is measured.
        size: rows of the matrices; memory and disk move 16 * size^2 bytes.
    """
    content = torch.rand(2 * size, 2 * size)
    other, file = torch.empty_like(content), folder / "rate.bin"
    matrices = {dtype: torch.rand(size, size).to(dtype) for dtype in (torch.float32, torch.bfloat16)}

    def write() -> None:
        with file.open("wb") as opened:
            opened.write(content.numpy().data)
            os.fsync(opened.fileno())

    def best(run: Callable[[], object]) -> float:
        spent = []
        for _ in range(5):
            start = time.perf_counter()
            run()
            spent.append(time.perf_counter() - start)
        return min(spent)

    moved, operations = content.nbytes / 1e9, 2 * size**3 / 1e9
    rates = {
        f"products in {str(dtype).removeprefix('torch.')}, GFLOP/s": operations / best(partial(torch.mm, one, one))
        for dtype, one in matrices.items()
    }
    with fast_products():
        name = "fast products in float32, GFLOP/s"
        rates[name] = operations / best(partial(torch.mm, matrices[torch.float32], matrices[torch.float32]))
    rates["memory copied, GB/s"] = moved / best(partial(other.copy_, content))
    rates["disk written and flushed, GB/s"] = moved / best(write)
    rates["disk read from the page cache, GB/s"] = moved / best(file.read_bytes)
    return rates


def table(stages: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The figures as lines of Markdown."""
    yield "| stage | size | package, s | reference, s | times as fast | limit, s | share of the limit |"
    yield "|---|---|---|---|---|---|---|"
    for name, found in stages.items():
        spent, limit = found["seconds"], found["limit"]
        yield (
            f"| {name} | {found['size']} | {spent['package']:.3g} | {spent['reference']:.3g} "
            f"({found['reference_is']}) | {found['times_reference']:.2f} | {spent[limit]:.3g} ({limit}) "
            f"| {100 * found['share_of_limit']:.0f} % |"
        )


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", help="names with commas between them (default: all)")
    parser.add_argument("--quick", action="store_true", help="toy sizes: shows that it runs, no figures to quote")
    parser.add_argument("--repeats", type=int, default=5, help="turns that count, after one that does not")
    parser.add_argument("--threads", type=int, help="threads of torch (default: as torch chooses)")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="what ratios compare")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    chosen = parser.parse_args(arguments)
    if chosen.repeats < 1:
        parser.error("--repeats must be at least 1")
    if chosen.threads is not None and chosen.threads < 1:
        parser.error("--threads must be at least 1")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the stages, print the table, write the JSON."""
    chosen = parsed(arguments)
    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="dkgzsl-speed-") as folder:
        stages = stages_of(SIZES["quick" if chosen.quick else "full"], Path(folder))
        names = chosen.stages.split(",") if chosen.stages else list(stages)
        unknown = [name for name in names if name not in stages]
        if unknown:
            print(f"no such stage: {', '.join(unknown)}; stages are {', '.join(stages)}", file=sys.stderr)
            return 2
        rates = machine_rates(Path(folder), 128 if chosen.quick else 2048)
        for name in names:
            print(f"{name} ...", file=sys.stderr, flush=True)
            found[name] = measure(stages[name](), chosen.repeats, chosen.clock)
            if chosen.out is not None:  # after each stage: a run that is broken off keeps what it has
                content = json.dumps(record_of(chosen, rates, found), indent=1)
                chosen.out.write_text(content + "\n", encoding="utf-8")
    print("\n".join(table(found)))
    print("\nThis machine: " + ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items()))
    return 0


def record_of(chosen: argparse.Namespace, rates: Mapping[str, float], found: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the JSON file."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rates": rates,
        "threads": torch.get_num_threads(),
        "versions": {"dkgzsl": dkgzsl.__version__, "torch": torch.__version__, "python": sys.version.split()[0]},
        "quick": chosen.quick,
        "clock": chosen.clock,
        "repeats": chosen.repeats,
        "stages": found,
    }


if __name__ == "__main__":
    sys.exit(main())
