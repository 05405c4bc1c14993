"""A later version of a run: its scores, and what they are compared with over the same classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dkgzsl.data.problem import Problem
from dkgzsl.device import moved
from dkgzsl.errors import RunError
from dkgzsl.evaluation.bootstrap import deviations
from dkgzsl.evaluation.held_out import HeldOut, final_task, images_at_once, test_images
from dkgzsl.evaluation.metrics import Decisions, Scored
from dkgzsl.memory import blocks_of
from dkgzsl.methods.base import Extendable, Model
from dkgzsl.methods.registry import load_model, read_model
from dkgzsl.reading import read_json
from dkgzsl.representation.representation import Fitted
from dkgzsl.runs.folder import HISTORY, RunFolder, version_folder
from dkgzsl.runs.model_record import RecognitionRecord
from dkgzsl.runs.plan import Plan
from dkgzsl.runs.schema import History
from dkgzsl.runs.seed import comparison_method
from dkgzsl.runs.summary import chance


def score_version(
    folder: Path, problem: Problem, fitted: Fitted, *, device: torch.device | None = None
) -> Decisions:
    """What a version's model decides over its own class numbers.

    Classes of data and version are matched by name: a class that was removed has no images here, one that was
    removed and described anew is scored by the new description.

    Args:
        folder: the version's.
        problem: the run's data.
        fitted: the version's representation.
        device: where the model scores; None: the CPU.
    """
    record, model = RecognitionRecord.read(folder), load_model(read_model(folder / "model.safetensors"))
    there = moved(model, device or torch.device("cpu"))
    return _scores_over(record, model, there, problem, test_images(problem, fitted))


def version_details(
    plan: Plan, folder: RunFolder, before: Mapping[str, Any], number: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a version's result says besides its figures, and with what they are compared.

    Args:
        plan: of the run.
        folder: the run's.
        before: the run's result.
        number: of the version, 1 or higher.

    Returns:
        Further entries of the result, and the details: `baseline` and `chance` over the version's classes, and its
        `history`.

    Raises:
        RunError: the version is damaged.
    """
    place = version_folder(folder.path, number)
    record, model = RecognitionRecord.read(place), load_model(read_model(place / "model.safetensors"))
    unseen, seen = (np.setdiff1d(numbers.numpy(), record.removed).size for numbers in (model.unseen, model.seen))
    history = history_of(place)
    added = [record.class_names[k] for k in _described(record, model).tolist()]
    tested = {plan.problem.class_names[k] for k in np.unique(plan.problem.labels)}
    details = {
        "baseline": version_baseline(plan, before.get("baseline"), record, model),
        "chance": chance(unseen=unseen, classes=unseen + seen),
        "history": {**history, "classes_now": unseen + seen, "untested": [n for n in added if n not in tested]},
    }
    pools = {"adapted_to_pools": len(record.pools)} if record.pools else {}
    return {"version": number, "made_by": history.get("action"), **pools}, details


def version_baseline(
    plan: Plan, before: Mapping[str, Any] | None, record: RecognitionRecord, model: Model
) -> dict[str, Any] | None:
    """The baseline's figures over a version's classes; None where there is none, or it takes no new classes.

    It is fitted again with the setting and the constant that it had, and gets the descriptions of the version's
    classes. Photos that the version learned from it does not get.

    Args:
        plan: of the run.
        before: what the run recorded of its baseline.
        record: the version's.
        model: the version's.
    """
    if before is None or "setting" not in before:
        return None
    problem = plan.problem_for(plan.seeds[0])
    task, held_out = final_task(problem)
    fitted = comparison_method(plan, before["method"]).fit(task, before["setting"])
    own = len(problem.class_names)
    if isinstance(fitted, Extendable) and isinstance(model, Extendable):
        added = model.semantics[own:].to(fitted.semantics)
        fitted = fitted.with_classes(torch.cat([fitted.semantics, added]), _described(record, model))
    elif len(record.class_names) > own:
        return None
    scored = _scores_over(record, model, fitted, problem, held_out)
    constant = before["constant"]
    return {
        "method": before["method"],
        "setting": dict(before["setting"]),
        "constant": constant,
        "figures": asdict(scored.figures(constant)),
        "spread_over_classes": deviations(scored, constant),
    }


def history_of(place: Path) -> dict[str, Any]:
    """How a version was made: `parent`, `action`, and what that action changed.

    Raises:
        RunError: the record is damaged; a version without one has an empty history.
    """
    file = place / HISTORY
    if not file.is_file():
        return {}
    content: dict[str, Any] = read_json(file, History, f"{HISTORY} is damaged", error=RunError)
    return content


def _described(record: RecognitionRecord, model: Model) -> Tensor:
    """Numbers of the version's described classes, without those that were removed."""
    return torch.tensor([k for k in model.unseen.tolist() if k not in record.removed]).to(model.unseen)


def _scores_over(
    record: RecognitionRecord, version: Model, model: Model, problem: Problem, held_out: HeldOut
) -> Decisions:
    """What a version's model, or another of the same class numbers, decides for the test images."""
    known = np.setdiff1d(torch.cat([version.seen, version.unseen]).numpy(), record.removed)
    place = {record.class_names[number]: int(number) for number in known}
    numbers = np.array([place.get(name, -1) for name in problem.class_names])
    labels = numbers[held_out.labels]
    kept = labels >= 0
    features = held_out.features[torch.from_numpy(kept)].to(model.semantics.device)
    is_unseen = np.zeros(len(record.class_names), dtype=bool)
    is_unseen[version.unseen.numpy()] = True

    allowed, labels = np.isin(np.arange(len(record.class_names)), known), labels[kept]

    def among_known(scores: Tensor) -> np.ndarray:
        return np.where(allowed, scores.float().cpu().numpy(), np.float32(-np.inf))

    blocks = []
    for rows, block in blocks_of(features, images_at_once(len(allowed))):
        generalized, conventional = model.scores(block), model.conventional_scores(block)
        scored = Scored(among_known(generalized), among_known(conventional), labels[rows], is_unseen)
        blocks.append(scored.decisions)
    return Decisions.joined(blocks)
