"""From what the user asked to what will be done: open settings filled, clashes found, nothing written yet."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dkgzsl.compatibility import FORMAT
from dkgzsl.config import Protocol, TrainConfig
from dkgzsl.data.assemble import problem_of
from dkgzsl.data.checks import Finding
from dkgzsl.data.load import is_name, lacks_semantics, load_dataset
from dkgzsl.data.problem import Problem
from dkgzsl.data.raw import RawData
from dkgzsl.data.splits import validation_cut, with_test_images
from dkgzsl.device import device_of, resolved
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.methods.base import Method, MethodInfo, OnEpoch, Published, Setup
from dkgzsl.methods.dkgzsl.settings import preset_of
from dkgzsl.methods.registry import DEFAULT, PUBLISHED, method_info, method_names
from dkgzsl.methods.sections import SCHEDULE, selected_method, with_schedule
from dkgzsl.representation.attributes import has_attributes
from dkgzsl.representation.representation import Representation, learns, representations
from dkgzsl.representation.sovr import Progress
from dkgzsl.runs.loggers import check_loggers
from dkgzsl.runs.places import resumed

DEFAULT_REPRESENTATIONS = ("pooled", "pooled+scores")
"""What is tried on region features where nothing is said, and classes have attributes."""
FEWEST_FOR_SCORES = 30
"""Seen classes from which on `pooled+scores` is tried: a third of them, ten, stand for the unseen ones in a cut.
On fewer the choice is chance, and learning the scores takes most of the time."""


_OF_ONE_CALL = ("config", "dataset", "resume", "overwrite", "json", "dry_run", "out", "on", "log")
"""Settings of `train` that decide no figure: `config.yaml` does not have them."""


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start.

    Attributes:
        config: with nothing left open.
        problem: the data.
        method: name of the method.
        seeds: one training each.
        device: where to compute.
        notes: what was decided for the user, to be printed once.
    """

    config: TrainConfig
    problem: Problem
    method: str
    seeds: tuple[int, ...]
    device: torch.device
    notes: tuple[str, ...]

    @property
    def info(self) -> MethodInfo:
        """What the registry knows of the method."""
        return method_info(self.method)

    @property
    def epochs(self) -> int | None:
        """Epochs of one training; None where the method does not train by epochs."""
        return getattr(self.config.settings, "epochs", None) if self.info.iterative else None

    def make_method(
        self,
        seed: int,
        *,
        checkpoints: Path | None = None,
        on_epoch: OnEpoch | None = None,
        shared: dict[Any, Any] | None = None,
    ) -> Method:
        """The method that the plan asks for, for one seed; the other arguments are those of `Setup`."""
        setup = Setup(seed, str(self.device), checkpoints=checkpoints, on_epoch=on_epoch, shared=shared)
        return self.info.make(self.config.settings, setup)

    def problem_for(self, seed: int) -> Problem:
        """The data as a seed sees it: where no official split fixes the seen test images, the seed draws them."""
        return with_test_images(self.problem, seed)

    def representations(self, seed: int, *, progress: Progress | None = None) -> list[Representation]:
        """The representations that a seed tries."""
        assert self.config.representation is not None, "the plan fills it"
        return representations(
            self.config.representation,
            self.config.refinement,
            seed=seed,
            device=str(self.device),
            progress=progress,
        )

    def recorded(self) -> dict[str, Any]:
        """The configuration as `config.yaml` holds it: no switches of this one call, paths absolute."""
        content = asdict(self.config)
        settings = content.pop("settings")
        for name in (*_OF_ONE_CALL, "report", *SCHEDULE):
            del content[name]
        return {"format": FORMAT, **_plain(content), self.info.section: _plain(settings)}


def make_plan(config: TrainConfig) -> Plan:
    """Fill what is open and load the data.

    Raises:
        ConfigError: settings that clash or are missing.
        DataError: data that is missing or unfit.
        RunError: there is no run to resume.
    """
    check_loggers(config.log)
    config = resumed(config)
    dataset = dataset_of(config)
    config, notes = with_defaults(config, dataset)
    problem = load_problem(config, test_seed=config.first_seed or 0)
    check_held_out(problem, config.protocol, seed=config.first_seed or 0)
    config = replace(
        config,
        name=dataset if is_name(dataset) else _absolute(dataset),
        data_root=_absolute(config.data_root),
        features=_absolute(config.features),
        extra_features=tuple(_absolute(other) or other for other in config.extra_features),
    )
    return plan_of(config, problem, notes=(*notes, *problem.provenance.get("notes", ())))


def with_defaults(config: TrainConfig, dataset: str) -> tuple[TrainConfig, tuple[str, ...]]:
    """The configuration with a data set's name, a method, and what is published for both; and what to print.

    Descriptions that are published for a data set, and are not on this machine, make way for its own default.
    """
    asked = config.semantics
    config, notes = with_method(replace(config, name=dataset), dataset)
    config = replace(config, semantics=config.semantics or preset_of(dataset).semantics)
    if asked is None and config.semantics is not None and is_name(dataset):
        try:
            lacking = lacks_semantics(dataset, config.semantics, data_root=config.data_root)
        except DataError:  # loading says what is missing
            lacking = False
        if lacking:
            root = "" if config.data_root is None else f" --data-root {config.data_root}"
            note = (
                f"{config.semantics}_splits.mat is not here: this uses attributes, whose figures do not compare "
                f"(dkgzsl data fetch {dataset}{root} brings it)"
            )
            return replace(config, semantics=None), (*notes, note)
    return config, notes


def with_method(config: TrainConfig, dataset: str | None) -> tuple[TrainConfig, tuple[str, ...]]:
    """The configuration with a method, its settings, and what is published for the data set; and what to print."""
    schedule = {name: getattr(config, name) for name in SCHEDULE}
    method = selected_method(config.method, schedule)
    notes = []
    if config.method is None and method == PUBLISHED:
        flags = " and ".join("--" + name.replace("_", "-") for name in SCHEDULE if schedule[name] is not None)
        notes.append(f"{flags} select the published method: this runs --method {PUBLISHED} (default: {DEFAULT})")
    info, settings = method_info(method), with_schedule(method, config.settings, schedule)
    found = Published(settings) if info.published is None else info.published(settings, dataset, False)
    refinement = config.refinement
    if found.refinement_steps is not None:
        steps = found.refinement_steps if refinement.steps is None else refinement.steps
        exact = "float32" if refinement.precision == "auto" else refinement.precision
        refinement = replace(refinement, steps=steps, precision=exact)
    filled = replace(
        config,
        method=method,
        settings=found.settings,
        epochs=None,
        batch_size=None,
        semantics=config.semantics or found.semantics,
        first_seed=found.seed if config.first_seed is None else config.first_seed,
        refinement=refinement,
    )
    return filled, tuple(notes)


def plan_of(config: TrainConfig, problem: Problem, *, notes: tuple[str, ...] = ()) -> Plan:
    """A plan for a problem that is loaded already: what `train` and the estimator decide by.

    Args:
        config: what it leaves open is filled.
        problem: the data.
        notes: what was decided already.

    Raises:
        ConfigError: settings that clash or are out of range.
        DataError: there is too little data for the method.
    """
    config, more = with_method(config, problem.name)
    assert config.method is not None, "filled"
    left = _left_out(config, problem)
    _check_classes(problem, config.method, config.protocol, seed=config.first_seed or 0)
    if config.baseline != "none":
        method_info(config.baseline)  # raises where no method is called so
    device, first = device_of(config.device), config.first_seed or 0
    config = replace(
        config,
        semantics=problem.semantics_name,
        device=str(device),
        first_seed=first,
        representation=_representation(config, problem),
    )
    if any(learns(name) for name in config.representation or ()):  # so that config.yaml says which it was
        precision = resolved(config.refinement.precision, device)
        config = replace(config, refinement=replace(config.refinement, precision=precision))
    seeds = tuple(range(first, first + config.seeds))
    return Plan(config, problem, config.method or DEFAULT, seeds, device, (*notes, *more, *left))


def load_problem(config: TrainConfig, *, test_seed: int) -> Problem:
    """The data that a configuration names.

    Args:
        config: it has a data set's name.
        test_seed: draws the seen test images where no official split fixes them.

    Raises:
        DataError: data that is missing or unfit.
    """
    assert config.name is not None, "the plan has a name"
    return load_dataset(
        config.name,
        data_root=config.data_root,
        features=config.features,
        semantics=config.semantics,
        backbone=config.backbone,
        test_seed=test_seed,
        extra_features=config.extra_features,
    )


def dataset_of(config: TrainConfig) -> str:
    """The data set that a configuration names.

    Raises:
        ConfigError: it names none, or two.
    """
    if config.name and config.dataset and config.name != config.dataset:
        raise ConfigError(
            f"two data sets are named: {config.name!r} and --dataset {config.dataset!r}", fix="name one"
        )
    dataset = config.name or config.dataset
    if dataset is None:
        raise ConfigError("no data set is named", fix="for a first try: dkgzsl train numbers")
    return dataset


def _representation(config: TrainConfig, problem: Problem) -> tuple[str, ...]:
    """Pooled features stay as they are; of regions, a method takes what it is published with, or tries several."""
    published = method_info(config.method or DEFAULT).representation
    if config.representation is not None:
        chosen = config.representation
        learned = [name for name in chosen if set(name.split("+")) - {"pooled", "extra"}]
        if learned and not problem.has_regions:
            raise ConfigError(
                f"{problem.name} has pooled features: there are no regions for the representation {learned[0]!r}",
                fix="use region features (dkgzsl extract), or --representation pooled",
            )
        if published is not None and len(chosen) > 1:
            raise ConfigError(
                f"--method {config.method} takes one representation", fix="name one with --representation"
            )
        if not config.extra_features and any("extra" in name.split("+") for name in chosen):
            raise ConfigError("there are no extra features", fix="name them with --extra-features")
        representations(chosen, config.refinement, seed=0, device="cpu")  # raises where a name is unknown
        return chosen
    scored = problem.has_regions and has_attributes(problem)
    if published is not None:
        return (published,) if scored else ("pooled",)
    chosen = DEFAULT_REPRESENTATIONS if scored and not _too_few(problem) else ("pooled",)
    return (*chosen, *(f"{name}+extra" for name in chosen)) if config.extra_features else chosen


def _left_out(config: TrainConfig, problem: Problem) -> tuple[str, ...]:
    """The line that says which representation is not tried, and why."""
    open_choice = config.representation is None and method_info(config.method or DEFAULT).representation is None
    if not open_choice or not problem.has_regions or not has_attributes(problem) or not _too_few(problem):
        return ()
    left = DEFAULT_REPRESENTATIONS[1]
    return (
        f"{left} is not tried: there are {len(problem.seen_classes)} seen classes, and validating it needs "
        f"{FEWEST_FOR_SCORES}; --representation {' '.join(DEFAULT_REPRESENTATIONS)} tries it all the same",
    )


def _too_few(problem: Problem) -> bool:
    return len(problem.seen_classes) < FEWEST_FOR_SCORES


def check_held_out(problem: Problem, protocol: Protocol, *, seed: int) -> None:
    """That there are images to choose by and to score, before a run folder is made.

    Raises:
        DataError: there are none.
    """
    parts = problem.parts
    scored = {"seen": parts.test_seen, "unseen": parts.test_unseen}
    if protocol == "validated":
        cut = validation_cut(problem, seed)
        scored = {"seen": cut.held_seen, "unseen": cut.held_unseen}
    for kind, images in scored.items():
        if not len(images):
            raise DataError(
                f"{problem.name} has no held-out images of {kind} classes to choose by (protocol {protocol})",
                fix="give it held-out images of both kinds: at least two training images of a seen class",
            )


def refusals(raw: RawData) -> list[Finding]:
    """What `train` would refuse of data in which nothing else is wrong, before there are features as well.

    Args:
        raw: what the data's files hold; without labels it is not known.
    """
    if raw.labels is None or not raw.tables:
        return []
    stand_in = (
        raw if raw.features is not None else replace(raw, features=np.zeros((len(raw.labels), 1), np.float32))
    )
    try:
        problem = problem_of(stand_in, semantics=next(iter(raw.tables)), provenance={})
        check_held_out(problem, "validated", seed=0)
        _check_classes(problem, DEFAULT, "validated", seed=0)
    except DataError as error:
        return [Finding("error", "training", f"train refuses this: {error.what}", error.fix)]
    return []


def _check_classes(problem: Problem, method: str, protocol: Protocol, *, seed: int) -> None:
    fewest = method_info(method).fewest_seen
    learned_from = len(problem.seen_classes)
    if protocol == "validated" and learned_from > 1 and len(problem.parts.test_unseen):
        learned_from = len(validation_cut(problem, seed).seen_classes)
    if learned_from < fewest:
        others = [name for name in method_names() if method_info(name).fewest_seen <= learned_from]
        raise DataError(
            f"{problem.name} leaves {learned_from} seen class to learn from: --method {method} needs {fewest}",
            fix=f"add seen classes, or use --method {', '.join(others)}",
        )


def _absolute(name: str | None) -> str | None:
    """A path that exists made absolute, so that the run can be read from anywhere; names stay names."""
    if name is not None and ("/" in name or Path(name).is_dir()) and Path(name).exists():
        return str(Path(name).resolve())
    return name


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value
