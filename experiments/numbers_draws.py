"""`numbers` drawn again: which digits are test digits is one draw of many, and moves figures by tenths of a point.

    python experiments/numbers_draws.py --draws 8

Each draw divides scikit-learn's digits into training and test digits and makes the pairs by another seed than that
of the data set; all else is as in the data set. Every method runs with its default settings.
"""

import argparse

import numpy as np

import dkgzsl.data.numbers.dataset as data
from dkgzsl.evaluation.protocols import validated
from dkgzsl.methods.base import Setup
from dkgzsl.methods.registry import make_method, method_info

FIGURES = ("t1", "h", "h_calibrated", "ausuc")
METHODS = ("closed-form", "eszsl", "gfzsl", "sae", "class-norm")
FIRST = 3000


def main() -> None:
    """Measure; print means, deviations over the draws, and how often the closed form is ahead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument(
        "--minutes", type=float, default=0.3, help="of the exploration of a method that trains by epochs"
    )
    arguments = parser.parse_args()
    found = {}
    for draw in range(arguments.draws):
        data._SEED = FIRST + draw
        data._draw.cache_clear()
        problem = data.numbers()
        for semantics in ("strokes", "names"):
            for name in METHODS:
                minutes = arguments.minutes if method_info(name).iterative else None
                method = make_method(name, setup=Setup(seed=draw, minutes=minutes))
                figures = validated(method, problem.with_semantics(semantics), seed=draw).figures
                found.setdefault((semantics, name), []).append([getattr(figures, one) for one in FIGURES])
    for (semantics, name), rows in found.items():
        mine, theirs = 100 * np.array(found[semantics, "closed-form"]), 100 * np.array(rows)
        spreads = zip(theirs.mean(0), theirs.std(0, ddof=1), strict=True)
        means = ", ".join(f"{mean:.1f} ± {spread:.1f}" for mean, spread in spreads)
        ahead = (mine > theirs).sum(0).tolist()
        print(f"{semantics} {method_info(name).title}: {means}; closed form ahead: {ahead} of {len(rows)}")


if __name__ == "__main__":
    main()
