"""Train SOVR on a sparse store of any size and print the peak memory in MB, then the seconds a step.

The shape of all of AWA2 through ViT-B/16, which must stay under 3 GB:

    python tests/representation/refinement_memory.py 37322 197 768 --steps 40 --denoising trained
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np

from dkgzsl.config import RefinementConfig
from dkgzsl.representation.blocks import read_store
from dkgzsl.representation.sovr import train_refiner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=int)
    parser.add_argument("tokens", type=int)
    parser.add_argument("channels", type=int)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--denoising", default="off")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder) / "tokens.npy", options)


def measure(path: Path, options: argparse.Namespace) -> None:
    shape = (options.images, options.tokens, options.channels)
    np.lib.format.open_memmap(path, "w+", np.float16, shape).flush()  # zeros: no disk taken
    tokens = np.load(path, mmap_mode="r")
    generator = np.random.default_rng(0)
    labels = np.arange(options.images) % 50
    side = math.isqrt(options.tokens - 1)
    started = time.perf_counter()
    config = RefinementConfig(steps=options.steps, denoising=options.denoising, precision=options.precision)
    refiner = train_refiner(
        tokens,
        labels,
        np.arange(options.images),
        grid=(side, (options.tokens - 1) // side),
        attributes=generator.random((50, 85), np.float32),
        vectors=generator.random((85, 300), np.float32),
        config=config,
        seed=0,
    )
    seconds = (time.perf_counter() - started) / options.steps
    # Reading through it, too, for 100 chunks at most.
    read_store(tokens, np.arange(min(options.images, 6400)), ["pooled", "scores"], refiner)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    size = path.stat().st_size / 1e9
    print(f"{int(peak.split()[1]) / 1024:.0f} MB, {seconds:.2f} s a step, {size:.1f} GB store")


if __name__ == "__main__":
    main()
