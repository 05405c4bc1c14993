"""FDE and ARA against their formulas, written out another way."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from dkgzsl.representation.attribute_attention import (
    AttributeAttention,
    class_scores,
    kept_regions,
    seen_class_loss,
)
from dkgzsl.representation.feature_denoising import FeatureDenoising, RegionLimits, keep_largest, large_components


def _flood(above: np.ndarray, area: int) -> np.ndarray:
    """Components by hand: grow each from a seed over its eight neighbours."""
    kept, left = np.zeros_like(above), {(int(r), int(c)) for r, c in np.argwhere(above)}
    while left:
        grown = [left.pop()]
        for row, column in grown:
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= around
            grown += around
        if len(grown) >= area:
            kept[tuple(np.array(grown).T)] = True
    return kept


@pytest.mark.parametrize("grid", [(7, 7), (14, 14), (3, 8)])
def test_components_are_those_of_a_flood_fill(grid: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    maps = generator.random((40, *grid))
    limits = RegionLimits(threshold=0.6, area=6, kept=1)
    ours = large_components(torch.from_numpy(maps).float().flatten(1), grid, limits)
    expected = np.stack([_flood(one > 0.6, 6) for one in maps])
    assert 0 < expected.sum() < (maps > 0.6).sum()  # both kinds of components occur
    assert (ours.numpy().reshape(-1, *grid) == expected).all()


def test_limits_follow_the_grid() -> None:
    assert RegionLimits.of(196) == (0.05, 30, 120)
    # 7x7: a quarter of the cells, and an even map of unit length is twice as high.
    assert RegionLimits.of(49) == (0.1, 8, 30)
    assert RegionLimits.of(1) == (pytest.approx(0.7), 1, 1)
    assert [kept_regions(n) for n in (196, 49, 1)] == [80, 20, 1]


def test_encoding_is_a_convolution_over_the_region_axis() -> None:
    torch.manual_seed(0)
    module = FeatureDenoising(6, (2, 5), 3)
    regions = torch.randn(4, 10, 6)
    weight = module.convolution.weight.reshape(6, 3, 6).transpose(1, 2)
    expected = functional.conv1d(regions.transpose(1, 2), weight, module.convolution.bias, padding=1)
    torch.testing.assert_close(module.encode(regions), expected.transpose(1, 2).sigmoid())


def test_each_channel_keeps_its_largest_regions() -> None:
    features = torch.rand(2, 9, 5, generator=torch.Generator().manual_seed(0))
    kept = keep_largest(features, 4)
    for image, channel in np.ndindex(2, 5):
        column = features[image, :, channel]
        order = column.argsort(descending=True)
        assert set(kept[image, :, channel].nonzero().flatten().tolist()) == set(order[:4].tolist())
    assert torch.equal(kept[kept > 0], features[kept > 0])


def test_denoising_learns_through_gate_and_map() -> None:
    torch.manual_seed(0)
    module = FeatureDenoising(8, (4, 4), 3)
    denoised = module(torch.rand(5, 17, 8))
    (denoised.regions.sum() + module.class_logits(denoised).sum()).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_scores_and_refined_feature_without_the_attribute_features() -> None:
    generator = torch.Generator().manual_seed(0)
    module = AttributeAttention(torch.randn(7, 5, generator=generator), 6, generator=generator)
    torch.nn.init.normal_(module.attention_weight, generator=generator)
    regions = torch.randn(3, 16, 6, generator=generator)
    output, features = module(regions), module.attribute_features(regions)
    scores = torch.einsum("mw,wc,bmc->bm", module.vectors, module.score_weight, features)
    torch.testing.assert_close(output.scores, scores)
    torch.testing.assert_close(output.refined, features.mean(dim=1))
    torch.testing.assert_close(output.attention.sum(dim=2), torch.ones(3, 7))


def test_attention_starts_even() -> None:
    module = AttributeAttention(torch.randn(7, 5), 6)
    attention = module(torch.randn(3, 16, 6)).attention
    torch.testing.assert_close(attention, torch.full((3, 7, 16), 1 / 16))


def test_cut_regions_stay_in_the_softmax_as_zero() -> None:
    module = AttributeAttention(torch.ones(1, 1), 2)
    with torch.no_grad():
        module.attention_weight.copy_(torch.tensor([[2.0, 0.0]]))
    angles = torch.linspace(0, 1.5, 16)
    regions = torch.stack([angles.cos(), angles.sin()], dim=1).unsqueeze(0)
    where = 2 * angles.cos()
    where[kept_regions(16) :] = 0  # the cosine falls: the first are the largest
    torch.testing.assert_close(module(regions).attention[0, 0], where.softmax(0))


def test_class_scores_and_loss_by_hand() -> None:
    generator = np.random.default_rng(0)
    scores, attributes = generator.normal(size=(4, 3)), generator.random((5, 3))
    seen, labels = np.array([0, 2, 4]), np.array([4, 0, 2, 4])
    by_class = scores @ (attributes / np.linalg.norm(attributes, axis=1, keepdims=True)).T
    odds = np.exp(by_class)
    expected = -np.log([odds[i, c] / odds[i, seen].sum() for i, c in enumerate(labels)]).mean()
    ours = class_scores(torch.from_numpy(scores).float(), torch.from_numpy(attributes).float())
    np.testing.assert_allclose(ours.numpy(), by_class, rtol=1e-5, atol=1e-6)
    loss = seen_class_loss(ours, torch.from_numpy(labels), torch.from_numpy(seen))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
