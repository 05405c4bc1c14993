"""Figures again from a run folder: the saved models on the run's own test images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dkgzsl.checksums import check_files, is_sealed
from dkgzsl.config import TrainConfig
from dkgzsl.device import fast_products
from dkgzsl.errors import RunError
from dkgzsl.evaluation.bootstrap import deviations
from dkgzsl.evaluation.held_out import decided_on, test_images
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.methods.registry import load_model, read_model
from dkgzsl.reading import reading
from dkgzsl.report.estimate import Estimate
from dkgzsl.representation.representation import on_device, read_fitted
from dkgzsl.runs.environment import split_hash
from dkgzsl.runs.folder import RunFolder, version_folder, version_of
from dkgzsl.runs.model_record import FILE as RECORD
from dkgzsl.runs.model_record import RecognitionRecord
from dkgzsl.runs.places import check_places, recorded_config
from dkgzsl.runs.plan import Plan, make_plan
from dkgzsl.runs.summary import Trained, backbone_of, result_object
from dkgzsl.runs.training import stopwatch
from dkgzsl.runs.versions import score_version, version_details


@fast_products()
def evaluate(
    path: Path,
    *,
    data: str | None = None,
    features: str | None = None,
    data_root: str | None = None,
    device: str | None = None,
    version: int | None = None,
    clock: Callable[[], float] | None = None,
) -> Trained:
    """Score a finished run's models again.

    A later version is made from the first seed's model; its result says `version`, and images of classes that it
    does not know are left out. Chance and baseline are those of its own classes (`version_details`). One that was
    adapted to photos says to how many pools: where they were test images, its figures are transductive.

    Args:
        path: the run folder.
        data: the data set's folder now (default: where it was in training, or where it is from the run's place).
        features: feature file or store now (default: likewise).
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
    config = recorded_config(path)
    config = replace(config, name=data or config.name, features=features or config.features, device=device)
    config = replace(config, data_root=data_root or config.data_root)
    plan = _same_data(config, folder)
    number = version_of(path, version)
    estimate = Estimate.of(before["seeds_detail"]) if number == 0 else None
    _check_sizes(plan, path)
    damaged, sealed = "the files of the model do not fit the data", is_sealed(version_folder(path, number))
    with reading(damaged, path, error=RunError, fix="train again", verified=sealed):
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
        more, details = version_details(plan, folder, before, number)
        return Trained(path, {**result, **more}, {"seeds_detail": seeds, **details})
    others = {key: before.get(key) for key in ("baseline", "default", "chance")}
    return Trained(path, result, {"seeds_detail": seeds, **others})


def _same_data(config: TrainConfig, folder: RunFolder) -> Plan:
    """The plan of a run's settings, whose data is divided as it was in training."""
    check_places(config, folder.path, verb="evaluate")
    plan = make_plan(config)
    if split_hash(plan.problem) != folder.read_json("environment.json")["split_sha256"]:
        raise RunError(
            "the data has another split than the one the run was trained on",
            where=str(folder.path),
            fix="give the data set as it was then with --data or --data-root, or train again",
        )
    return plan


def _check_sizes(plan: Plan, path: Path) -> None:
    """That features and descriptions have the sizes that the run was trained on."""
    if not (path / RECORD).is_file():
        return  # a run of before there were recognizers
    record, problem = RecognitionRecord.read(path), plan.problem
    for what, trained, now in (
        ("the features of an image", tuple(record.features), tuple(problem.features.shape[1:])),
        ("the description of a class", (record.semantics.size,), tuple(problem.semantics.shape[1:])),
    ):
        if trained and trained != now:
            raise RunError(
                f"{what}: {list(now)} numbers, and the run was trained on {list(trained)}",
                where=str(path),
                fix="give the features that it was trained on with --features, or train again",
            )


def _scored_again(
    plan: Plan, folder: RunFolder, before: Sequence[Mapping[str, Any]], number: int
) -> tuple[list[Figures], list[dict[str, Any]]]:
    """Figures of each seed's model, or of a later version of the first, and what each seed has left."""
    figures, seeds = [], []
    for position, seed in enumerate(plan.seeds if number == 0 else plan.seeds[:1]):
        problem = plan.problem_for(seed)
        if number:
            later = version_folder(folder.path, number)
            check_files(later)
            fitted = on_device(read_fitted(later / "representation.safetensors"), plan.device)
            scored = score_version(later, problem, fitted, device=plan.device)
        else:
            model = load_model(read_model(folder.model_file(position)))
            fitted = on_device(read_fitted(folder.representation_file(position)), plan.device)
            scored = decided_on(plan.device, test_images(problem, fitted), model)
        constant = before[position]["constant"]
        figures.append(scored.figures(constant))
        seeds.append({**before[position], "spread_over_classes": deviations(scored, constant)})
    if plan.config.protocol == "oracle":  # T1 came from a model of its own, which is not kept
        figures = [replace(one, t1=seed["figures"]["t1"]) for one, seed in zip(figures, seeds, strict=True)]
    return figures, seeds
