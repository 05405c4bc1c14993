"""The main job: data -> method under a protocol, seed by seed -> figures, models, run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from time import perf_counter

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from dkgzsl.compatibility import FORMAT
from dkgzsl.config import TrainConfig
from dkgzsl.device import fast_products
from dkgzsl.errors import ConfigError, DataError, RunError
from dkgzsl.evaluation.metrics import Figures
from dkgzsl.files import sweep, sweep_inside
from dkgzsl.launch import train_command
from dkgzsl.report.estimate import Estimate
from dkgzsl.runs.environment import environment_of, split_hash
from dkgzsl.runs.folder import RunFolder, choose_folder
from dkgzsl.runs.follow import check_shared
from dkgzsl.runs.loggers import Logger, start_loggers
from dkgzsl.runs.model_card import model_card
from dkgzsl.runs.places import places_of
from dkgzsl.runs.plan import Plan, make_plan
from dkgzsl.runs.progress import Reporter
from dkgzsl.runs.seed import Record, log_failed, run_baseline, run_default, run_seed
from dkgzsl.runs.shares import run_on_workers
from dkgzsl.runs.states import settle_locked
from dkgzsl.runs.summary import Trained, backbone_of, chance, result_object
from dkgzsl.writing import going_on, locked


def train(
    config: TrainConfig,
    *,
    reporter: Reporter | None = None,
    clock: Callable[[], float] | None = None,
    loggers: Sequence[Logger] = (),
) -> Trained:
    """Train on a data set, score it, and leave a run folder.

    Args:
        config: the settings; see `TrainConfig`.
        reporter: shows progress (default: none).
        clock: seconds since the process began, for the result's `seconds` (default: since this call).
        loggers: further ones, besides those that `config.log` names.

    Raises:
        ConfigError: settings that clash or are out of range.
        DataError: data that is missing or unfit.
        RunError: a folder that cannot be written or continued.
    """
    reporter = reporter or Reporter(quiet=True)
    return run_plan(make_plan(config), reporter=reporter, clock=clock, loggers=loggers)


@fast_products()
def run_plan(
    plan: Plan,
    *,
    reporter: Reporter,
    clock: Callable[[], float] | None = None,
    loggers: Sequence[Logger] = (),
) -> Trained:
    """Carry out a plan."""
    clock = clock or stopwatch()
    check_shared(plan)
    path = _place_of(plan)
    with locked(path, what="this run"):
        folder = _open_folder(plan, path)
        folder.events.loggers = [*start_loggers(plan.config.log, path, plan.recorded()), *loggers]
        with going_on(f"to continue the run: {train_command(path)}"), closing(folder.events):
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


def _run_all(
    plan: Plan, folder: RunFolder, reporter: Reporter
) -> tuple[list[Record], Record | None, Record | None]:
    """Every seed, the baseline and the default; what is done already is read from the folder."""
    try:
        with reporter:
            if plan.config.on is not None:
                run_on_workers(plan, folder, reporter)
                seeds = [record for seed in plan.seeds if (record := folder.read_seed(seed)) is not None]
                return seeds, folder.read_seed("baseline"), folder.read_seed("default")
            seeds = [
                folder.read_seed(seed) or run_seed(plan, folder, position, seed, reporter)
                for position, seed in enumerate(plan.seeds)
            ]
            baseline = folder.read_seed("baseline") or run_baseline(plan, folder, reporter)
            default = folder.read_seed("default") or run_default(plan, folder, reporter)
            return seeds, baseline, default
    except BaseException as error:
        fitted = any(folder.file(f"seeds/{seed}.json").is_file() for seed in plan.seeds)
        if isinstance(error, ConfigError | DataError | LinAlgError) and not plan.config.resume and not fitted:
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


def _write_page(plan: Plan, folder: RunFolder, reporter: Reporter) -> None:
    if plan.config.report == "off":
        return
    from dkgzsl.runs.pages import write_report

    try:
        write_report(folder.path, images=plan.config.report == "on")
    except Exception as error:  # likewise
        log_failed(reporter, folder, error)


def stopwatch() -> Callable[[], float]:
    """A clock that starts now."""
    start = perf_counter()
    return lambda: perf_counter() - start
