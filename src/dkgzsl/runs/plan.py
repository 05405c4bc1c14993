"""From what the user asked to what will be done: open settings filled, clashes found, nothing written yet."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from dkgzsl.config import Protocol, TrainConfig, Variant
from dkgzsl.data.load import is_name, load_dataset
from dkgzsl.data.problem import Problem
from dkgzsl.data.splits import validation_cut, with_test_images
from dkgzsl.device import device_of, resolved
from dkgzsl.errors import ConfigError, DataError
from dkgzsl.methods.dkgzsl.presets import preset_of, resolve_paper
from dkgzsl.representation.attributes import has_attributes
from dkgzsl.representation.representation import Representation, learns, representations
from dkgzsl.representation.sovr import Progress

_PASSES = 2
"""Trainings a seed: one to choose, one on all training images."""
_EFFICIENCY = 0.5
"""Share of the machine's matrix speed that training reaches, as measured."""


@dataclass(frozen=True)
class Estimate:
    """Expected cost of a whole run, within a factor of two or so."""

    seconds: float
    gigabytes: float


def estimate(plan: Plan) -> Estimate:
    """Count the large matrix products, and time one on this machine."""
    config, problem = plan.config, plan.problem
    images, visual = len(problem.parts.trainval), problem.features.shape[-1]
    semantic, classes = problem.semantics.shape[1], len(problem.class_names)
    held = len(problem.parts.test_seen) + len(problem.parts.test_unseen)
    if plan.variant == "paper":
        hidden, adversarial = config.adversarial.hidden_size or 4096, config.adversarial
        # a critic step: critic and generator forward, critic's gradients; multiply-adds an image
        step = 2 * hidden * (6 * (visual + semantic) + 2 * (visual + 2 * semantic))
        epochs = (config.epochs or 1) * step * images * (2 * adversarial.critic_steps + 2)
        evaluations = -(-(config.epochs or 1) // (adversarial.evaluate_every or 1))
        synthesized = (config.softmax.per_class or 1) * len(problem.unseen_classes)
        look = 25 * 2 * visual * classes * (3 * (images + synthesized) + held)
        work = epochs + evaluations * look
    else:
        components = min(max(config.knowledge.components), visual)
        work = 2 * visual * (visual * images + 6 * visual * components + components * (images + held))
    per_seed = _PASSES if config.protocol == "validated" else 1
    seconds = len(plan.seeds) * per_seed * (work / (_EFFICIENCY * _speed(plan.device)) + 3)
    memory = 4 * (2.5 * problem.features.shape[0] * visual + 3 * visual * visual) / 1e9
    return Estimate(seconds, memory + 0.6)


def _speed(device: torch.device) -> float:
    """Floating-point operations a second of a float32 matrix product."""
    matrix = torch.ones(1024, 1024, device=device)
    matrix @ matrix
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = perf_counter()
    for _ in range(4):
        product = matrix @ matrix
    float(product[0, 0])  # waits for the device
    return 4 * 2 * 1024**3 / (perf_counter() - start)


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start.

    Attributes:
        config: with nothing left open.
        problem: the data.
        variant: which form.
        seeds: one training each.
        device: where to compute.
        notes: what was decided for the user and should be said once.
    """

    config: TrainConfig
    problem: Problem
    variant: Variant
    seeds: tuple[int, ...]
    device: torch.device
    notes: tuple[str, ...]

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
        for name in ("config", "dataset", "resume", "overwrite", "json", "dry_run", "out", "report"):
            del content[name]
        return _plain(content)  # type: ignore[no-any-return]


DEFAULT_REPRESENTATIONS = ("pooled", "pooled+scores")
"""What is tried on region features where nothing is said, and classes have attributes."""


def make_plan(config: TrainConfig) -> Plan:
    """Fill what is open and load the data.

    Raises:
        ConfigError: settings that clash or are missing.
        DataError: data that is missing or unfit.
    """
    dataset = _dataset(config)
    notes = []
    variant = config.variant
    if variant is None:
        variant = "dkgzsl"
        asked = [name for name in ("epochs", "batch_size") if getattr(config, name) is not None]
        if asked:
            variant = "paper"
            flags = " and ".join("--" + name.replace("_", "-") for name in asked)
            notes.append(
                f"{flags} select the published form, --variant paper; --variant dkgzsl is the default, closed form"
            )
    elif variant == "dkgzsl" and (config.epochs or config.batch_size):
        if config.knowledge.episodes == "off" and config.knowledge.fusion == "off":
            notes.append("nothing is learned here: --epochs and --batch-size change nothing")
        else:
            notes.append(
                "--epochs and --batch-size set episodes and images an episode; the rest is in closed form"
            )
    if variant == "paper" and config.classifier == "density":
        raise ConfigError(
            "the published form has no class densities", fix="leave --classifier out, or use --variant dkgzsl"
        )

    preset = preset_of(dataset)
    if variant == "paper":
        config = resolve_paper(config, dataset)
    config = replace(config, name=dataset, semantics=config.semantics or preset.semantics)
    problem = _load(config, test_seed=config.first_seed or 0)
    _check_division(problem, config.protocol, variant, seed=config.first_seed or 0)
    device = device_of(config.device)
    first = config.first_seed or 0
    config = replace(
        config,
        name=dataset if is_name(dataset) else _absolute(dataset),
        data_root=_absolute(config.data_root),
        features=_absolute(config.features),
        extra_features=tuple(_absolute(other) or other for other in config.extra_features),
        semantics=problem.semantics_name,
        variant=variant,
        device=str(device),
        first_seed=first,
        representation=_representation(config, problem, variant),
        classifier=config.classifier or ("density" if variant == "dkgzsl" else "softmax"),
    )
    if any(learns(name) for name in config.representation or ()):  # so that config.yaml says which it was
        precision = resolved(config.refinement.precision, device)
        config = replace(config, refinement=replace(config.refinement, precision=precision))
    seeds = tuple(range(first, first + config.seeds))
    return Plan(config, problem, variant, seeds, device, tuple(notes))


def _load(config: TrainConfig, *, test_seed: int) -> Problem:
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


def _dataset(config: TrainConfig) -> str:
    if config.name and config.dataset and config.name != config.dataset:
        raise ConfigError(
            f"two data sets are named: {config.name!r} and --dataset {config.dataset!r}", fix="name one"
        )
    dataset = config.name or config.dataset
    if dataset is None:
        raise ConfigError("no data set is named", fix="for a first try: dkgzsl train numbers")
    return dataset


def _representation(config: TrainConfig, problem: Problem, variant: Variant) -> tuple[str, ...]:
    """Pooled features stay as they are; of regions, the published form refines, and ours tries both."""
    if config.representation is not None:
        chosen = config.representation
        learned = [name for name in chosen if set(name.split("+")) - {"pooled", "extra"}]
        if learned and not problem.has_regions:
            raise ConfigError(
                f"{problem.name} has pooled features: there are no regions for the representation {learned[0]!r}",
                fix="use region features (dkgzsl extract), or --representation pooled",
            )
        if variant == "paper" and len(chosen) > 1:
            raise ConfigError("the published form takes one representation", fix="name one with --representation")
        if not config.extra_features and any("extra" in name.split("+") for name in chosen):
            raise ConfigError("no features stand beside", fix="name them with --extra-features")
        representations(chosen, config.refinement, seed=0, device="cpu")  # names only; raises where one is unknown
        return chosen
    if variant == "paper":
        return ("refined",) if problem.has_regions else ("pooled",)
    chosen = DEFAULT_REPRESENTATIONS if problem.has_regions and has_attributes(problem) else ("pooled",)
    return (*chosen, *(f"{name}+extra" for name in chosen)) if config.extra_features else chosen


def _check_division(problem: Problem, protocol: Protocol, variant: Variant, *, seed: int) -> None:
    """That there is something to learn from and to selector by, before a run folder is made.

    Raises:
        DataError: there is not.
    """
    parts, learned_from = problem.parts, len(problem.seen_classes)
    scored = {"seen": parts.test_seen, "unseen": parts.test_unseen}
    if protocol == "validated":
        cut = validation_cut(problem, seed)
        scored, learned_from = {"seen": cut.held_seen, "unseen": cut.held_unseen}, len(cut.seen_classes)
    for kind, images in scored.items():
        if not len(images):
            raise DataError(
                f"{problem.name} has no held-out images of {kind} classes to choose by (protocol {protocol})",
                fix="give it held-out images of both kinds: at least two training images of a seen class",
            )
    if variant == "dkgzsl" and learned_from < 2:
        raise DataError(
            f"{problem.name} leaves {learned_from} seen class to learn from: the closed form needs two",
            fix="add seen classes, or use --variant paper",
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
