"""CADA-VAE: its losses against others' densities and by hand, its schedules, its latents."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from dkgzsl.methods.base import Task
from dkgzsl.methods.peers.aligned_autoencoders import AlignedAutoencoders, Widths, alignment_losses, draw_latents
from dkgzsl.methods.peers.aligned_model import AlignedModel
from dkgzsl.methods.peers.cada_vae import (
    CADAVAE,
    CROSS_ALIGNMENT,
    DISTRIBUTION_ALIGNMENT,
    DIVERGENCE,
    CADAVAESettings,
    in_turn,
)
from dkgzsl.methods.peers.conditional_networks import gaussian_divergence, reparametrized


@pytest.fixture
def networks() -> AlignedAutoencoders:
    made = AlignedAutoencoders(7, 5, Widths(9, 8, 6, 4, 3)).double()
    made.draw_weights(torch.Generator().manual_seed(0))
    for parameter in made.parameters():
        parameter.data += 0.1
    return made.requires_grad_(False)


def test_losses_equal_those_by_hand(networks: AlignedAutoencoders) -> None:
    random = torch.Generator().manual_seed(1)
    x, a = torch.rand(4, 7, generator=random).double(), torch.rand(4, 5, generator=random).double()
    losses = alignment_losses(networks, x, a, torch.Generator().manual_seed(2))

    noise = torch.Generator().manual_seed(2)
    e = (
        torch.randn(4, 3, generator=noise, dtype=torch.float64),
        torch.randn(4, 3, generator=noise, dtype=torch.float64),
    )

    def latent(vae: torch.nn.Module, data: Tensor, noise: Tensor) -> tuple[Normal, Tensor]:
        hidden = (data @ vae.hidden.weight.T + vae.hidden.bias).clamp(min=0)
        mean = hidden @ vae.mean.weight.T + vae.mean.bias
        deviation = (hidden @ vae.log_variance.weight.T + vae.log_variance.bias).exp() ** 0.5
        return Normal(mean, deviation), mean + deviation * noise

    q_x, z_x = latent(networks.visual, x, e[0])
    q_a, z_a = latent(networks.semantic, a, e[1])
    d_x, d_a = networks.visual.decoder, networks.semantic.decoder
    expected = {"reconstruction": 0.0, "divergence": 0.0, "cross_alignment": 0.0, "distribution_alignment": 0.0}
    for i in range(4):
        expected["reconstruction"] += float((x[i] - d_x(z_x[i])).abs().sum() + (a[i] - d_a(z_a[i])).abs().sum())
        expected["cross_alignment"] += float((x[i] - d_x(z_a[i])).abs().sum() + (a[i] - d_a(z_x[i])).abs().sum())
        means = (q_x.mean[i] - q_a.mean[i]).norm() ** 2
        deviations = (q_x.stddev[i] - q_a.stddev[i]).norm() ** 2
        expected["distribution_alignment"] += float((means + deviations) ** 0.5)
        for q in (q_x, q_a):
            expected["divergence"] += float(kl_divergence(q, Normal(0.0, 1.0))[i].sum())
    for name, value in expected.items():
        assert float(getattr(losses, name)) == pytest.approx(value / 4, rel=1e-9), name


def test_divergence_equals_that_of_torch() -> None:
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    own = MultivariateNormal(mean, torch.diag_embed(log_variance.exp()))
    expected = kl_divergence(own, MultivariateNormal(torch.zeros(3), torch.eye(3)))
    torch.testing.assert_close(gaussian_divergence(mean, log_variance), expected)


def test_reparametrized_draws_have_mean_and_variance() -> None:
    mean, log_variance = torch.full((20000, 1), 3.0), torch.full((20000, 1), 2.0).log()
    drawn = reparametrized(mean, log_variance, torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(3, abs=0.05)
    assert float(drawn.var()) == pytest.approx(2, rel=0.05)


def test_the_weights_grow_as_published() -> None:
    """The released code's factors at the end of each warm-up: 0.25, 2.37, 8.13; the paper's steps are rounded."""
    for schedule, first, last, full in (
        (DIVERGENCE, 0, 90, 0.25),
        (CROSS_ALIGNMENT, 21, 75, 2.37),
        (DISTRIBUTION_ALIGNMENT, 6, 22, 8.13),
    ):
        assert schedule(first) == 0
        assert schedule(0) == 0
        assert schedule(first + 1) == pytest.approx(schedule.step)
        assert schedule(last) == schedule(1000) == pytest.approx(full, rel=0.08)


def test_images_come_in_turn() -> None:
    labels = torch.tensor([4, 1, 4, 1, 4])
    assert in_turn(labels, 4, 5).tolist() == [0, 2, 4, 0, 2]
    assert in_turn(labels, 1, 1).tolist() == [1]


def test_latents_are_drawn_class_by_class(networks: AlignedAutoencoders) -> None:
    descriptions = torch.rand(2, 5).double()
    drawn = draw_latents(networks, descriptions, 3000, torch.Generator().manual_seed(0))
    mean, log_variance = networks.semantic.encode(descriptions)
    assert (drawn.mean(1) - mean).abs().max() < 0.1
    torch.testing.assert_close(drawn.var(1), log_variance.exp(), rtol=0.1, atol=0.0)


def test_losses_fall_and_latents_are_aligned(task: Task) -> None:
    """With the weights of the last epochs: the unaligned start against what training makes of it."""
    method = CADAVAE(CADAVAESettings(widths=Widths(32, 32, 32, 32, 8), learning_rate=5e-3, batch_size=16))
    training = method.begin(task, {})
    training.epoch = 95
    figures = [training.train_epoch() for _ in range(15)]
    assert figures[-1]["cross_alignment"] < 0.8 * figures[0]["cross_alignment"]


def test_synthesized_features_are_the_decoder_on_latents_of_the_description(task: Task) -> None:
    model = CADAVAE(CADAVAESettings(widths=Widths(8, 8, 8, 8, 4), softmax_epochs=1)).fit(
        task, {"epochs": 1, "classifier_epochs": 1}
    )
    assert isinstance(model, AlignedModel)
    made = model.synthesize(3 * task.semantics[:2], 4, torch.Generator().manual_seed(5))
    unit = task.semantics[:2] / task.semantics[:2].norm(dim=1, keepdim=True)
    mean, log_variance = model.networks.semantic.encode(unit.repeat_interleave(4, 0))
    noise = torch.randn(8, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    decoded = model.networks.visual.decoder(mean + (log_variance / 2).exp() * noise)
    low, high = task.features.aminmax(dim=0)
    torch.testing.assert_close(made.flatten(0, 1), decoded * (high - low) + low)
