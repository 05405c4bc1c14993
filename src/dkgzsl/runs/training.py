"""The main job: data -> method under a protocol, seed by seed -> figures, models, run folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dkgzsl.config import TrainConfig
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.evaluation.bootstrap import deviations
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.evaluation.protocols import Outcome, run_protocol
from dkgzsl.files import write_checkpoint
from dkgzsl.methods.base import Method, Setting
from dkgzsl.methods.closed_form.either_length import EitherLength
from dkgzsl.methods.closed_form.method import ClosedForm
from dkgzsl.methods.closed_form.softmax import ClosedFormSoftmax
from dkgzsl.methods.dkgzsl.method import paper_of
from dkgzsl.methods.peers.eszsl import ESZSL
from dkgzsl.methods.registry import write_model
from dkgzsl.report.record.record import full_record, predictions_record
from dkgzsl.representation.evidence import AttributeEvidence
from dkgzsl.representation.representation import FittedBlocks
from dkgzsl.runs.environment import environment_of, split_hash
from dkgzsl.runs.folder import RunFolder, choose_folder
from dkgzsl.runs.model_card import model_card
from dkgzsl.runs.model_record import FILE, RecognitionRecord
from dkgzsl.runs.plan import Plan, make_plan
from dkgzsl.runs.progress import Reporter
from dkgzsl.runs.summary import backbone_of, result_object

LOGGED_STEPS = 10
"""Steps of refinement between two lines of the log."""


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: where it lies.
        result: the object that `--json` prints.
        details: what `result.json` holds beside it: per seed, baseline, chance, spread over classes.
    """

    folder: Path
    result: dict[str, Any]
    details: dict[str, Any]


def train(
    config: TrainConfig, *, reporter: Reporter | None = None, clock: Callable[[], float] | None = None
) -> Trained:
    """Train on a data set, score it, and leave a run folder.

    Args:
        config: the settings; see `TrainConfig`.
        reporter: shows progress (default: none).
        clock: seconds since the process began, for the result's `seconds` (default: since this call).

    Raises:
        ConfigError: settings that clash or are out of range.
        DataError: data that is missing or unfit.
        RunError: a folder that cannot be written or continued.
    """
    return run_plan(make_plan(config), reporter=reporter or Reporter(quiet=True), clock=clock)


def run_plan(plan: Plan, *, reporter: Reporter, clock: Callable[[], float] | None = None) -> Trained:
    """Carry out a plan."""
    clock = clock or stopwatch()
    config, problem = plan.config, plan.problem
    path = choose_folder(config, problem.name, plan.variant)
    if config.resume:
        folder = RunFolder.open(path)
        folder.check_same(plan.recorded(), split_hash(problem))
    else:
        folder = RunFolder.create(path, overwrite=config.overwrite)
        try:
            folder.begin(plan.recorded(), environment_of(problem, device=plan.device, seeds=list(plan.seeds)))
        except Exception:
            folder.discard()
            raise
    for note in plan.notes:
        reporter.log(note)

    seeds = []
    try:
        with reporter:
            for position, seed in enumerate(plan.seeds):
                done = folder.read_seed(seed)
                seeds.append(done or _run_seed(plan, folder, position, seed, reporter))
            baseline = folder.read_seed("baseline") or _run_baseline(plan, folder, reporter)
            default = folder.read_seed("default") or _run_default(plan, folder, reporter)
    except KeyboardInterrupt:
        reporter.log(f"the run can be continued: the same command with --out {path} --resume")
        _tell_replaced(folder, reporter)
        raise
    except (ConfigError, DataError, LinAlgError) as error:
        if not config.resume and not seeds:
            folder.discard()
        _tell_replaced(folder, reporter)
        if isinstance(error, LinAlgError):
            raise DataError(
                f"no solution for these features and settings: {str(error).splitlines()[0]}",
                where=problem.name,
                fix="look at the features' range (dkgzsl data check), or leave extreme settings out",
            ) from error
        raise
    except Exception:
        _tell_replaced(folder, reporter)
        raise
    figures = [Figures(**one["figures"]) for one in seeds]
    result = result_object(
        run=str(path),
        dataset=problem.name,
        variant=plan.variant,
        protocol=config.protocol,
        semantics=problem.semantics_name,
        backbone=backbone_of(problem),
        seeds=plan.seeds,
        figures=figures,
        seconds=clock(),
    )
    details = {
        "seeds_detail": seeds,
        "baseline": baseline,
        "default": default,
        "chance": _chance(plan),
    }
    folder.write_json("result.json", {**result, **details})
    folder.write_text("card.md", model_card(result, details, folder.read_json("environment.json")))
    folder.log("result", **result)
    folder.complete()
    _write_page(plan, folder, reporter)
    return Trained(path, result, details)


def _tell_replaced(folder: RunFolder, reporter: Reporter) -> None:
    if folder.replaced is not None:
        reporter.log(f"the run that this one was to replace lies in {folder.replaced}")


def make_method(
    plan: Plan,
    seed: int,
    *,
    checkpoints: Path | None = None,
    on_epoch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Method:
    """The method that a plan asks for."""
    config, device = plan.config, str(plan.device)
    if plan.variant == "paper":
        return paper_of(config, seed=seed, device=device, checkpoints=checkpoints, on_epoch=on_epoch)
    form = EitherLength if config.knowledge.unit_length == "auto" else ClosedForm
    knowledge = form(config.knowledge, seed=seed, device=device, episodes=config.epochs, queries=config.batch_size)
    if config.classifier == "softmax":
        return ClosedFormSoftmax(knowledge, config.softmax)
    return knowledge


def _run_seed(plan: Plan, folder: RunFolder, position: int, seed: int, reporter: Reporter) -> dict[str, Any]:
    label = f"seed {seed} ({position + 1} of {len(plan.seeds)})"
    checkpoints = folder.checkpoints(seed)

    def on_epoch(epoch: int, values: Mapping[str, float]) -> None:
        folder.log("epoch", seed=seed, epoch=epoch, **values)
        reporter.advance()

    def watch(setting: Setting, figures: Figures, representation: str) -> None:
        folder.log(
            "evaluation", seed=seed, representation=representation, setting=dict(setting), figures=asdict(figures)
        )
        if plan.variant != "paper":
            reporter.advance(note=f"AUSUC {figures.ausuc:.3f}" if figures.ausuc is not None else "")

    method = make_method(plan, seed, checkpoints=checkpoints, on_epoch=on_epoch)
    reporter.stage(label, _steps(plan))

    def on_step(step: int, losses: Mapping[str, float]) -> None:
        if step == 1 or step % LOGGED_STEPS == 0:
            folder.log("refinement", seed=seed, step=step, **losses)
        reporter.advance(note=f"refining, loss {sum(losses.values()):.2f}")

    outcome = run_protocol(
        plan.config.protocol,
        method,
        plan.problem_for(seed),
        seed=seed,
        representations=plan.representations(seed, progress=on_step),
        watch=watch,
        memory=checkpoints,
    )
    write_model(folder.model_file(position), outcome.model.save())
    if isinstance(outcome.fitted, FittedBlocks):
        saved = outcome.fitted.visual.save()
        write_checkpoint(folder.representation_file(position), saved.tensors, saved.values)
    _keep_record(plan, folder, position, seed, outcome, reporter)
    if position == 0:
        refiner = outcome.fitted.visual.refiner if isinstance(outcome.fitted, FittedBlocks) else None
        evidence = AttributeEvidence.of(plan.problem, refiner)
        if evidence is not None:
            evidence.write(folder.file("evidence.safetensors"))
        folder.write_csv("per_class.csv", *_per_class(plan, outcome))
        folder.write_json(FILE, RecognitionRecord.of(plan.problem, outcome.calibration).to_json())
    record = {"seed": seed, **_record(outcome)}
    folder.write_seed(seed, record)
    if checkpoints.parent.exists():
        shutil.rmtree(checkpoints.parent)
    return record


def _keep_record(
    plan: Plan, folder: RunFolder, position: int, seed: int, outcome: Outcome, reporter: Reporter
) -> None:
    """Keep what the page is drawn from: all of it for the first seed, the predictions of the others."""
    if plan.config.report == "off":
        return
    problem, scored, constant = plan.problem_for(seed), outcome.scored, outcome.constant
    try:
        if position:
            record = predictions_record(problem, scored, constant)
        else:
            reporter.stage("for the report", None)
            record = full_record(problem, scored, constant, model=outcome.model, fitted=outcome.fitted, seed=seed)
        record.write(folder.record_file(position))
    except Exception as error:  # whatever it is, the run is worth more than its page
        _say_failed(reporter, folder, error)


def _write_page(plan: Plan, folder: RunFolder, reporter: Reporter) -> None:
    if plan.config.report == "off":
        return
    from dkgzsl.runs.pages import write_report

    try:
        write_report(folder.path, images=plan.config.report == "on")
    except Exception as error:  # likewise
        _say_failed(reporter, folder, error)


def _say_failed(reporter: Reporter, folder: RunFolder, error: Exception) -> None:
    what = str(error).splitlines()[0] if str(error) else type(error).__name__
    reporter.log(f"the report is not complete ({what}); the run itself is. Again: dkgzsl report {folder.path}")


def _steps(plan: Plan) -> int | None:
    """Most steps of a seed's bar: epochs of exploring and, where validated, of fitting again; None for evaluations."""
    if plan.variant == "paper":
        assert plan.config.epochs is not None, "the plan fills it"
        return plan.config.epochs * (2 if plan.config.protocol == "validated" else 1)
    return None


def _run_baseline(plan: Plan, folder: RunFolder, reporter: Reporter) -> dict[str, Any] | None:
    if plan.config.baseline == "none":
        return None
    reporter.stage("ESZSL, for comparison", None)
    return _run_comparison(plan, folder, reporter, "baseline", ESZSL(device=str(plan.device)))


def _run_default(plan: Plan, folder: RunFolder, reporter: Reporter) -> dict[str, Any] | None:
    """The default form beside the published one, on the first seed's pooled features; None where there is none."""
    if plan.variant != "paper" or plan.config.baseline == "none":
        return None
    reporter.stage("the default form, for comparison", None)
    method = ClosedForm(plan.config.knowledge, seed=plan.seeds[0], device=str(plan.device))
    try:
        return _run_comparison(plan, folder, reporter, "default", method)
    except (ConfigError, DataError, ValueError, LinAlgError) as error:  # one seen class only, for instance
        reporter.log(f"without the default form's figures beside: {str(error).splitlines()[0]}")
        return None


def _run_comparison(
    plan: Plan, folder: RunFolder, reporter: Reporter, name: str, method: Method
) -> dict[str, Any]:
    """Another method on the first seed's data, under the same protocol, to stand beside the run's figures."""
    problem, seed = plan.problem_for(plan.seeds[0]), plan.seeds[0]
    outcome = run_protocol(plan.config.protocol, method, problem, seed=seed, watch=lambda *_: reporter.advance())
    if plan.config.report != "off":
        try:
            predictions_record(problem, outcome.scored, outcome.constant).write(folder.record_file(name))
        except Exception as error:
            _say_failed(reporter, folder, error)
    record = {"method": method.name, **_record(outcome)}
    folder.write_seed(name, record)
    return record


def _record(outcome: Outcome) -> dict[str, Any]:
    return {
        "figures": asdict(outcome.figures),
        "spread_over_classes": deviations(outcome.scored, outcome.constant),
        "representation": outcome.representation,
        "setting": dict(outcome.setting),
        "constant": outcome.constant,
        **_reliability(outcome),
        "validation": None if outcome.validation is None else asdict(outcome.validation),
        "evaluations": outcome.evaluations,
        "test_evaluations": outcome.evaluations if outcome.protocol == "paper" else 1,
    }


def _reliability(outcome: Outcome) -> dict[str, Any]:
    """How scores become probabilities, and how far these mean what they say on the test images."""
    found = outcome.calibration
    if found is None:
        return {"calibration": None, "reliability": None}
    reliability = found.reliability(outcome.scored)
    return {
        "calibration": found.record(),
        "reliability": None if reliability is None else asdict(reliability),
    }


def _chance(plan: Plan) -> dict[str, float]:
    """Per-class accuracy of guessing: among unseen classes, and among all."""
    unseen = len(plan.problem.unseen_classes)
    return {"t1": 1 / unseen, "u": 1 / len(plan.problem.class_names), "s": 1 / len(plan.problem.class_names)}


def _per_class(plan: Plan, outcome: Outcome) -> tuple[list[str], list[list[Any]]]:
    problem, scored = plan.problem, outcome.scored
    raw = scored.class_accuracies()
    calibrated = None if outcome.constant is None else scored.class_accuracies(outcome.constant)
    conventional = scored.conventional_accuracies()
    rows = []
    for number, name in enumerate(problem.class_names):
        images = int((scored.labels == number).sum())
        accuracies = [raw[number], None if calibrated is None else calibrated[number], conventional[number]]
        shown = ["" if value is None or value != value else f"{value:.4f}" for value in accuracies]
        rows.append([name, "unseen" if scored.is_unseen[number] else "seen", images, *shown])
    return ["class", "role", "test_images", "accuracy", "accuracy_calibrated", "accuracy_among_unseen"], rows


def stopwatch() -> Callable[[], float]:
    """A clock that starts now."""
    start = perf_counter()
    return lambda: perf_counter() - start
