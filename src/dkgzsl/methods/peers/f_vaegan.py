"""f-VAEGAN-D2, its inductive form (Xian, Sharma, Schiele and Akata, CVPR 2019, arXiv 1903.10132).

A conditional VAE and a WGAN-GP share the generator, which is the VAE's decoder. With the encoder's z ~ q(z | x,
a), the added loss is L_VAE = KL(q(z | x, a) || N(0, I)) - E log p(x | z, a), equation 1, whose second term is
the binary cross-entropy of the sigmoid output against features in [0, 1]; in all L_VAE - gamma * E D(G(z', a),
a), z' standard normal, equation 3. Then a softmax on real and synthesized features. The second critic is for
unlabelled images of unseen classes, which nobody has here.

Published: hidden layers of 4096, z as long as a description, lambda 10, five critic steps, gamma 1000 with a
VAE loss whose reduction is not said. Here it is summed over a feature's entries, mean over images, and gamma is
10, as in the released code of TF-VAEGAN (Narayan et al., ECCV 2020), which builds on this method; from there,
too: Adam 1e-4 with betas 0.5 and 0.999, batches of 64, 300 features a class for CUB. Further deviations: those
of `wasserstein`; the epochs of training and softmax are chosen by the selector, not on test.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.methods.base import Setting, Task
from dkgzsl.methods.peers.conditional_networks import ConditionalEncoder, gaussian_divergence, reparametrized
from dkgzsl.methods.peers.epochwise import EpochwiseMethod
from dkgzsl.methods.peers.synthesized_softmax import SoftmaxSettings
from dkgzsl.methods.peers.wasserstein import Batch, Precision, WassersteinSettings, WassersteinTraining


class FVAEGAN(EpochwiseMethod):
    """f-VAEGAN-D2, inductive; the epochs of training and last softmax are chosen by the selector.

    Args:
        epochs: most epochs.
        hidden_size: width of every hidden layer.
        batch_size: images a step.
        learning_rate: Adam's, of encoder, generator and critic.
        gamma: weight of the generator's adversarial loss beside the VAE's.
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

    name = "f-vaegan"

    def __init__(
        self,
        *,
        epochs: int = 300,
        hidden_size: int = 4096,
        batch_size: int = 64,
        learning_rate: float = 1e-4,
        gamma: float = 10.0,
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
        self.settings = WassersteinSettings(
            hidden_size=hidden_size,
            batch_size=batch_size,
            learning_rate=learning_rate,
            critic_steps=critic_steps,
            penalty_weight=penalty_weight,
            gamma=gamma,
            output="sigmoid",
            precision=precision,
        )
        self.softmax = SoftmaxSettings(per_class, softmax_rate, softmax_epochs, softmax_batch)

    def begin(self, task: Task, option: Setting) -> AutoencodingTraining:
        """A training that has not begun."""
        del option
        return AutoencodingTraining(
            FVAEGAN.name, task, self.settings, self.softmax, seed=self.seed, device=self.device
        )


def within_minutes(*, seed: int, device: str, minutes: float | None) -> FVAEGAN:
    """With 1024 hidden units, rate 5e-4 and bfloat16, for the reason that `f_clswgan` gives."""
    return FVAEGAN(
        hidden_size=1024, learning_rate=5e-4, precision="bfloat16", minutes=minutes, seed=seed, device=device
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
