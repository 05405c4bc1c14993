"""Draw images of unseen numbers with the numbers that a run recognises in them.

dkgzsl train numbers --out runs/numbers
python examples/read_numbers.py runs/numbers docs/images/numbers.png
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from dkgzsl import load_dataset
from dkgzsl.data.numbers.dataset import number_images
from dkgzsl.methods.registry import load_model, read_model

ROWS, COLUMNS = 2, 6


def main(run: Path, out: Path) -> None:
    """Classify test images of unseen numbers: the first image of each of the first twelve."""
    problem = load_dataset("numbers")
    model = load_model(read_model(run / "model.safetensors"))
    constant = json.loads((run / "result.json").read_text())["seeds_detail"][0]["constant"]
    images, unseen = problem.parts.test_unseen, problem.unseen_classes
    chosen = [images[problem.labels[images] == c][0] for c in unseen[: ROWS * COLUMNS]]

    scores = model.scores(torch.from_numpy(np.asarray(problem.features[chosen])))
    scores[:, model.unseen] += constant  # the calibrated decision, among all hundred numbers
    predicted = [problem.class_names[c] for c in scores.argmax(1)]

    figure, axes = plt.subplots(ROWS, COLUMNS, figsize=(7.2, 2.6), layout="constrained")
    for axis, image, name, position in zip(axes.flat, number_images()[chosen], predicted, chosen, strict=True):
        correct = name == problem.class_names[problem.labels[position]]
        axis.imshow(image, cmap="gray_r", interpolation="nearest")
        axis.set_title(f"{name}", fontsize=15, color="#1a7f37" if correct else "#cf222e")
        axis.set_axis_off()
    figure.savefig(out, dpi=160, facecolor="white")
    print(
        f"{sum(a == problem.class_names[problem.labels[i]] for a, i in zip(predicted, chosen, strict=True))} of "
        f"{len(predicted)} classified correctly"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
