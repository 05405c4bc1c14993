"""What a run would do, with sizes and a rough time: for `--dry-run`, also where data is not on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import torch

from dkgzsl.config import TrainConfig
from dkgzsl.data.catalog import KnownDataset, features_of, known
from dkgzsl.device import device_of
from dkgzsl.errors import MissingError
from dkgzsl.methods.registry import DEFAULT, PUBLISHED, method_info
from dkgzsl.runs.plan import Plan, dataset_of, make_plan, with_defaults

_PASSES = 2
"""Trainings a seed: one to choose, one on all training images."""
_EFFICIENCY = 0.5
"""Share of the machine's matrix speed that training reaches, as measured."""
_CHANNELS: Final = {"res101": 2048, "vit_b16": 768}
"""Size of the feature vectors that the field's files of these names hold."""


@dataclass(frozen=True)
class Outline:
    """A run that is not started: its data's sizes, and what it would do with it.

    Attributes:
        dataset: name of the data set.
        classes: classes in all.
        unseen: classes without training images.
        training: training images.
        test_seen: test images of seen classes.
        test_unseen: test images of unseen classes.
        features: the features in words.
        rows: images in all, with their regions; what is held in memory.
        channels: size of a feature vector; None where it is not known.
        semantics: name of the class descriptions.
        dimensions: numbers a description; None where it is not known.
        method: name of the method.
        settings: of the method.
        protocol: its name.
        seeds: one training each.
        device: where to compute.
        epochs: of one training; None where the method does not train by epochs.
        notes: what was decided for the user.
        missing: what of the data is not here, and how to get it; None where all of it is.
    """

    dataset: str
    classes: int
    unseen: int
    training: int
    test_seen: int
    test_unseen: int
    features: str
    rows: int
    channels: int | None
    semantics: str
    dimensions: int | None
    method: str
    settings: Any
    protocol: str
    seeds: tuple[int, ...]
    device: torch.device
    epochs: int | None
    notes: tuple[str, ...] = ()
    missing: MissingError | None = None


def outline(config: TrainConfig) -> Outline:
    """What a run by these settings would do; of a known benchmark, its data need not be here.

    Raises:
        ConfigError: settings that clash or are missing.
        DataError: data that is unfit, or that is missing and of no known size.
    """
    try:
        return outline_of(make_plan(config))
    except MissingError as error:
        entry = known(dataset_of(config))
        if entry is None:
            raise
        return _without_data(config, entry, error)


def outline_of(plan: Plan) -> Outline:
    """The outline of a plan, whose data is here."""
    problem, config = plan.problem, plan.config
    shape = " x ".join(map(str, problem.features.shape))
    return Outline(
        dataset=problem.name,
        classes=len(problem.class_names),
        unseen=len(problem.unseen_classes),
        training=len(problem.parts.trainval),
        test_seen=len(problem.parts.test_seen),
        test_unseen=len(problem.parts.test_unseen),
        features=f"{shape} ({problem.provenance.get('features', 'given')})",
        rows=problem.features.shape[0],
        channels=problem.features.shape[-1],
        semantics=problem.semantics_name,
        dimensions=problem.semantics.shape[1],
        method=plan.method,
        settings=config.settings,
        protocol=config.protocol,
        seeds=plan.seeds,
        device=plan.device,
        epochs=plan.epochs,
        notes=plan.notes,
    )


def _without_data(config: TrainConfig, entry: KnownDataset, error: MissingError) -> Outline:
    """By the official counts of the split."""
    config, notes = with_defaults(config, dataset_of(config))
    name = config.features or features_of(config.backbone)
    channels = _CHANNELS.get(name)
    each = "?" if channels is None else str(channels)
    semantics, first = config.semantics or "att", config.first_seed or 0
    sizes = {"att": entry.attributes, "att_original": entry.attributes, "sent": entry.sentences}
    info = method_info(config.method or DEFAULT)
    if config.baseline != "none":
        method_info(config.baseline)  # raises where no method is called so
    return Outline(
        dataset=entry.name,
        classes=entry.classes,
        unseen=entry.unseen_classes,
        training=entry.trainval,
        test_seen=entry.test_seen,
        test_unseen=entry.test_unseen,
        features=f"{entry.images} x {each} ({name}), not here yet",
        rows=entry.images,
        channels=channels,
        semantics=semantics,
        dimensions=sizes.get(semantics),
        method=info.name,
        settings=config.settings,
        protocol=config.protocol,
        seeds=tuple(range(first, first + config.seeds)),
        device=device_of(config.device),
        epochs=getattr(config.settings, "epochs", None) if info.iterative else None,
        notes=notes,
        missing=error,
    )


@dataclass(frozen=True)
class Estimate:
    """Expected cost of a whole run, within a factor of two or so.

    Attributes:
        seconds: wall-clock time; None: not known for this method, or for features of unknown size.
        gigabytes: of memory; None: for features of unknown size.
    """

    seconds: float | None
    gigabytes: float | None


def estimate(run: Outline) -> Estimate:
    """Count the large matrix products, and time one on this machine; of a peer, only the memory is known."""
    visual, settings, semantic = run.channels, run.settings, run.dimensions
    if visual is None:
        return Estimate(None, None)
    held = run.test_seen + run.test_unseen
    work: float | None = None
    if run.method == PUBLISHED and semantic is not None:
        hidden = settings.hidden_size
        # a critic step: critic and generator forward, critic's gradients; multiply-adds an image
        step = 2 * hidden * (6 * (visual + semantic) + 2 * (visual + 2 * semantic))
        epochs = settings.epochs * step * run.training * (2 * settings.critic_steps + 2)
        evaluations = -(-settings.epochs // settings.evaluate_every)
        synthesized = settings.softmax.per_class * run.unseen
        each = 25 * 2 * visual * run.classes * (3 * (run.training + synthesized) + held)
        work = epochs + evaluations * each
    elif run.method == DEFAULT:
        components = min(max(settings.components), visual)
        work = 2 * visual * (visual * run.training + 6 * visual * components + components * (run.training + held))
    per_seed = _PASSES if run.protocol == "validated" else 1
    seconds = None
    if work is not None:
        seconds = len(run.seeds) * per_seed * (work / (_EFFICIENCY * _speed(run.device)) + 3)
    memory = 4 * (2.5 * run.rows * visual + 3 * visual * visual) / 1e9
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
