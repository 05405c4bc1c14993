"""f-VAEGAN-D2, its inductive form (arXiv 1903.10132).

A conditional VAE and a WGAN-GP share the generator, which is the VAE's decoder. With the encoder's z ~ q(z | x,
a), the added loss is L_VAE = KL(q(z | x, a) || N(0, I)) - E log p(x | z, a), equation 1, whose second term is
the binary cross-entropy of the sigmoid output against features in [0, 1]; in all L_VAE - gamma * E D(G(z', a),
a), z' standard normal, equation 3. Then a softmax on real and synthesized features. The second critic is for
unlabelled images of unseen classes, and there are none here.

Published: hidden layers of 4096, z as long as a description, lambda 10, five critic steps, gamma 1000 with a
VAE loss whose reduction is not said. Here it is summed over a feature's entries, mean over images, and gamma is
10, as in the released code of TF-VAEGAN (Narayan et al., ECCV 2020), which builds on this method. From there
come Adam 1e-4 with betas 0.5 and 0.999, batches of 64, 300 features a class for CUB. Further deviations: those
of `wasserstein`; the epochs of training and softmax are chosen by the selector, not on test.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.config import check_ranges
from dkgzsl.methods.base import MethodInfo, Published, Setting, Setup, Task
from dkgzsl.methods.peers.conditional_networks import ConditionalEncoder, gaussian_divergence, reparametrized
from dkgzsl.methods.peers.epochwise import EpochwiseMethod, Precision, filled, known
from dkgzsl.methods.peers.synthesized_softmax import SoftmaxSettings, SynthesisModel
from dkgzsl.methods.peers.wasserstein import Batch, WassersteinSettings, WassersteinTraining
from dkgzsl.methods.search import Range, Space
from dkgzsl.methods.shared.softmax import KEEPS_FEATURES

_PUBLISHED = {"hidden_size": 4096, "learning_rate": 1e-4, "precision": "float32"}
_CAPPED = {"hidden_size": 1024, "learning_rate": 5e-4, "precision": "bfloat16"}  # chosen as `f_clswgan` says


@dataclass(frozen=True)
class FVAEGANSettings:
    """A WGAN-GP whose generator is the decoder of a VAE; then a softmax (inductive).

    Raises:
        ConfigError: a value is out of its range.
    """

    epochs: int = 300
    """Most passes over the training images; the epoch is chosen on validation classes."""
    hidden_size: int | None = None
    """Width of every hidden layer (default: 4096, as published; within a benchmark's minutes 1024)."""
    batch_size: int = 64
    """Images per step."""
    learning_rate: float | None = None
    """Adam's learning rate (default: 1e-4, as published; within a benchmark's minutes 5e-4)."""
    gamma: float = 10.0
    """Weight of the generator's adversarial loss, next to the VAE's."""
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
            "f-vaegan-d2.",
            at_least=dict.fromkeys(counts, 1),
            above_zero=("learning_rate", "gamma", "penalty_weight", "softmax_rate"),
        )


class FVAEGAN(EpochwiseMethod):
    """f-VAEGAN-D2, inductive; the epochs of training and last softmax are chosen by the selector.

    Args:
        settings: of the training; what is open is as published, or narrower where `setup` caps the minutes.
        setup: the seed decides first weights, noise and order.

    Raises:
        ConfigError: the minutes are out of range.
    """

    name = "f-vaegan-d2"

    def __init__(self, settings: FVAEGANSettings | None = None, setup: Setup | None = None) -> None:
        super().__init__(settings or FVAEGANSettings(), setup)
        self.settings = one = _whole(settings or FVAEGANSettings(), capped=self.minutes is not None)
        self.adversarial = WassersteinSettings(
            hidden_size=known(one.hidden_size),
            batch_size=one.batch_size,
            learning_rate=known(one.learning_rate),
            critic_steps=one.critic_steps,
            penalty_weight=one.penalty_weight,
            gamma=one.gamma,
            output="sigmoid",
            precision=known(one.precision),
        )
        self.softmax = SoftmaxSettings(one.per_class, one.softmax_rate, one.softmax_epochs, one.softmax_batch)

    def begin(self, task: Task, option: Setting) -> AutoencodingTraining:
        """A training that has not begun."""
        del option
        return AutoencodingTraining(
            self.name, task, self.adversarial, self.softmax, seed=self.seed, device=self.device
        )


class AutoencodingTraining(WassersteinTraining):
    """The WGAN-GP whose generator is a VAE's decoder; arguments as those of `WassersteinTraining`.

    Attributes:
        encoder: q(z | x, a).
    """

    encoder: ConditionalEncoder

    def added_parameters(self) -> list[nn.Parameter]:
        """Makes the encoder, which steps with the generator."""
        noise_size, semantic_size, hidden_size, visual_size = self.generator.sizes
        self.encoder = self.on_device(ConditionalEncoder(visual_size, semantic_size, hidden_size, noise_size))
        return list(self.encoder.parameters())

    def added_loss(
        self, batch: Batch, fake: Float[Tensor, "images visual"], random: torch.Generator
    ) -> Float[Tensor, ""]:
        """The VAE's loss on the batch's real features: divergence and cross-entropy, mean over images."""
        del fake
        class_part = batch.spread(self.encoder.semantic(batch.semantics))
        full = self.described.dtype
        mean, log_variance = (half.to(full) for half in self.encoder(batch.real, class_part))
        latent = reparametrized(mean, log_variance, random)
        logits = self.generator.logits(latent, batch.spread(self.generator.semantic(batch.semantics)))
        entropy = functional.binary_cross_entropy_with_logits(
            logits.to(full), batch.real.to(full), reduction="none"
        )
        return (entropy.sum(dim=1) + gaussian_divergence(mean, log_variance)).mean()


def _whole(settings: FVAEGANSettings, *, capped: bool) -> FVAEGANSettings:
    return filled(settings, _CAPPED if capped else _PUBLISHED)


def published(settings: FVAEGANSettings, dataset: str | None, capped: bool) -> Published:
    """The settings with nothing left open, the same for every data set."""
    del dataset
    return Published(_whole(settings, capped=capped))


def search(settings: FVAEGANSettings, images: int) -> Space:
    """What `tune` tries."""
    del settings, images
    return {
        "learning_rate": Range(1e-5, 1e-2, log=True),
        "hidden_size": Range(128, 4096, log=True, whole=True),
        "gamma": Range(0.1, 1000.0, log=True),
        "softmax_rate": Range(1e-4, 1e-2, log=True),
    }


INFO = MethodInfo(
    name="f-vaegan-d2",
    title="f-VAEGAN-D2",
    paper="Xian, Sharma, Schiele and Akata, f-VAEGAN-D2: a feature generating framework for any-shot learning, "
    "CVPR 2019",
    settings=FVAEGANSettings,
    make=FVAEGAN,
    models={"f-vaegan-d2": SynthesisModel},
    iterative=True,
    published=published,
    search=search,
    keeps_features=lambda _: KEEPS_FEATURES,
)
