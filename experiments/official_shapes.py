"""Seconds and peak memory of the main job on generated features of the official shapes.

    python experiments/official_shapes.py SPLITS [--datasets AWA2 SUN] [--epochs 2] [--out FILE]

SPLITS is a folder with the official split files (<DATASET>/att_splits.mat). The features are random, so no
accuracy is printed.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from formats.official import write_official_shape

NAMES = {"AWA2": "37,322 x 2048, 50 classes", "SUN": "14,340 x 2048, 717 classes"}


def measure(words: list[str]) -> dict[str, float]:
    """Run one training in a new process, and measure its wall time (s) and peak memory (GB)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "dkgzsl.cli.main", "train", *words], check=True, stdout=subprocess.DEVNULL
    )
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"seconds": round(seconds, 1), "peak_gb": round(max(peak, before) / 1e6, 2)}


def main() -> None:
    """Write the files; run the closed form, and the first epochs of DKGZSL as published."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("splits", type=Path)
    parser.add_argument("--datasets", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--hidden-size", type=int, default=1024)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.datasets:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_official_shape(root, name, arguments.splits / name / "att_splits.mat")
            common = [name, "--data-root", folder, "--semantics", "att"]
            published = ["--epochs", str(arguments.epochs), "--dkgzsl.hidden-size", str(arguments.hidden_size)]
            published += ["--dkgzsl.softmax.epochs", "2", "--baseline", "none"]
            for method, options in (("closed-form", []), ("dkgzsl", published)):
                row = {"dataset": name, "shape": NAMES[name], "method": method}
                row |= measure([*common, "--method", method, *options, "--out", str(root / method)])
                rows.append(row)
                print(json.dumps(row), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
