"""`numbers` drawn anew: which handwritten digits are test digits is one draw, and decides points of a per cent.

    python benchmarks/numbers_draws.py --draws 8

Each draw divides scikit-learn's digits into training and test digits and makes the pairs by another seed than the
data set's own; everything else is the data set, and every method runs with its own defaults.
"""

import argparse

import numpy as np

import dkgzsl.data.numbers.dataset as data
from dkgzsl.evaluation.protocols import validated
from dkgzsl.methods.registry import make_method, method_info

FIGURES = ("t1", "h", "h_calibrated", "ausuc")
METHODS = ("dkgzsl", "eszsl", "gfzsl", "sae", "class-norm")
FIRST = 3000


def main() -> None:
    """Measure, and print means, deviations over the draws, and in how many of them the default is ahead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=0.3, help="of an exploration that goes by epochs")
    arguments = parser.parse_args()
    found = {}
    for draw in range(arguments.draws):
        data._SEED = FIRST + draw
        data._draw.cache_clear()
        problem = data.numbers()
        for semantics in ("strokes", "names"):
            for name in METHODS:
                minutes = arguments.minutes if method_info(name).iterative else None
                method = make_method(name, seed=draw, minutes=minutes)
                figures = validated(method, problem.with_semantics(semantics), seed=draw).figures
                found.setdefault((semantics, name), []).append([getattr(figures, one) for one in FIGURES])
    for (semantics, name), rows in found.items():
        mine, theirs = 100 * np.array(found[semantics, "dkgzsl"]), 100 * np.array(rows)
        spreads = zip(theirs.mean(0), theirs.std(0, ddof=1), strict=True)
        means = ", ".join(f"{mean:.1f} ± {spread:.1f}" for mean, spread in spreads)
        ahead = (mine > theirs).sum(0).tolist()
        print(f"{semantics} {method_info(name).title}: {means}; ours ahead in {ahead} of {len(rows)}")


if __name__ == "__main__":
    main()
