"""One training of a run, and what it leaves in the folder: a seed, or a method that the run is compared with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dkgzsl.data.splits import validation_cut, validation_cuts
from dkgzsl.display import percent
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.evaluation.bootstrap import deviations
from dkgzsl.evaluation.cuts import mean_figures
from dkgzsl.evaluation.held_out import POOLED, validation_task
from dkgzsl.evaluation.in_distribution import FILE as IN_DISTRIBUTION
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.evaluation.protocols import Outcome, run_protocol
from dkgzsl.methods.base import Method, Setting, Setup
from dkgzsl.methods.registry import DEFAULT, PUBLISHED, make_method, method_info, write_model
from dkgzsl.report.record.record import full_record, predictions_record
from dkgzsl.representation.evidence import AttributeEvidence
from dkgzsl.representation.representation import FittedBlocks, Representation, learns
from dkgzsl.runs.folder import RunFolder
from dkgzsl.runs.model_record import FILE, RecognitionRecord
from dkgzsl.runs.plan import Plan
from dkgzsl.runs.progress import Reporter

LOGGED_STEPS = 10
"""Steps of refinement between two lines of the log."""

Record = dict[str, Any]


def run_seed(plan: Plan, folder: RunFolder, position: int, seed: int, reporter: Reporter) -> Record:
    """Train and score a seed, and write what it leaves.

    Args:
        plan: the run.
        folder: where files go; those of the first seed have no number.
        position: of the seed in the run.
        seed: what it draws by.
        reporter: shows its steps.

    Returns:
        Its record, as `seeds/SEED.json` and `result.json` have it.
    """
    checkpoints = folder.checkpoints(seed)
    shown = _Shown(plan, folder, reporter, seed, f"seed {seed} ({position + 1} of {len(plan.seeds)})")
    method = plan.make_method(seed, checkpoints=checkpoints, on_epoch=shown.epoch)
    outcome = run_protocol(
        plan.config.protocol,
        method,
        plan.problem_for(seed),
        seed=seed,
        representations=plan.representations(seed, progress=shown.refinement),
        watch=shown.evaluation,
        memory=checkpoints,
    )
    write_model(folder.model_file(position), outcome.model.save())
    if isinstance(outcome.fitted, FittedBlocks):
        outcome.fitted.visual.write(folder.representation_file(position))
    _keep_record(plan, folder, position, seed, outcome, reporter)
    if position == 0:
        _write_first(plan, folder, outcome)
    way = next(way for way in plan.representations(seed) if way.name == outcome.representation)
    record = {"seed": seed, **_record(_on_every_cut(plan, method, way, seed, outcome))}
    record["held_out_classes"] = _held_out(plan, seed)
    folder.write_seed(seed, record)
    folder.seal(finished=False)
    if checkpoints.parent.exists():
        shutil.rmtree(checkpoints.parent)
    return record


class _Shown:
    """The steps of a seed, on the screen and in the run's log.

    Args:
        plan: the run.
        folder: whose log it is.
        reporter: shows the steps.
        seed: whose steps they are.
        label: of the seed, on the screen.
    """

    def __init__(self, plan: Plan, folder: RunFolder, reporter: Reporter, seed: int, label: str) -> None:
        self._plan, self._folder, self._reporter = plan, folder, reporter
        self._seed, self._label, self._tried = seed, label, 0
        reporter.stage(label if plan.epochs is not None else f"{label}, settings tried", None)

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """An epoch is over."""
        self._folder.log("epoch", seed=self._seed, epoch=epoch, **values)
        self._reporter.reach(f"{self._label}, training, epoch", epoch, self._plan.epochs)

    def evaluation(self, setting: Setting, figures: Figures, representation: str) -> None:
        """A setting is evaluated on the validation classes."""
        values = {"representation": representation, "setting": dict(setting), "figures": asdict(figures)}
        self._folder.log("evaluation", seed=self._seed, **values)
        if self._plan.epochs is None:
            self._tried += 1
            note = f"AUSUC {percent(figures.ausuc)}"
            self._reporter.reach(f"{self._label}, settings tried", self._tried, None, note=note)

    def refinement(self, step: int, losses: Mapping[str, float]) -> None:
        """A step of refinement is done."""
        if step == 1 or step % LOGGED_STEPS == 0:
            self._folder.log("refinement", seed=self._seed, step=step, **losses)
        steps = self._plan.config.refinement.steps
        note = f"loss {sum(losses.values()):.2f}"
        self._reporter.reach(f"{self._label}, refining, step", step, steps, note=note)


def _write_first(plan: Plan, folder: RunFolder, outcome: Outcome) -> None:
    """Files that only the first seed leaves."""
    evidence = AttributeEvidence.of(plan.problem, outcome.fitted)
    if evidence is not None:
        evidence.write(folder.file("evidence.safetensors"))
    folder.write_csv("per_class.csv", *_per_class(plan, outcome))
    if outcome.in_distribution is not None:
        outcome.in_distribution.write(folder.file(IN_DISTRIBUTION))
    folder.write_json(FILE, RecognitionRecord.of(plan.problem, outcome.calibration, outcome.adaptation).to_json())


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
            reporter.stage("collecting what the report shows", None)
            record = full_record(problem, scored, constant, model=outcome.model, fitted=outcome.fitted, seed=seed)
        record.write(folder.record_file(position))
    except Exception as error:  # whatever it is, the run is worth more than its page
        log_failed(reporter, folder, error)


def log_failed(reporter: Reporter, folder: RunFolder, error: Exception) -> None:
    """Say that the report lacks something, and how to make it again."""
    what = str(error).splitlines()[0] if str(error) else type(error).__name__
    reporter.log(f"the report is not complete ({what}); the run itself is. Again: dkgzsl report {folder.path}")


def comparisons_of(plan: Plan) -> tuple[str, ...]:
    """Whether a run has a baseline, and whether the default method's figures stand next to its own."""
    if plan.config.baseline == "none":
        return ()
    names = (("baseline", plan.config.baseline != plan.method), ("default", plan.method == PUBLISHED))
    return tuple(name for name, wanted in names if wanted)


def run_baseline(plan: Plan, folder: RunFolder, reporter: Reporter) -> Record | None:
    """The baseline on the first seed's pooled features; None where there is none."""
    if "baseline" not in comparisons_of(plan):
        return None
    name = plan.config.baseline
    reporter.stage(f"{method_info(name).title}, for comparison", None)
    return _run_comparison(plan, folder, reporter, "baseline", comparison_method(plan, name))


def run_default(plan: Plan, folder: RunFolder, reporter: Reporter) -> Record | None:
    """The closed form next to the published method, on the first seed's pooled features; None elsewhere."""
    if "default" not in comparisons_of(plan):
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
            log_failed(reporter, folder, error)
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
