"""Methods of our own with their default settings, as the registry makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from dkgzsl.config import AdversarialConfig, ClassifierConfig, KnowledgeConfig, TrainConfig
from dkgzsl.methods.knowledge import KnowledgeMethod
from dkgzsl.methods.paper import PaperMethod
from dkgzsl.presets import resolve_paper


def knowledge(*, seed: int, device: str, minutes: float | None) -> KnowledgeMethod:
    """The default form. It takes seconds: `minutes` caps nothing."""
    del minutes
    return KnowledgeMethod(KnowledgeConfig(), seed=seed, device=device)


def paper(*, seed: int, device: str, minutes: float | None, dataset: str | None) -> PaperMethod:
    """The published form with the data set's preset.

    Under a cap of minutes the networks are narrower, matrix products are in bfloat16 and the classifier is
    shorter: as published, minutes end long before anything is learned. Such figures are not the publication's.
    """
    config = TrainConfig(variant="paper")
    if minutes is not None:
        config = replace(
            config,
            adversarial=AdversarialConfig(hidden_size=1024, precision="bfloat16"),
            softmax=ClassifierConfig(per_class=200, epochs=5),
        )
    config = resolve_paper(config, dataset)
    return paper_of(config, seed=seed, device=device, minutes=minutes)


def paper_of(
    config: TrainConfig,
    *,
    seed: int,
    device: str,
    minutes: float | None = None,
    checkpoints: Path | None = None,
    on_epoch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> PaperMethod:
    """The published form with filled settings; the other arguments are those of `PaperMethod`."""
    assert config.epochs is not None, "presets fill it"
    assert config.batch_size is not None, "presets fill it"
    return PaperMethod(
        config.adversarial,
        config.softmax,
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=seed,
        device=device,
        minutes=minutes,
        checkpoints=checkpoints,
        on_epoch=on_epoch,
    )
