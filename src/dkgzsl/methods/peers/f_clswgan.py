"""f-CLSWGAN: a feature generating network (arXiv 1712.00981).

A conditional WGAN-GP on features (`wasserstein`). Its generator has a classification loss, too: a softmax, trained
on the real features of the seen classes and then kept, classifies what it makes. The loss is -E D(G(z, a), a)
- beta * E log P(y | G(z, a)), equation 5. Then a softmax on real and synthesized features. The generator ends in a
ReLU; features are scaled to [0, 1] by minimum and maximum.

Published: hidden layers of 4096, lambda 10, beta 0.01, five critic steps. From the released code: Adam 1e-4
with betas 0.5 and 0.999, batches of 64; the kept softmax 50 epochs of batches of 100 at 1e-3; the last softmax
25 epochs at 1e-3 on CUB. Deviations: those of `wasserstein`; the epochs of both are chosen by the selector, not on
test.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.config import check_ranges
from dkgzsl.methods.base import MethodInfo, Published, Setting, Setup, Task
from dkgzsl.methods.peers.epochwise import EpochwiseMethod, Precision, filled, known
from dkgzsl.methods.peers.synthesized_softmax import SoftmaxSettings, SynthesisModel
from dkgzsl.methods.peers.wasserstein import Batch, WassersteinSettings, WassersteinTraining
from dkgzsl.methods.search import Range, Space
from dkgzsl.methods.shared.softmax import KEEPS_FEATURES, LinearClassifier, train_softmax
from dkgzsl.methods.shared.training import seeded

_KEPT = 10  # place of a random stream
_KEPT_EPOCHS, _KEPT_BATCH, _KEPT_RATE = 50, 100, 1e-3
_PUBLISHED = {"hidden_size": 4096, "learning_rate": 1e-4, "precision": "float32"}
# As published, a fit of minutes ends long before it has converged. These bring minutes on two cores furthest, by
# validation classes of CUB100 with sentences alone.
_CAPPED = {"hidden_size": 1024, "learning_rate": 2e-4, "precision": "bfloat16"}


@dataclass(frozen=True)
class FCLSWGANSettings:
    """A conditional WGAN-GP whose features a softmax must classify; then a softmax.

    Raises:
        ConfigError: a value is out of its range.
    """

    epochs: int = 60
    """Most passes over the training images; the epoch is chosen on validation classes."""
    hidden_size: int | None = None
    """Width of every hidden layer (default: 4096, as published; within a benchmark's minutes 1024)."""
    batch_size: int = 64
    """Images per step."""
    learning_rate: float | None = None
    """Adam's learning rate (default: 1e-4, as published; within a benchmark's minutes 2e-4)."""
    beta: float = 0.01
    """Weight of the classification loss."""
    critic_steps: int = 5
    """Critic steps per generator step."""
    penalty_weight: float = 10.0
    """Weight of the gradient penalty."""
    per_class: int = 300
    """Features synthesized for each unseen class."""
    softmax_rate: float = 1e-3
    """Adam's learning rate of the last softmax."""
    softmax_epochs: int = 25
    """Most passes of the last softmax; the epoch is chosen on validation classes."""
    softmax_batch: int = 300
    """Features per step of the last softmax."""
    precision: Precision | None = None
    """Precision of the matrix products (default: float32; within a benchmark's minutes bfloat16, three times as
    fast)."""

    def __post_init__(self) -> None:
        counts = (
            "epochs",
            "hidden_size",
            "batch_size",
            "critic_steps",
            "per_class",
            "softmax_epochs",
            "softmax_batch",
        )
        check_ranges(
            self,
            "f-clswgan.",
            at_least={**dict.fromkeys(counts, 1), "beta": 0},
            above_zero=("learning_rate", "penalty_weight", "softmax_rate"),
        )


class FCLSWGAN(EpochwiseMethod):
    """f-CLSWGAN; the epochs of training and last softmax are chosen by the selector.

    Args:
        settings: of the training; what is open is as published, or narrower where `setup` caps the minutes.
        setup: the seed decides first weights, noise and order.

    Raises:
        ConfigError: the minutes are out of range.
    """

    name = "f-clswgan"

    def __init__(self, settings: FCLSWGANSettings | None = None, setup: Setup | None = None) -> None:
        super().__init__(settings or FCLSWGANSettings(), setup)
        self.settings = one = _whole(settings or FCLSWGANSettings(), capped=self.minutes is not None)
        self.adversarial = WassersteinSettings(
            hidden_size=known(one.hidden_size),
            batch_size=one.batch_size,
            learning_rate=known(one.learning_rate),
            critic_steps=one.critic_steps,
            penalty_weight=one.penalty_weight,
            gamma=1.0,
            output="relu",
            precision=known(one.precision),
        )
        self.softmax = SoftmaxSettings(one.per_class, one.softmax_rate, one.softmax_epochs, one.softmax_batch)

    def begin(self, task: Task, option: Setting) -> ClassificationTraining:
        """Train the kept softmax; the rest has not begun."""
        del option
        return ClassificationTraining(
            task, self.adversarial, self.softmax, beta=self.settings.beta, seed=self.seed, device=self.device
        )


class ClassificationTraining(WassersteinTraining):
    """The WGAN-GP with the classification loss; arguments as those of `WassersteinTraining`.

    Attributes:
        kept: softmax over the seen classes, trained on their real features.
        beta: weight of the classification loss.
    """

    def __init__(
        self,
        task: Task,
        settings: WassersteinSettings,
        softmax: SoftmaxSettings,
        *,
        beta: float,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__(FCLSWGAN.name, task, settings, softmax, seed=seed, device=device)
        self.beta = beta
        *_, kept = train_softmax(
            self.features,
            self.rows,
            torch.arange(len(self.seen), device=device),
            epochs=_KEPT_EPOCHS,
            batch_size=_KEPT_BATCH,
            learning_rate=_KEPT_RATE,
            generator=seeded(seed, _KEPT, device=device),
        )
        self.kept: LinearClassifier = kept

    def added_parameters(self) -> list[nn.Parameter]:
        """None: the softmax is kept as it is."""
        return []

    def added_loss(
        self, batch: Batch, fake: Float[Tensor, "images visual"], random: torch.Generator
    ) -> Float[Tensor, ""]:
        """beta times the cross-entropy of the kept softmax on generated features."""
        del random
        logits = functional.linear(fake, self.kept.weight, self.kept.bias)
        return self.beta * functional.cross_entropy(logits.to(self.described.dtype), batch.rows)


def _whole(settings: FCLSWGANSettings, *, capped: bool) -> FCLSWGANSettings:
    return filled(settings, _CAPPED if capped else _PUBLISHED)


def published(settings: FCLSWGANSettings, dataset: str | None, capped: bool) -> Published:
    """The settings with nothing left open, the same for every data set."""
    del dataset
    return Published(_whole(settings, capped=capped))


def search(settings: FCLSWGANSettings, images: int) -> Space:
    """What `tune` tries."""
    del settings, images
    return {
        "learning_rate": Range(1e-5, 1e-2, log=True),
        "hidden_size": Range(128, 4096, log=True, whole=True),
        "beta": Range(1e-3, 1.0, log=True),
        "softmax_rate": Range(1e-4, 1e-2, log=True),
    }


INFO = MethodInfo(
    name="f-clswgan",
    title="f-CLSWGAN",
    paper="Xian, Lorenz, Schiele and Akata, Feature generating networks for zero-shot learning, CVPR 2018",
    settings=FCLSWGANSettings,
    make=FCLSWGAN,
    models={"f-clswgan": SynthesisModel},
    iterative=True,
    published=published,
    search=search,
    keeps_features=lambda _: KEEPS_FEATURES,
)
