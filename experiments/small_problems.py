"""The default on small problems (few seen classes, few photos a class) and the plain closed form at fixed
settings.

    python experiments/small_problems.py CUB@vgg_fc7:sent CUB100@res50:att --data-root DATA --out FILE.jsonl

Problems are drawn from the *training* classes of each data set: its unseen classes and test images are not used. A
draw has some seen classes with as many training photos each, up to 20 further photos of each for test, and all
photos of some other classes, which are known by their descriptions. A line of FILE for each problem; a run that
was broken off goes on. `--adapt` adds the adaptation to one half of the test photos, scored on the other, both
ways.
"""

import argparse
import json
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dkgzsl import load_dataset
from dkgzsl.benchmark.transductive import transductive_record
from dkgzsl.data.problem import Parts, Problem
from dkgzsl.evaluation.protocols import validated
from dkgzsl.methods.base import Setup
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.settings import ClosedFormSettings

PLAIN = ClosedFormSettings(
    components=(512,),
    shrinkage=(0.6,),
    kernel_width=(2.0,),
    feature_kernel_width=(0.0,),
    ridge=(0.03,),
    seen_blend=(0.0,),
    gate="off",
    offset=0.0,
    seen_expert="off",
    described_power=0.0,
    episodes="off",
)
"""What the default has to be at least as good as."""
UNSEEN = {8: 6, 16: 8, 25: 10, 50: 15, 100: 50}
TESTED = 20
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the constant that the cuts found, whose H is recorded, too."""
FIGURES = ("t1", "h", "h_calibrated", "ausuc")


def drawn(problem, seen, photos, number, base):
    """A small problem from training classes of a large one."""
    rng = np.random.default_rng([base, seen, photos, number])
    usable = problem.labels[problem.parts.trainval]
    counts = np.bincount(usable, minlength=len(problem.class_names))
    enough = [one for one in problem.seen_classes if counts[one] >= photos + 5]
    classes = rng.permutation(enough)[: seen + UNSEEN[seen]]
    parts = {"trainval": [], "test_seen": [], "test_unseen": []}
    for position, one in enumerate(classes):
        images = rng.permutation(problem.parts.trainval[usable == one])
        if position < seen:
            parts["trainval"].extend(images[:photos])
            parts["test_seen"].extend(images[photos : photos + TESTED])
        else:
            parts["test_unseen"].extend(images)
    kept = np.sort(np.concatenate(list(parts.values())))
    order = np.sort(classes)
    return Problem(
        name=problem.name,
        features=np.asarray(problem.features)[kept],
        labels=np.searchsorted(order, problem.labels[kept]),
        class_names=tuple(problem.class_names[one] for one in order),
        semantic_sources={problem.semantics_name: problem.semantics[order]},
        semantics_name=problem.semantics_name,
        parts=Parts(**{name: np.searchsorted(kept, np.sort(images)) for name, images in parts.items()}),
        provenance={"drawn": [base, seen, photos, number]},
    )


def measured(problem, settings, seed, adapt):
    """Figures of the closed form, validated, and where asked for of the adapted model."""
    start = time.perf_counter()
    outcome = validated(ClosedForm(settings, Setup(seed=seed)), problem, seed=seed)
    record = {
        "figures": {name: getattr(outcome.figures, name) for name in FIGURES},
        "validation": asdict(outcome.validation),
        "setting": dict(outcome.setting),
        "constant": outcome.constant,
        "found": outcome.constant_found,
        "spread": outcome.constant_spread,
        "fractions": [outcome.scored.figures(share * outcome.constant_found).h_calibrated for share in SHARES],
        "seconds": round(time.perf_counter() - start, 2),
    }
    if adapt:
        record["adapted"] = transductive_record(outcome, problem, "half", seed=seed)
    return record


def summary(lines, figure, key="default", base="plain"):
    """Mean difference with its standard error, and the worst draws, by size."""
    groups = defaultdict(list)
    for line in lines:
        groups[line["dataset"], line["seen"]].append(line)
        groups["all", line["seen"]].append(line)
    for (dataset, seen), rows in sorted(groups.items()):
        gains = np.array([100 * (one[key]["figures"][figure] - one[base]["figures"][figure]) for one in rows])
        level = np.mean([100 * one[base]["figures"][figure] for one in rows])
        error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
        print(
            f"{dataset:24} {seen:3} seen {figure:13} {level:5.1f} {gains.mean():+.2f} +- {error:.2f}, "
            f"{(gains < -3).sum()} of {len(gains)} below -3, worst {gains.min():+.1f}"
        )


def main() -> None:
    """Measure what the file lacks, then print what it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", metavar="NAME[@FEATURES]:SEMANTICS")
    parser.add_argument("--data-root")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--seen", type=int, nargs="+", default=[8, 16, 25, 50], choices=list(UNSEEN))
    parser.add_argument("--photos", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--base", type=int, default=0, help="seed of all draws")
    parser.add_argument("--adapt", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    lines = []
    if arguments.out.is_file():
        lines = [json.loads(line) for line in arguments.out.read_text().splitlines()]
    done = {(one["dataset"], one["seen"], one["photos"], one["number"], one["base"]) for one in lines}
    problems = {}
    for dataset in arguments.datasets:
        name, _, semantics = dataset.partition(":")
        name, _, features = name.partition("@")
        problems[dataset] = load_dataset(
            name,
            data_root=arguments.data_root,
            features=features or None,
            semantics=semantics or None,
            backbone="unknown" if features else None,
        )
    for number in range(arguments.draws):
        for dataset, problem in problems.items():
            for seen in arguments.seen:
                for photos in arguments.photos:
                    key = dataset, seen, photos, number, arguments.base
                    if key in done:
                        continue
                    small = drawn(problem, seen, photos, number, arguments.base)
                    line = dict(zip(("dataset", "seen", "photos", "number", "base"), key, strict=True))
                    for row, settings in (("plain", PLAIN), ("default", ClosedFormSettings())):
                        line[row] = measured(small, settings, number, arguments.adapt and row == "default")
                    lines.append(line)
                    with arguments.out.open("a") as file:
                        file.write(json.dumps(line) + "\n")
                    shown = " -> ".join(
                        f"{100 * line[row]['figures']['ausuc']:.1f}" for row in ("plain", "default")
                    )
                    print(*key, "AUSUC", shown, flush=True)
    lines = [one for one in lines if one["base"] == arguments.base]
    for figure in ("ausuc", "h_calibrated"):
        summary(lines, figure)
    worst = sorted(lines, key=lambda one: one["default"]["figures"]["ausuc"] - one["plain"]["figures"]["ausuc"])
    for one in worst[:5]:
        print({name: one[name] for name in ("dataset", "seen", "photos", "number")}, one["default"]["setting"])


if __name__ == "__main__":
    main()
