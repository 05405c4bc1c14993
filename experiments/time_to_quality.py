"""Quality over wall-clock time: the closed form, DKGZSL as published and neural peers, on validation classes.

    python experiments/time_to_quality.py PROBLEM STORE --semantics sentences --minutes 2 --out FOLDER

Every method explores as in a benchmark; the time of scoring held-out images is not counted. The curve of a method
is the best H so far, calibrated on the same validation classes. One process runs one method at a time. The script
writes time-to-quality.png, .csv and .json.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from dkgzsl import load_dataset
from dkgzsl.evaluation.held_out import validation_task
from dkgzsl.evaluation.selection import ValidationSelector
from dkgzsl.methods.base import Setup
from dkgzsl.methods.registry import make_method, method_info

METHODS = ("closed-form", "dkgzsl", "ale", "class-norm", "f-clswgan", "f-vaegan-d2", "cada-vae")


class Clocked:
    """A selector that records the best H so far with the time since the start, without the time of scoring."""

    def __init__(self, selector: ValidationSelector) -> None:
        self.selector, self.start, self.scoring = selector, time.perf_counter(), 0.0
        self.points: list[tuple[float, float]] = []

    def __call__(self, setting, model, *, candidate: bool = True) -> float:
        """Score a model; the time that this takes is not counted."""
        now = time.perf_counter()
        score = self.selector(setting, model, candidate=candidate)
        found = self.selector.best.figures.h_calibrated if self.selector.best else 0.0
        self.points.append((now - self.start - self.scoring, found))
        self.scoring += time.perf_counter() - now
        return score


def main() -> None:
    """Measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem")
    parser.add_argument("features")
    parser.add_argument("--data-root")
    parser.add_argument("--semantics")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    problem = load_dataset(
        arguments.problem,
        data_root=arguments.data_root,
        features=arguments.features,
        semantics=arguments.semantics,
        test_seed=arguments.seed,
    )
    task, held_out = validation_task(problem, arguments.seed)
    curves = {}
    for name in arguments.methods:
        info = method_info(name)
        settings = info.settings()
        if info.published is not None:
            settings = info.published(settings, problem.name, True).settings
        method = make_method(name, settings, Setup(seed=arguments.seed, minutes=arguments.minutes))
        clocked = Clocked(ValidationSelector(held_out, None, None, "pooled"))
        method.explore(task, clocked)
        curves[name] = clocked.points
        seconds, best = clocked.points[-1][0], max(h for _, h in clocked.points)
        print(
            f"{name}: H {best:.3f} after {seconds:.1f} s, first evaluation after {clocked.points[0][0]:.1f} s",
            flush=True,
        )
        write(arguments.out, problem, curves)


def write(folder: Path, problem, curves) -> None:
    """Write the curves as a picture, as CSV and as JSON."""
    (folder / "time-to-quality.json").write_text(json.dumps(curves))
    with (folder / "time-to-quality.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["method", "seconds", "h_calibrated"])
        rows.writerows([name, f"{s:.2f}", f"{h:.4f}"] for name, points in curves.items() for s, h in points)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    colours = plt.get_cmap("tab10").colors
    last = max(points[-1][0] for points in curves.values())
    labels = []
    for colour, (name, points) in zip(colours, curves.items(), strict=False):
        seconds, best = [], []
        for second, h in points:
            seconds.append(second)
            best.append(max(h, best[-1] if best else 0.0))
        width = 2.5 if name == "closed-form" else 1.4
        axes.step([*seconds, last], [*best, best[-1]], where="post", color=colour, lw=width)
        labels.append([best[-1], method_info(name).title, colour])
    labels.sort(key=lambda label: label[0])
    placed = -1.0
    for best, title, colour in labels:  # next to the ends of the curves, without overlap
        placed = max(best, placed + 0.035)
        axes.annotate(
            title, (1.01, placed), xycoords=("axes fraction", "data"), color=colour, va="center", fontsize=9
        )
    axes.set(
        xscale="log", xlabel="seconds of exploration", ylabel="best H so far (validation classes)", ylim=(0, 1)
    )
    axes.set_title(f"{problem.name}, {problem.semantics_name}: quality over time", loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "time-to-quality.png", dpi=160)
    plt.close(figure)


if __name__ == "__main__":
    main()
