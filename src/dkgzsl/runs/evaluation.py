"""Figures again from a run folder: the saved models on the run's own test images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dkgzsl.data.problem import Problem
from dkgzsl.errors import RunError
from dkgzsl.evaluation.bootstrap import deviations
from dkgzsl.evaluation.held_out import test_images
from dkgzsl.evaluation.metrics import Figures, Scored
from dkgzsl.methods.registry import load_model, read_model
from dkgzsl.methods.sections import read_train_config
from dkgzsl.reading import reading
from dkgzsl.report.estimate import Estimate
from dkgzsl.representation.representation import Fitted, read_fitted
from dkgzsl.runs.environment import split_hash
from dkgzsl.runs.folder import RunFolder, version_folder, version_of
from dkgzsl.runs.model_record import RecognitionRecord
from dkgzsl.runs.plan import Plan, make_plan
from dkgzsl.runs.summary import Trained, backbone_of, chance, result_object
from dkgzsl.runs.training import stopwatch


def score_version(folder: Path, problem: Problem, fitted: Fitted) -> Scored:
    """Scores of a version's model over its own class numbers.

    Classes of data and version are matched by name: a class that was removed has no images here, one that was
    removed and described anew is scored by the new description.

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
    held_out = test_images(problem, fitted)
    labels = numbers[held_out.labels]
    kept = labels >= 0
    features = held_out.features[torch.from_numpy(kept)]
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


def evaluate(
    path: Path,
    *,
    data_root: str | None = None,
    device: str | None = None,
    version: int | None = None,
    clock: Callable[[], float] | None = None,
) -> Trained:
    """Score a finished run's models again.

    A later version, with classes added or taken away, is made from the first seed's model; its result says
    `version`, and images of classes that it does not know are left out. Its chance is that of its own classes, and
    the baseline, which was scored over the run's, is left out. A version that was adapted to photos without labels
    says to how many pools (`adapted_to_pools`): where they were test images, its figures are transductive.

    Args:
        path: the run folder.
        data_root: where the data sets lie now (default: where they lay).
        device: where to compute (default: chosen by itself).
        version: of the run's classes, 0 as trained (default: the newest).
        clock: seconds since the process began (default: since this call).

    Raises:
        RunError: the run is not finished, or its data has another split now.
        DataError: its data is not found.
    """
    clock = clock or stopwatch()
    folder = RunFolder.open(path)
    before = folder.read_result()
    config = read_train_config(folder.file("config.yaml"))
    config = replace(config, device=device, data_root=data_root or config.data_root)
    plan = make_plan(config)
    recorded = folder.read_json("environment.json")["split_sha256"]
    if split_hash(plan.problem) != recorded:
        raise RunError(
            "the data has another split than the one the run was trained on",
            where=str(path),
            fix="give the data set as it was then with --data-root, or train again",
        )
    number = version_of(path, version)
    estimate = Estimate.of(before["seeds_detail"]) if number == 0 else None
    with reading("the files of the model do not fit the data", path, error=RunError, fix="train again"):
        figures, seeds = _scored_again(plan, folder, before["seeds_detail"], number)
    result = result_object(
        run=str(path),
        dataset=plan.problem.name,
        method=plan.method,
        protocol=config.protocol,
        semantics=plan.problem.semantics_name,
        backbone=backbone_of(plan.problem),
        seeds=plan.seeds[: len(figures)],
        figures=figures,
        seconds=clock(),
    )
    result["estimated"] = None if estimate is None else estimate.to_json()
    if number:
        pools = len(RecognitionRecord.read(version_folder(path, number)).pools)
        later = {"version": number, **({"adapted_to_pools": pools} if pools else {})}
        return Trained(path, {**result, **later}, {"seeds_detail": seeds, "chance": _chance_of(path, number)})
    others = {key: before.get(key) for key in ("baseline", "default", "chance")}
    return Trained(path, result, {"seeds_detail": seeds, **others})


def _chance_of(path: Path, number: int) -> dict[str, float]:
    """Per-class accuracy of guessing among the classes that a version knows."""
    folder = version_folder(path, number)
    model, removed = load_model(read_model(folder / "model.safetensors")), RecognitionRecord.read(folder).removed
    unseen, seen = (np.setdiff1d(numbers.numpy(), removed).size for numbers in (model.unseen, model.seen))
    return chance(unseen=unseen, classes=unseen + seen)


def _scored_again(
    plan: Plan, folder: RunFolder, before: Sequence[Mapping[str, Any]], number: int
) -> tuple[list[Figures], list[dict[str, Any]]]:
    """Figures of each seed's model, or of a later version of the first, and what each seed has left."""
    figures, seeds = [], []
    for position, seed in enumerate(plan.seeds if number == 0 else plan.seeds[:1]):
        problem = plan.problem_for(seed)
        if number:
            later = version_folder(folder.path, number)
            scored = score_version(later, problem, read_fitted(later / "representation.safetensors"))
        else:
            model = load_model(read_model(folder.model_file(position)))
            held_out = test_images(problem, read_fitted(folder.representation_file(position)))
            scored = held_out.score(model)
        constant = before[position]["constant"]
        figures.append(scored.figures(constant))
        seeds.append({**before[position], "spread_over_classes": deviations(scored, constant)})
    if plan.config.protocol == "oracle":  # T1 came from a model of its own, which is not kept
        figures = [replace(one, t1=seed["figures"]["t1"]) for one, seed in zip(figures, seeds, strict=True)]
    return figures, seeds
