"""Networks of the generative peers: a conditional generator and a conditional encoder, one hidden layer each.

Like the critic, each keeps its product with [x; a] as the sum of two products, one for feature or noise and one
for the description, so that what depends on the class alone is computed once a class.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.methods.shared.critic import SLOPE

Output = Literal["relu", "sigmoid"]


class ConditionalGenerator(nn.Module):
    """G(z, a) = out(W2 leaky_relu(W [z; a] + b) + b2), slope 0.2.

    f-CLSWGAN (Xian et al., CVPR 2018) ends in a ReLU, f-VAEGAN-D2 (Xian et al., CVPR 2019) in a sigmoid.

    Args:
        noise_size: length of the noise z.
        semantic_size: length of a description a.
        hidden_size: width of the hidden layer.
        visual_size: length of a feature.
        output: the last function.
    """

    def __init__(
        self, noise_size: int, semantic_size: int, hidden_size: int, visual_size: int, output: Output
    ) -> None:
        super().__init__()
        self.sizes = (noise_size, semantic_size, hidden_size, visual_size)
        self.output: Output = output
        self.noise = nn.Linear(noise_size, hidden_size, bias=False)
        self.semantic = nn.Linear(semantic_size, hidden_size)
        self.visual = nn.Linear(hidden_size, visual_size)

    def logits(
        self, noise: Float[Tensor, "images noise"], class_part: Float[Tensor, "images hidden"]
    ) -> Float[Tensor, "images visual"]:
        """The features before the last function.

        Args:
            noise: standard normal, or drawn by an encoder.
            class_part: `self.semantic` of the description of each row's class.
        """
        logits: Tensor = self.visual(functional.leaky_relu(self.noise(noise) + class_part, SLOPE))
        return logits

    def forward(
        self, noise: Float[Tensor, "images noise"], class_part: Float[Tensor, "images hidden"]
    ) -> Float[Tensor, "images visual"]:
        """A scaled feature for each row of noise; arguments as those of `logits`."""
        logits = self.logits(noise, class_part)
        return torch.relu(logits) if self.output == "relu" else torch.sigmoid(logits)

    @torch.no_grad()
    def synthesize(
        self, semantics: Float[Tensor, "classes semantic"], number: int, random: torch.Generator
    ) -> Float[Tensor, "classes number visual"]:
        """`number` scaled features for each description.

        Args:
            semantics: scaled as in training.
            number: features a class.
            random: source of the noise, on the networks' device.
        """
        class_part: Tensor = self.semantic(semantics)
        made = class_part.new_empty(len(semantics), number, self.sizes[3])
        for row, features in enumerate(made):  # a class at a time: memory for one class's hidden layer only
            noise = torch.randn(
                number, self.sizes[0], generator=random, device=class_part.device, dtype=class_part.dtype
            )
            features.copy_(self(noise, class_part[row : row + 1].expand(number, -1)))
        return made


class ConditionalEncoder(nn.Module):
    """q(z | x, a) = N(mean, exp(log_variance)), both linear in leaky_relu(W [x; a] + b), slope 0.2.

    Args:
        visual_size: length of a feature x.
        semantic_size: length of a description a.
        hidden_size: width of the hidden layer.
        latent_size: length of z.
    """

    def __init__(self, visual_size: int, semantic_size: int, hidden_size: int, latent_size: int) -> None:
        super().__init__()
        self.visual = nn.Linear(visual_size, hidden_size, bias=False)
        self.semantic = nn.Linear(semantic_size, hidden_size)
        self.mean = nn.Linear(hidden_size, latent_size)
        self.log_variance = nn.Linear(hidden_size, latent_size)

    def forward(
        self, features: Float[Tensor, "images visual"], class_part: Float[Tensor, "images hidden"]
    ) -> tuple[Float[Tensor, "images latent"], Float[Tensor, "images latent"]]:
        """Mean and log variance of each image's latent.

        Args:
            features: scaled features.
            class_part: `self.semantic` of the description of each image's class.
        """
        hidden = functional.leaky_relu(self.visual(features) + class_part, SLOPE)
        return self.mean(hidden), self.log_variance(hidden)


@torch.no_grad()
def draw_weights(network: nn.Module, random: torch.Generator) -> None:
    """Weights from N(0, 0.02), biases 0, as the released code of f-CLSWGAN has them; `random` is on the CPU."""
    for name, parameter in network.named_parameters():
        deviation = 0.0 if name.endswith("bias") else 0.02
        parameter.copy_(deviation * torch.randn(parameter.shape, generator=random))


def gaussian_divergence(
    mean: Float[Tensor, "images latent"], log_variance: Float[Tensor, "images latent"]
) -> Float[Tensor, " images"]:
    """KL(N(mean, exp(log_variance)) || N(0, I)) of each image, summed over the latent's entries."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def reparametrized(
    mean: Float[Tensor, "images latent"],
    log_variance: Float[Tensor, "images latent"],
    random: torch.Generator,
) -> Float[Tensor, "images latent"]:
    """mean + exp(log_variance / 2) * e, e standard normal."""
    noise = torch.randn(mean.shape, generator=random, device=mean.device, dtype=mean.dtype)
    return mean + (0.5 * log_variance).exp() * noise
