"""DKGZSL as published: an adversarially trained generator, then a softmax on real and synthesized features."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TypeVar

import torch
from torch import Tensor

from dkgzsl.distributed import current
from dkgzsl.errors import RunError
from dkgzsl.methods.base import MethodInfo, Published, Selector, Setting, Setup, Task
from dkgzsl.methods.dkgzsl.model import ClassifierTraining, DKGZSLModel
from dkgzsl.methods.dkgzsl.settings import AdversarialSettings, DKGZSLSettings, filled, preset_of
from dkgzsl.methods.dkgzsl.training import AdversarialTraining
from dkgzsl.methods.search import Range, Space
from dkgzsl.methods.shared.scaling import MinMax, description_scale
from dkgzsl.methods.shared.softmax import KEEPS_FEATURES
from dkgzsl.methods.shared.training import Checkpoint, Stopwatch, clock_of, fingerprint, is_evaluation_epoch

T = TypeVar("T")

_FIRST_EVALUATION = 4  # under a cap of minutes; an evaluation costs as much as some epochs


class DKGZSL:
    """DKGZSL (IEEE TCSVT 2025): KTN's knowledge guides the generator of a WGAN-GP through MFUs; then a softmax.

    Order, noise and first weights depend on the seed and the epoch's number alone, so that a fit of so many epochs
    is the model that was shown after so many, on the same task.

    Args:
        settings: what is open comes from the default preset.
        setup: `minutes` caps one exploration, which then evaluates after the epochs 4, 6, 8, 12, 16 ... and after
            the last one it came to; without it evaluations come every `evaluate_every` epochs. In `checkpoints`
            the state is kept, and continued from where it holds one; a fresh run takes an empty folder.
    """

    name = "dkgzsl"

    def __init__(self, settings: DKGZSLSettings | None = None, setup: Setup | None = None) -> None:
        self.setup = setup or Setup()
        whole = filled(settings or DKGZSLSettings(), preset_of(None), capped=self.setup.minutes is not None)
        self.epochs, self.evaluate_every = _known(whole.epochs), _known(whole.evaluate_every)
        self.settings = AdversarialSettings(
            hidden_size=_known(whole.hidden_size),
            batch_size=_known(whole.batch_size),
            learning_rate=_known(whole.learning_rate),
            fusion_learning_rate=_known(whole.fusion_learning_rate),
            gamma=_known(whole.gamma),
            penalty_weight=whole.penalty_weight,
            critic_steps=whole.critic_steps,
            knowledge_weight=whole.knowledge_weight,
            fusion_weight=whole.fusion_weight,
            precision=_known(whole.precision),
        )
        self.per_class = _known(whole.softmax.per_class)
        self.classifier_rate = _known(whole.softmax.learning_rate)
        self.classifier_epochs = _known(whole.softmax.epochs)
        self.seed, self.device = self.setup.seed, torch.device(self.setup.device)
        self.minutes, self.checkpoints = self.setup.minutes, self.setup.checkpoints
        self.on_epoch = self.setup.on_epoch

    def explore(self, task: Task, selector: Selector) -> None:
        """Train, and at every evaluation show the selector a model for each classifier epoch.

        Settings are {"epochs": e, "classifier_epochs": j}; the generalized and the conventional classifier have
        both had j epochs. An evaluation comes every `evaluate_every` epochs and at the end. Where training
        continues from a checkpoint, evaluations that were finished before it are not repeated: the selector has
        kept what came of them. One that was broken off is shown again as a whole.
        """
        prepared = _Prepared.of(task, self.device)
        training = self._training(prepared)
        limit = math.inf if self.minutes is None else 60 * self.minutes
        evaluations = {e for e in range(1, self.epochs + 1) if self._is_evaluation_epoch(e)}
        kept = _Kept(self._checkpoint(prepared, "explore", self.epochs, evaluations), self.setup)
        for epoch in self._train(training, self.epochs, evaluations, kept):
            out_of_time = kept.seconds >= limit
            if epoch in evaluations or out_of_time:
                for number, model in enumerate(self._models(prepared, training, self.classifier_epochs), 1):
                    selector({"epochs": epoch, "classifier_epochs": number}, model)
            if out_of_time:
                kept.keep(training, ended=True)
                break

    def fit(self, task: Task, setting: Setting) -> DKGZSLModel:
        """Train for exactly the setting's epochs."""
        epochs, classifier_epochs = int(setting["epochs"]), int(setting["classifier_epochs"])
        prepared = _Prepared.of(task, self.device)
        training = self._training(prepared)
        kept = _Kept(self._checkpoint(prepared, "fit", epochs, {epochs}), self.setup)
        for _ in self._train(training, epochs, {epochs}, kept):
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
            prepared.features,
            prepared.rows,
            prepared.described_seen,
            self.settings,
            seed=self.seed,
            processes=current(),
        )

    def _checkpoint(self, prepared: _Prepared, name: str, epochs: int, evaluations: set[int]) -> Checkpoint:
        key = {
            "settings": asdict(self.settings),
            "seed": self.seed,
            "epochs": epochs,
            "evaluations": sorted(evaluations),
        }
        if self.checkpoints is None:
            return Checkpoint(None, name, key)
        task = fingerprint(prepared.task)  # a file of its own for each: one exploration may have several tasks
        return Checkpoint(self.checkpoints, f"{name}-{task[:16]}", {**key, "task": task})

    def _train(
        self, training: AdversarialTraining, epochs: int, evaluations: set[int], kept: _Kept
    ) -> Iterator[int]:
        """Train up to `epochs`, from a checkpoint where there is one; yields after each epoch.

        The state is kept once a minute, and when the caller has done with an epoch of `evaluations`.
        """
        ended = kept.restore(training)
        while training.epoch < epochs and not ended:
            figures = training.train_epoch()
            if not all(math.isfinite(value) for value in figures.values()):
                raise RunError(
                    f"the training diverged in epoch {training.epoch}: {dict(figures)}",
                    fix="lower dkgzsl.learning_rate, and start again with --overwrite",
                )
            if self.on_epoch is not None:
                self.on_epoch(training.epoch, figures)
            yield training.epoch
            if training.epoch in evaluations or kept.checkpoint.is_due:
                kept.keep(training)

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


class _Kept:
    """A training's checkpoint, and the seconds that it has taken."""

    def __init__(self, checkpoint: Checkpoint, setup: Setup) -> None:
        self.checkpoint, self._watch = checkpoint, Stopwatch(clock_of(setup))

    @property
    def seconds(self) -> float:
        """Of this stretch and, after `restore`, of those before an interruption."""
        return self._watch.seconds

    def restore(self, training: AdversarialTraining) -> bool:
        """Take back what was kept, if anything was; returns whether the training was out of time already."""
        tensors, values = self.checkpoint.read() or ({}, {})
        if values:
            training.restore(tensors, epoch=values["epoch"])
            self._watch.before = values.get("seconds", 0.0)
        return bool(values.get("ended", False))

    def keep(self, training: AdversarialTraining, *, ended: bool = False) -> None:
        """Write the state, the number of epochs and the seconds."""
        self.checkpoint.write(training.state(), {"epoch": training.epoch, "seconds": self.seconds, "ended": ended})


def _known(value: T | None) -> T:
    assert value is not None, "presets fill every setting"
    return value


def published(settings: DKGZSLSettings, dataset: str | None, capped: bool) -> Published:
    """What was published for a data set, under the settings that are given; see `filled`."""
    preset = preset_of(dataset)
    return Published(
        filled(settings, preset, capped=capped), preset.semantics, preset.training.seed, preset.refinement_steps
    )


def search(settings: DKGZSLSettings, images: int) -> Space:
    """What `tune` tries, from the settings that are given on."""
    del settings, images
    return {
        "learning_rate": Range(1e-5, 1e-2, log=True),
        "fusion_learning_rate": Range(1e-6, 1e-2, log=True),
        "gamma": Range(0.1, 100.0, log=True),
        "hidden_size": Range(128, 4096, log=True, whole=True),
        "fusion_weight": Range(0.01, 1.0, log=True),
        "softmax.learning_rate": Range(1e-4, 1e-2, log=True),
    }


INFO = MethodInfo(
    name="dkgzsl",
    title="DKGZSL",
    paper="DKGZSL: dynamic knowledge-guided generative zero-shot learning, IEEE TCSVT 2025",
    settings=DKGZSLSettings,
    make=DKGZSL,
    models={"dkgzsl": DKGZSLModel},
    iterative=True,
    published=published,
    search=search,
    keeps_features=lambda _: KEEPS_FEATURES,
    representation="refined",
)
