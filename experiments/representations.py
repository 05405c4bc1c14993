"""Does refinement pay? Several representations of the same store, validated, compared by a paired bootstrap.

    python experiments/representations.py PROBLEM STORE --vectors FILE --out FILE.json

Each seed draws the seen test images and the held-out images of validation again, and trains SOVR again, twice
(for validation, and on all seen classes); all representations and semantics share it. Differences are taken over
draws of classes, the same for all representations, and averaged over seeds.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dkgzsl import load_dataset
from dkgzsl.config import RefinementConfig
from dkgzsl.evaluation.bootstrap import resampled
from dkgzsl.evaluation.protocols import validated
from dkgzsl.methods.base import Setup
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.representation.representation import representations

NAMES = (
    "pooled",
    "pooled+maximum",
    "pooled+generalised",
    "refined",
    "pooled+refined",
    "pooled+scores",
    "pooled+generalised+scores",
)
FIGURES = ("t1", "u", "s", "h", "h_calibrated", "ausuc")


def main() -> None:
    """Measure, print a line for each result, write all results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem")
    parser.add_argument("store")
    parser.add_argument("--semantics", nargs="+", default=["sentences", "attributes"])
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vectors")
    parser.add_argument("--denoising", default="off", choices=["trained", "untrained", "off"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    refinement = RefinementConfig(
        vectors=arguments.vectors, denoising=arguments.denoising, steps=arguments.steps, precision="bfloat16"
    )

    rows, draws = [], {}
    for seed in range(arguments.seeds):
        problem = load_dataset(arguments.problem, features=arguments.store, test_seed=seed)
        for one in representations(arguments.names, refinement, seed=seed):
            for semantics in arguments.semantics:
                start = time.perf_counter()
                described = problem.with_semantics(semantics)
                method = ClosedForm(setup=Setup(seed=seed))
                outcome = validated(method, described, seed=seed, representations=[one])
                row = {
                    "semantics": semantics,
                    "representation": one.name,
                    "seed": seed,
                    "figures": asdict(outcome.figures),
                    "validation": asdict(outcome.validation),
                    "setting": dict(outcome.setting),
                    "seconds": round(time.perf_counter() - start, 1),
                }
                rows.append(row)
                draws[semantics, one.name, seed] = resampled(outcome.scored, outcome.constant)
                shown = " ".join(f"{name} {row['figures'][name]:.3f}" for name in FIGURES)
                print(f"{semantics} {one.name} seed {seed}: {shown} ({row['seconds']} s)", flush=True)
                write(arguments.out, rows, draws)


def write(path: Path, rows: list[dict], draws: dict) -> None:
    """Write rows, means, and differences from the controls with their intervals over draws of classes."""
    means, differences = [], []
    for semantics, name in dict.fromkeys((row["semantics"], row["representation"]) for row in rows):
        own = [row for row in rows if (row["semantics"], row["representation"]) == (semantics, name)]
        figures = {
            key: {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}
            for key in FIGURES
            for values in [[row["figures"][key] for row in own]]
        }
        validation = float(np.mean([row["validation"]["ausuc"] for row in own]))
        means.append(
            {
                "semantics": semantics,
                "representation": name,
                "seeds": len(own),
                "figures": figures,
                "validation_ausuc": validation,
            }
        )
        for control in ("pooled", "pooled+maximum", "pooled+generalised"):
            seeds = [row["seed"] for row in own if (semantics, control, row["seed"]) in draws]
            if name == control or not seeds:
                continue
            difference = {}
            for key in ("h", "h_calibrated", "ausuc"):
                paired = [draws[semantics, name, s][key] - draws[semantics, control, s][key] for s in seeds]
                low, high = np.quantile(np.mean(paired, axis=0), [0.025, 0.975])
                difference[key] = {"mean": float(np.mean(paired)), "low": float(low), "high": float(high)}
            differences.append(
                {"semantics": semantics, "representation": name, "against": control, "difference": difference}
            )
    content = {"means": means, "differences": differences, "rows": rows}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
