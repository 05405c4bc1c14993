"""f-CLSWGAN: a feature generating network (Xian, Lorenz, Schiele and Akata, CVPR 2018, arXiv 1712.00981).

A conditional WGAN-GP on features (`wasserstein`), whose generator is also asked that a softmax, trained on the
real features of the seen classes and then kept, tells the class of what it makes: loss -E D(G(z, a), a) - beta
* E log P(y | G(z, a)), equation 5. Then a softmax on real and synthesized features. The generator ends in a
ReLU; features are scaled to [0, 1] by minimum and maximum.

Published: hidden layers of 4096, lambda 10, beta 0.01, five critic steps. From the released code: Adam 1e-4
with betas 0.5 and 0.999, batches of 64; the kept softmax 50 epochs of batches of 100 at 1e-3; the last softmax
25 epochs at 1e-3 on CUB. Deviations: those of `wasserstein`; the epochs of both are chosen by the selector, not on
test.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.errors import ConfigError
from dkgzsl.methods.base import Setting, Task
from dkgzsl.methods.peers.epochwise import EpochwiseMethod
from dkgzsl.methods.peers.synthesized_softmax import SoftmaxSettings
from dkgzsl.methods.peers.wasserstein import Batch, Precision, WassersteinSettings, WassersteinTraining
from dkgzsl.methods.shared.softmax import LinearClassifier, train_softmax
from dkgzsl.methods.shared.training import seeded

_KEPT = 10  # place of a random stream
_KEPT_EPOCHS, _KEPT_BATCH, _KEPT_RATE = 50, 100, 1e-3


class FCLSWGAN(EpochwiseMethod):
    """f-CLSWGAN; the epochs of training and last softmax are chosen by the selector.

    Args:
        epochs: most epochs.
        hidden_size: width of every hidden layer.
        batch_size: images a step.
        learning_rate: Adam's, of generator and critic.
        beta: weight of the classification loss.
        critic_steps: critic steps a generator step.
        penalty_weight: lambda.
        per_class: features synthesized for each unseen class.
        softmax_rate: Adam's learning rate of the last softmax.
        softmax_epochs: most epochs of it.
        softmax_batch: features a step of it.
        precision: of the matrix products; bfloat16 is about three times as fast on recent processors.
        minutes: wall-clock minutes of one exploration; None sets no limit.
        seed: 0 or more.
        device: where to compute.

    Raises:
        ConfigError: a number is out of its range.
    """

    name = "f-clswgan"

    def __init__(
        self,
        *,
        epochs: int = 60,
        hidden_size: int = 4096,
        batch_size: int = 64,
        learning_rate: float = 1e-4,
        beta: float = 0.01,
        critic_steps: int = 5,
        penalty_weight: float = 10.0,
        per_class: int = 300,
        softmax_rate: float = 1e-3,
        softmax_epochs: int = 25,
        softmax_batch: int = 300,
        precision: Precision = "float32",
        minutes: float | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(epochs=epochs, minutes=minutes, seed=seed, device=device)
        if not beta >= 0:
            raise ConfigError(f"beta must be 0 or above, not {beta}")
        self.beta = beta
        self.settings = WassersteinSettings(
            hidden_size=hidden_size,
            batch_size=batch_size,
            learning_rate=learning_rate,
            critic_steps=critic_steps,
            penalty_weight=penalty_weight,
            gamma=1.0,
            output="relu",
            precision=precision,
        )
        self.softmax = SoftmaxSettings(per_class, softmax_rate, softmax_epochs, softmax_batch)

    def begin(self, task: Task, option: Setting) -> ClassificationTraining:
        """Train the kept softmax; the rest has not begun."""
        del option
        return ClassificationTraining(
            task, self.settings, self.softmax, beta=self.beta, seed=self.seed, device=self.device
        )


def within_minutes(*, seed: int, device: str, minutes: float | None) -> FCLSWGAN:
    """With 1024 hidden units, rate 2e-4 and bfloat16: what minutes on two cores bring furthest.

    As published, a fit of minutes ends long before it has converged. Chosen on validation classes of CUB100 with
    sentences alone.
    """
    return FCLSWGAN(
        hidden_size=1024, learning_rate=2e-4, precision="bfloat16", minutes=minutes, seed=seed, device=device
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
