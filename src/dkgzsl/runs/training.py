"""The main job: data -> method under a protocol, seed by seed -> figures, models, run folder."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dkgzsl.compatibility import FORMAT
from dkgzsl.config import TrainConfig
from dkgzsl.data.splits import validation_cut, validation_cuts
from dkgzsl.errors import ConfigError, DataError, RunError
from dkgzsl.evaluation.bootstrap import deviations
from dkgzsl.evaluation.cuts import mean_figures
from dkgzsl.evaluation.held_out import POOLED, validation_task
from dkgzsl.evaluation.in_distribution import FILE as IN_DISTRIBUTION
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.evaluation.protocols import Outcome, run_protocol
from dkgzsl.files import sweep, sweep_inside
from dkgzsl.methods.base import Method, Setting, Setup
from dkgzsl.methods.registry import DEFAULT, PUBLISHED, make_method, method_info, write_model
from dkgzsl.report.estimate import Estimate
from dkgzsl.report.record.record import full_record, predictions_record
from dkgzsl.representation.evidence import AttributeEvidence
from dkgzsl.representation.representation import FittedBlocks, Representation, learns
from dkgzsl.runs.environment import environment_of, split_hash
from dkgzsl.runs.folder import RunFolder, choose_folder
from dkgzsl.runs.model_card import model_card
from dkgzsl.runs.model_record import FILE, RecognitionRecord
from dkgzsl.runs.places import places_of
from dkgzsl.runs.plan import Plan, make_plan
from dkgzsl.runs.progress import Reporter
from dkgzsl.runs.states import settle_locked
from dkgzsl.runs.summary import Trained, backbone_of, chance, result_object
from dkgzsl.writing import going_on, locked

LOGGED_STEPS = 10
"""Steps of refinement between two lines of the log."""


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
    path = _place_of(plan)
    with locked(path, what="this run"):
        folder = _open_folder(plan, path)
        with going_on(f"to continue the run: {shlex.join(['dkgzsl', 'train', '--resume', '--out', str(path)])}"):
            return _run_in(plan, folder, reporter, clock)


def _run_in(plan: Plan, folder: RunFolder, reporter: Reporter, clock: Callable[[], float]) -> Trained:
    for note in plan.notes:
        reporter.log(note)
    seeds, baseline, default = _run_all(plan, folder, reporter)
    result = result_object(
        run=str(folder.path),
        dataset=plan.problem.name,
        method=plan.method,
        protocol=plan.config.protocol,
        semantics=plan.problem.semantics_name,
        backbone=backbone_of(plan.problem),
        seeds=plan.seeds,
        figures=[Figures(**one["figures"]) for one in seeds],
        seconds=clock(),
    )
    estimate = Estimate.of(seeds)
    result["estimated"] = None if estimate is None else estimate.to_json()
    guessing = chance(unseen=len(plan.problem.unseen_classes), classes=len(plan.problem.class_names))
    details = {"seeds_detail": seeds, "baseline": baseline, "default": default, "chance": guessing}
    folder.write_json("result.json", {"format": FORMAT, **result, **details})
    folder.write_text("card.md", model_card(result, details, folder.read_json("environment.json")))
    folder.log("result", **result)
    folder.seal(finished=True)
    folder.complete()
    _write_page(plan, folder, reporter)
    return Trained(folder.path, result, details)


def _place_of(plan: Plan) -> Path:
    """Where the run goes; a folder of today's date is made at once, so that nobody else takes its name."""
    config = plan.config
    while config.out is None:
        path = choose_folder(config, plan.problem.name, plan.method)
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(
                f"cannot write the run folder: {error.strerror or error}",
                where=str(path),
                fix="name another --out",
            ) from error
    return Path(config.out)


def _open_folder(plan: Plan, path: Path) -> RunFolder:
    """The run's folder, whose lock is held: a new one, or that of the run to be resumed."""
    config, problem = plan.config, plan.problem
    with suppress(OSError):  # a folder that cannot be written is reported below
        settle_locked(path.resolve())
        sweep(path.resolve())
        sweep_inside(path)
    if config.out is not None:
        choose_folder(config, problem.name, plan.method)  # raises where it is taken
    if config.resume and (path / "config.yaml").is_file():
        folder = RunFolder.open(path)
        folder.check_same(plan.recorded(), split_hash(problem))
        folder.unseal()
        folder.mend_log()
        return folder
    folder = RunFolder.create(path, overwrite=config.overwrite)
    try:
        recorded = plan.recorded()
        environment = environment_of(problem, device=plan.device, seeds=list(plan.seeds))
        folder.begin(recorded, environment | places_of(recorded, problem, path))
        folder.seal(finished=False)
    except Exception:
        folder.discard()
        raise
    return folder


Record = dict[str, Any]


def _run_all(
    plan: Plan, folder: RunFolder, reporter: Reporter
) -> tuple[list[Record], Record | None, Record | None]:
    """Every seed, the baseline and the default; what is done already is read from the folder."""
    seeds: list[Record] = []
    try:
        with reporter:
            for position, seed in enumerate(plan.seeds):
                done = folder.read_seed(seed)
                seeds.append(done or _run_seed(plan, folder, position, seed, reporter))
            baseline = folder.read_seed("baseline") or _run_baseline(plan, folder, reporter)
            default = folder.read_seed("default") or _run_default(plan, folder, reporter)
    except BaseException as error:
        if isinstance(error, ConfigError | DataError | LinAlgError) and not plan.config.resume and not seeds:
            folder.discard()  # nothing was fitted: the settings or the data are wrong
        if folder.replaced is not None:  # after `discard`, which puts the older run back
            reporter.log(f"the run that this one was to replace lies in {folder.replaced}")
        if isinstance(error, LinAlgError):
            raise DataError(
                f"no solution for these features and settings: {str(error).splitlines()[0]}",
                where=plan.problem.name,
                fix="check the features' range (dkgzsl data check), or leave extreme settings out",
            ) from error
        raise
    return seeds, baseline, default


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
        if plan.epochs is None:
            reporter.advance(note=f"AUSUC {figures.ausuc:.3f}" if figures.ausuc is not None else "")

    method = plan.make_method(seed, checkpoints=checkpoints, on_epoch=on_epoch)
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
        outcome.fitted.visual.write(folder.representation_file(position))
    _keep_record(plan, folder, position, seed, outcome, reporter)
    if position == 0:
        evidence = AttributeEvidence.of(plan.problem, outcome.fitted)
        if evidence is not None:
            evidence.write(folder.file("evidence.safetensors"))
        folder.write_csv("per_class.csv", *_per_class(plan, outcome))
        if outcome.in_distribution is not None:
            outcome.in_distribution.write(folder.file(IN_DISTRIBUTION))
        folder.write_json(
            FILE, RecognitionRecord.of(plan.problem, outcome.calibration, outcome.adaptation).to_json()
        )
    ways = {way.name: way for way in plan.representations(seed)}
    record = {"seed": seed, **_record(_on_every_cut(plan, method, ways[outcome.representation], seed, outcome))}
    record["held_out_classes"] = _held_out(plan, seed)
    folder.write_seed(seed, record)
    folder.seal(finished=False)
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
        _log_failed(reporter, folder, error)


def _write_page(plan: Plan, folder: RunFolder, reporter: Reporter) -> None:
    if plan.config.report == "off":
        return
    from dkgzsl.runs.pages import write_report

    try:
        write_report(folder.path, images=plan.config.report == "on")
    except Exception as error:  # likewise
        _log_failed(reporter, folder, error)


def _log_failed(reporter: Reporter, folder: RunFolder, error: Exception) -> None:
    what = str(error).splitlines()[0] if str(error) else type(error).__name__
    reporter.log(f"the report is not complete ({what}); the run itself is. Again: dkgzsl report {folder.path}")


def _steps(plan: Plan) -> int | None:
    """Most steps of a seed's bar: epochs of exploring and, where validated, of fitting again; None: not known."""
    if plan.method == PUBLISHED and plan.epochs is not None:
        return plan.epochs * (2 if plan.config.protocol == "validated" else 1)
    return None


def _run_baseline(plan: Plan, folder: RunFolder, reporter: Reporter) -> Record | None:
    name = plan.config.baseline
    if name in ("none", plan.method):
        return None
    reporter.stage(f"{method_info(name).title}, for comparison", None)
    return _run_comparison(plan, folder, reporter, "baseline", comparison_method(plan, name))


def _run_default(plan: Plan, folder: RunFolder, reporter: Reporter) -> Record | None:
    """The closed form next to the published method, on the first seed's pooled features; None elsewhere."""
    if plan.method != PUBLISHED or plan.config.baseline == "none":
        return None
    reporter.stage("the closed form, for comparison", None)
    try:
        return _run_comparison(plan, folder, reporter, "default", comparison_method(plan, DEFAULT))
    except (ConfigError, DataError, ValueError, LinAlgError) as error:  # one seen class only, for instance
        reporter.log(f"without the closed form's figures for comparison: {str(error).splitlines()[0]}")
        return None


def comparison_method(plan: Plan, name: str) -> Method:
    """The method that a run is compared with, by its defaults, or what is published for the data set."""
    info, seed = method_info(name), plan.seeds[0]
    settings = info.settings()
    if info.published is not None:
        settings = info.published(settings, plan.problem.name, False).settings
    return make_method(name, settings, Setup(seed, str(plan.device)))


def _run_comparison(
    plan: Plan, folder: RunFolder, reporter: Reporter, name: str, method: Method
) -> dict[str, Any]:
    """Another method on the first seed's data, under the same protocol."""
    problem, seed = plan.problem_for(plan.seeds[0]), plan.seeds[0]
    outcome = run_protocol(plan.config.protocol, method, problem, seed=seed, watch=lambda *_: reporter.advance())
    if plan.config.report != "off":
        try:
            predictions_record(problem, outcome.scored, outcome.constant).write(folder.record_file(name))
        except Exception as error:
            _log_failed(reporter, folder, error)
    found = _record(_on_every_cut(plan, method, POOLED, seed, outcome))
    record = {"method": method.name, **found, "held_out_classes": _held_out(plan, seed)}
    folder.write_seed(name, record)
    folder.seal(finished=False)
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
        "validation_spread": None if outcome.validation_spread is None else asdict(outcome.validation_spread),
        "cuts": outcome.cuts,
        "validation_sample": None if outcome.sample is None else outcome.sample._asdict(),
        "constant_found": outcome.constant_found,
        "constant_spread": outcome.constant_spread,
        "adaptation": None if outcome.adaptation is None else dict(outcome.adaptation),
        "evaluations": outcome.evaluations,
        "test_evaluations": outcome.evaluations if outcome.protocol == "oracle" else 1,
    }


def _on_every_cut(plan: Plan, method: Method, way: Representation, seed: int, outcome: Outcome) -> Outcome:
    """With figures of all cuts, where they are the headline and the method has chosen on one cut alone.

    The setting stays; of a method that trains by epochs, or a representation that learns, one cut must do.
    """
    problem = plan.problem_for(seed)
    if outcome.cuts != 1 or outcome.figures.u is not None or outcome.constant is None:
        return outcome
    if method_info(method.name).iterative or learns(way.name):
        return outcome
    figures = []
    for cut in validation_cuts(problem, seed):
        task, held_out = validation_task(problem, seed, way, cut=cut)
        figures.append(held_out.score(method.fit(task, outcome.setting)).figures(outcome.constant))
    mean, spread = mean_figures(figures)
    return replace(outcome, validation=mean, validation_spread=spread, cuts=len(figures))


def _held_out(plan: Plan, seed: int) -> int | None:
    """How many seen classes a validation cut treats as unseen."""
    if plan.config.protocol != "validated":
        return None
    return len(validation_cut(plan.problem_for(seed), seed).pseudo_unseen_classes)


def _reliability(outcome: Outcome) -> dict[str, Any]:
    """How scores become probabilities, and how far these mean what they say on the test images."""
    found = outcome.calibration
    if found is None:
        return {"calibration": None, "reliability": None}
    return {
        "calibration": found.record(),
        "reliability": None if outcome.reliability is None else asdict(outcome.reliability),
    }


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
