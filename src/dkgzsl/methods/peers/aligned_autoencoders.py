"""Two VAEs with one latent space, and their losses: CADA-VAE (arXiv 1812.01784)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dkgzsl.config import check_ranges
from dkgzsl.methods.peers.conditional_networks import gaussian_divergence, reparametrized

_GAIN = 0.5


@dataclass(frozen=True)
class Widths:
    """Hidden layers of encoders and decoders, and the latent."""

    feature_encoder: int = 1560
    """Hidden layer of the feature encoder."""
    feature_decoder: int = 1660
    """Hidden layer of the feature decoder."""
    description_encoder: int = 1450
    """Hidden layer of the description encoder."""
    description_decoder: int = 660
    """Hidden layer of the description decoder."""
    latent: int = 64
    """Length of a latent."""

    def __post_init__(self) -> None:
        check_ranges(self, "cada-vae.widths.", at_least={one.name: 1 for one in fields(self)})


class Autoencoder(nn.Module):
    """A VAE of one modality: encoder and decoder with one hidden ReLU layer each."""

    def __init__(self, size: int, encoder: int, decoder: int, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(size, encoder)
        self.mean = nn.Linear(encoder, latent)
        self.log_variance = nn.Linear(encoder, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, decoder), nn.ReLU(), nn.Linear(decoder, size))

    def encode(
        self, data: Float[Tensor, "rows size"]
    ) -> tuple[Float[Tensor, "rows latent"], Float[Tensor, "rows latent"]]:
        """Mean and log variance of each row's latent, in the precision of the weights."""
        hidden, full = torch.relu(self.hidden(data)), self.hidden.weight.dtype
        return self.mean(hidden).to(full), self.log_variance(hidden).to(full)

    def decode(self, latent: Float[Tensor, "rows latent"]) -> Float[Tensor, "rows size"]:
        """The reconstruction, in the precision of the weights."""
        decoded: Tensor = self.decoder(latent)
        return decoded.to(self.hidden.weight.dtype)


class AlignedAutoencoders(nn.Module):
    """The VAE of features and that of descriptions.

    Args:
        visual_size: length of a feature.
        semantic_size: length of a description.
        widths: of the hidden layers and the latent.
    """

    def __init__(self, visual_size: int, semantic_size: int, widths: Widths) -> None:
        super().__init__()
        self.visual = Autoencoder(visual_size, widths.feature_encoder, widths.feature_decoder, widths.latent)
        self.semantic = Autoencoder(
            semantic_size, widths.description_encoder, widths.description_decoder, widths.latent
        )

    @torch.no_grad()
    def draw_weights(self, random: torch.Generator) -> None:
        """First weights: Xavier uniform with gain 0.5, biases 0; `random` is on the CPU."""
        for parameter in self.parameters():
            parameter.zero_()
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter, gain=_GAIN, generator=random)


class AlignmentLosses(NamedTuple):
    """The four losses of a batch, means over its images, unweighted."""

    reconstruction: Float[Tensor, ""]
    divergence: Float[Tensor, ""]
    cross_alignment: Float[Tensor, ""]
    distribution_alignment: Float[Tensor, ""]


def alignment_losses(
    networks: AlignedAutoencoders,
    features: Float[Tensor, "images visual"],
    descriptions: Float[Tensor, "images semantic"],
    random: torch.Generator,
) -> AlignmentLosses:
    """L_VAE's two parts, L_CA and L_DA of images and the descriptions of their classes.

    Args:
        networks: both VAEs.
        features: scaled to [0, 1].
        descriptions: of unit length.
        random: draws a latent for each feature, then one for each description.
    """
    mean_x, log_variance_x = networks.visual.encode(features)
    mean_a, log_variance_a = networks.semantic.encode(descriptions)
    latent_x = reparametrized(mean_x, log_variance_x, random)
    latent_a = reparametrized(mean_a, log_variance_a, random)

    def off(target: Tensor, decoded: Tensor) -> Tensor:
        return functional.l1_loss(decoded, target, reduction="sum") / len(target)

    squared = (mean_x - mean_a).square() + ((0.5 * log_variance_x).exp() - (0.5 * log_variance_a).exp()).square()
    divergence = gaussian_divergence(mean_x, log_variance_x) + gaussian_divergence(mean_a, log_variance_a)
    return AlignmentLosses(
        off(features, networks.visual.decode(latent_x)) + off(descriptions, networks.semantic.decode(latent_a)),
        divergence.mean(),
        off(features, networks.visual.decode(latent_a)) + off(descriptions, networks.semantic.decode(latent_x)),
        squared.sum(dim=1).sqrt().mean(),
    )


def draw_latents(
    networks: AlignedAutoencoders,
    descriptions: Float[Tensor, "classes semantic"],
    number: int,
    random: torch.Generator,
) -> Float[Tensor, "classes number latent"]:
    """`number` latents of each description of unit length."""
    mean, log_variance = (half.repeat_interleave(number, dim=0) for half in networks.semantic.encode(descriptions))
    return reparametrized(mean, log_variance, random).view(len(descriptions), number, -1)
