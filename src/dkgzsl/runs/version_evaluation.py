"""Figures of a run's later version: the same test images, those of classes that it does not know left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dkgzsl.data.problem import Problem
from dkgzsl.evaluation.examination import images_for_test
from dkgzsl.evaluation.metrics import Scored
from dkgzsl.learning.representation import Fitted
from dkgzsl.methods.model_file import read_model
from dkgzsl.methods.registry import load_model
from dkgzsl.runs.recognition import RecognitionRecord


def score_version(folder: Path, problem: Problem, fitted: Fitted) -> Scored:
    """Scores of a version's model over its own class numbers.

    Classes of data and version are matched by name: a class that was removed has no images here, one that was
    removed and described anew is judged by the new description.

    Args:
        folder: the version's.
        problem: the run's data.
        fitted: the version's representation.
    """
    record = RecognitionRecord.read(folder)
    model = load_model(read_model(folder / "model.safetensors"))
    known = np.setdiff1d(torch.cat([model.seen, model.unseen]).numpy(), record.removed)
    place = {record.class_names[number]: int(number) for number in known}
    numbers = np.array([place.get(name, -1) for name in problem.class_names])
    examination = images_for_test(problem, fitted)
    labels = numbers[examination.labels]
    kept = labels >= 0
    features = examination.features[torch.from_numpy(kept)]
    is_unseen = np.zeros(len(record.class_names), dtype=bool)
    is_unseen[model.unseen.numpy()] = True

    def among_known(scores: Tensor) -> np.ndarray:
        allowed = np.isin(np.arange(len(record.class_names)), known)
        return np.where(allowed, scores.float().numpy(), np.float32(-np.inf))

    return Scored(
        scores=among_known(model.scores(features)),
        conventional=among_known(model.conventional_scores(features)),
        labels=labels[kept],
        is_unseen=is_unseen,
    )
