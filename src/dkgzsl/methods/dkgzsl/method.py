"""The published form: an adversarially trained generator, then a softmax on real and synthesized features."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from dkgzsl.config import AdversarialConfig, ClassifierConfig, TrainConfig
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.methods.base import Selector, Setting, Task
from dkgzsl.methods.dkgzsl.model import ClassifierTraining, DKGZSLModel
from dkgzsl.methods.dkgzsl.presets import (
    preset_of,
    resolve_adversarial,
    resolve_paper,
    resolve_softmax,
)
from dkgzsl.methods.dkgzsl.training import AdversarialSettings, AdversarialTraining
from dkgzsl.methods.shared.scaling import MinMax, description_scale
from dkgzsl.methods.shared.training import is_evaluation_epoch


def paper(*, seed: int, device: str, minutes: float | None, dataset: str | None) -> DKGZSL:
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
) -> DKGZSL:
    """The published form with filled settings; the other arguments are those of `DKGZSL`."""
    assert config.epochs is not None, "presets fill it"
    assert config.batch_size is not None, "presets fill it"
    return DKGZSL(
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


T = TypeVar("T")
OnEpoch = Callable[[int, Mapping[str, float]], None]
"""Told the number of epochs done and the last one's figures (`AdversarialTraining.train_epoch`)."""

SECONDS_BETWEEN_CHECKPOINTS = 60.0

_FIRST_EVALUATION = 4  # under a cap of minutes; a look costs as much as some epochs


class DKGZSL:
    """DKGZSL as published: METHOD sections 2 and 3.

    Order, noise and first weights depend on the seed and the epoch's number alone, so that a fit of so many epochs
    is the model that was shown after so many, on the same task.

    Args:
        adversarial: the training; what is None comes from the default preset.
        softmax: the classifier; likewise.
        epochs: how many to explore.
        batch_size: images a step.
        seed: 0 or more.
        device: where to compute.
        minutes: wall-clock cap of one explore, which then looks at the epochs 4, 6, 8, 12, 16 ... and at the one
            it came to; None: none, and evaluations come every `evaluate_every` epochs.
        checkpoints: folder to keep the state in, and to continue from where it holds one; None keeps none. A fresh
            run takes an empty folder.
        on_epoch: told of every epoch.

    Raises:
        ConfigError: a setting is out of its range.
    """

    name = "paper"

    def __init__(
        self,
        adversarial: AdversarialConfig,
        softmax: ClassifierConfig,
        *,
        epochs: int,
        batch_size: int,
        seed: int = 0,
        device: str = "cpu",
        minutes: float | None = None,
        checkpoints: Path | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        default = preset_of(None)
        filled = resolve_adversarial(adversarial, default, epochs=epochs)
        classifier = resolve_softmax(softmax, default)
        self.evaluate_every = _known(filled.evaluate_every)
        self.settings = AdversarialSettings(
            hidden_size=_known(filled.hidden_size),
            batch_size=batch_size,
            learning_rate=_known(filled.learning_rate),
            fusion_learning_rate=_known(filled.fusion_learning_rate),
            gamma=_known(filled.gamma),
            penalty_weight=filled.penalty_weight,
            critic_steps=filled.critic_steps,
            knowledge_weight=filled.knowledge_weight,
            fusion_weight=filled.fusion_weight,
            precision=filled.precision,
        )
        self.per_class = _known(classifier.per_class)
        self.classifier_rate = _known(classifier.learning_rate)
        self.classifier_epochs = classifier.epochs
        self.epochs, self.seed, self.device = epochs, seed, torch.device(device)
        self.minutes, self.checkpoints, self.on_epoch = minutes, checkpoints, on_epoch
        for name, value in (
            ("epochs", epochs),
            ("evaluate_every", self.evaluate_every),
            ("per_class", self.per_class),
            ("the classifier's epochs", self.classifier_epochs),
        ):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if not self.classifier_rate > 0:
            raise ConfigError(f"the classifier's learning_rate must be above 0, not {self.classifier_rate}")

    def explore(self, task: Task, selector: Selector) -> None:
        """Train, and at every look show the selector a model for each classifier epoch.

        Settings are {"epochs": e, "classifier_epochs": j}; the generalized and the conventional classifier have
        both had j epochs. An evaluation comes every `evaluate_every` epochs and at the end. Where training continues
        from a checkpoint, evaluations that were finished before it are not repeated: what came of them is the selector's to
        keep. One that was broken off is shown again as a whole.
        """
        prepared = _Prepared.of(task, self.device)
        training = self._training(prepared)
        end = math.inf if self.minutes is None else time.monotonic() + 60 * self.minutes
        evaluations = {e for e in range(1, self.epochs + 1) if self._is_evaluation_epoch(e)}
        for epoch in self._train(training, prepared, self.epochs, evaluations, "explore"):
            out_of_time = time.monotonic() > end
            if epoch in evaluations or out_of_time:
                for number, model in enumerate(self._models(prepared, training, self.classifier_epochs), 1):
                    selector({"epochs": epoch, "classifier_epochs": number}, model)
            if out_of_time:
                break

    def fit(self, task: Task, setting: Setting) -> DKGZSLModel:
        """Train for exactly the setting's epochs."""
        epochs, classifier_epochs = int(setting["epochs"]), int(setting["classifier_epochs"])
        prepared = _Prepared.of(task, self.device)
        training = self._training(prepared)
        for _ in self._train(training, prepared, epochs, {epochs}, "fit"):
            pass
        *_, model = self._models(prepared, training, classifier_epochs)
        return model

    def _is_evaluation_epoch(self, epoch: int) -> bool:
        if epoch == self.epochs:
            return True
        if self.minutes is None:
            return epoch % self.evaluate_every == 0
        return epoch >= _FIRST_EVALUATION and is_evaluation_epoch(
            epoch
        )  # how far the minutes reach is not known beforehand

    def _training(self, prepared: _Prepared) -> AdversarialTraining:
        return AdversarialTraining(
            prepared.features, prepared.rows, prepared.described_seen, self.settings, seed=self.seed
        )

    def _train(
        self, training: AdversarialTraining, prepared: _Prepared, epochs: int, evaluations: set[int], name: str
    ) -> Iterator[int]:
        """Train up to `epochs`, from a checkpoint where there is one; yields after each epoch.

        The state is kept once a minute, and when the caller has done with an epoch of `evaluations`.
        """
        path = None if self.checkpoints is None else self.checkpoints / f"{name}.safetensors"
        key = {
            "settings": asdict(self.settings),
            "seed": self.seed,
            "epochs": epochs,
            "evaluations": sorted(evaluations),
            "task": prepared.fingerprint(),
        }
        if path is not None and (found := read_checkpoint(path)) is not None:
            tensors, values = found
            if values["key"] != key:
                raise RunError(
                    "the checkpoint belongs to other settings or other data",
                    where=str(path),
                    fix="continue with the settings it was made with, or start again with --overwrite",
                )
            training.restore(tensors, epoch=values["epoch"])
        kept = time.monotonic()
        while training.epoch < epochs:
            figures = training.train_epoch()
            if not all(math.isfinite(value) for value in figures.values()):
                raise RunError(
                    f"the training diverged in epoch {training.epoch}: {dict(figures)}",
                    fix="lower adversarial.learning_rate, and start again with --overwrite",
                )
            if self.on_epoch is not None:
                self.on_epoch(training.epoch, figures)
            yield training.epoch
            due = training.epoch in evaluations or time.monotonic() - kept > SECONDS_BETWEEN_CHECKPOINTS
            if path is not None and due:
                write_checkpoint(path, training.state(), {"key": key, "epoch": training.epoch})
                kept = time.monotonic()

    def _models(
        self, prepared: _Prepared, training: AdversarialTraining, classifier_epochs: int
    ) -> Iterator[DKGZSLModel]:
        """Synthesize unseen features with the generator as it is; a model for each epoch of the classifiers."""
        generator = training.networks.snapshot()
        last_step = ClassifierTraining(
            features=training.features,
            labels=prepared.seen[prepared.rows],
            per_class=self.per_class,
            learning_rate=self.classifier_rate,
            seed=self.seed,
            generator_epoch=training.epoch,
        )
        trained = last_step.train(
            generator,
            prepared.described_unseen,
            prepared.unseen,
            fusion_weight=self.settings.fusion_weight,
            epochs=classifier_epochs,
        )
        for epochs, classifiers in enumerate(trained, 1):
            yield DKGZSLModel(
                generator=generator,
                fusion_weight=self.settings.fusion_weight,
                description_scale=prepared.description_scale,
                scaler=prepared.scaler,
                classifiers=classifiers,
                classifier_epochs=epochs,
                training=last_step,
                seen=prepared.seen,
                unseen=prepared.unseen,
                semantics=prepared.semantics,
                class_names=prepared.task.class_names,
            )


@dataclass(frozen=True)
class _Prepared:
    """A task on the device that computes, its features scaled by its own training images."""

    task: Task
    scaler: MinMax
    features: Tensor
    rows: Tensor
    seen: Tensor
    unseen: Tensor
    semantics: Tensor
    description_scale: float

    @classmethod
    def of(cls, task: Task, device: torch.device) -> _Prepared:
        features, seen = task.features.to(device), task.seen.to(device)
        scaler = MinMax.fit(features)
        return cls(
            task=task,
            scaler=scaler,
            features=scaler.scale(features),
            rows=torch.searchsorted(seen, task.labels.to(device)),
            seen=seen,
            unseen=task.unseen.to(device),
            semantics=task.semantics.to(features),
            description_scale=description_scale(task.semantics[task.seen]),
        )

    @property
    def described_seen(self) -> Tensor:
        return self.semantics[self.seen] * self.description_scale

    @property
    def described_unseen(self) -> Tensor:
        return self.semantics[self.unseen] * self.description_scale

    def fingerprint(self) -> str:
        """Tells tasks apart: a hash of all that a method sees of one."""
        task, digest = self.task, hashlib.sha256()
        for tensor in (task.features, task.labels, task.semantics, task.seen, task.unseen):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()


def _known(value: T | None) -> T:
    assert value is not None, "presets fill every setting"
    return value
