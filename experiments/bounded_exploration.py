"""Are figures the same when settings are chosen on a part of the training images, or of the seen classes?

python experiments/bounded_exploration.py CUB --features vgg_fc7 --semantics sent att --data-root DIR --seeds 3 \
    --images 3500 --classes 100

Benchmarks such as CUB lie within the bounds of the exploration (`dkgzsl.data.samples`) and are explored whole.
This script lowers the bounds, so that a part stands for the whole: the figures of the default method, chosen on
all, on some of the images, and on some of the classes, and fitted to everything each time.
"""

import argparse
from functools import partial

import numpy as np

from dkgzsl import load_dataset
from dkgzsl.data.samples import CLASSES, IMAGES, bounded_sample
from dkgzsl.evaluation import protocols
from dkgzsl.methods.base import Setup
from dkgzsl.methods.closed_form.method import ClosedForm

FIGURES = ("t1", "h", "h_calibrated", "ausuc")


def main() -> None:
    """Print a line for each seed, and means with the difference from choosing on everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem")
    parser.add_argument("--features")
    parser.add_argument("--data-root")
    parser.add_argument("--semantics", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--classes", type=int, required=True)
    given = parser.parse_args()
    bounds = {
        "all": (IMAGES, CLASSES),
        f"{given.images} images": (given.images, CLASSES),
        f"{given.classes} classes": (IMAGES, given.classes),
    }
    for semantics in given.semantics:
        found: dict[str, list[list[float]]] = {name: [] for name in bounds}
        for seed in range(given.seeds):
            place = {"features": given.features, "data_root": given.data_root}
            problem = load_dataset(given.problem, **place, semantics=semantics, test_seed=seed)
            for name, (images, classes) in bounds.items():
                protocols.bounded_sample = partial(bounded_sample, images=images, classes=classes)
                outcome = protocols.validated(ClosedForm(setup=Setup(seed=seed)), problem, seed=seed)
                found[name].append([100 * getattr(outcome.figures, figure) for figure in FIGURES])
                shown = " ".join(f"{value:.2f}" for value in found[name][-1])
                print(f"{semantics} seed {seed} {name} {outcome.sample}: {shown} {outcome.setting}", flush=True)
        whole = np.mean(found["all"], axis=0)
        for name, rows in found.items():
            mean = np.mean(rows, axis=0)
            each = (f"{f} {m:.2f} ({m - w:+.2f})" for f, m, w in zip(FIGURES, mean, whole, strict=True))
            print(f"{semantics}, {name}, mean of {given.seeds} seeds: {', '.join(each)}", flush=True)


if __name__ == "__main__":
    main()
