"""FDE and ARA, given the reference weights and inputs, give the reference outputs."""

import torch
from reference import Golden, assert_golden

from dkgzsl.representation.attribute_attention import (
    AttributeAttention,
    class_scores,
    kept_regions,
    seen_class_loss,
)
from dkgzsl.representation.feature_denoising import FeatureDenoising, RegionLimits, auxiliary_head

LAYERS = [f"{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")]


def _denoising(golden: Golden) -> FeatureDenoising:
    rows, columns = map(int, golden.metadata["grid"].split("x"))
    classes = golden["fde.pro.4.bias"].numel()
    module = FeatureDenoising(golden["fde.in.tokens_B1RC"].shape[2], (rows, columns), classes)
    names = {
        # [out, in, 3] -> [out, 3 * in]: our convolution is one product over three regions' channels.
        "convolution.weight": golden["fde.convQ.weight"].transpose(1, 2).flatten(1),
        "convolution.bias": "fde.convQ.bias",
        "queries": "fde.w_q",
        **{f"class_head.{name}": f"fde.pro.{name}" for name in LAYERS},
    }
    golden.load(module, names)
    return module.eval()


def _attention(golden: Golden) -> AttributeAttention:
    module = AttributeAttention(golden["ara.w2v"], golden["ara.in.features_BCR"].shape[1])
    # V is what the constructor makes of the word vectors, not what the file says.
    assert_golden(module.vectors, golden["ara.V"])
    names = {"vectors": "ara.V", "score_weight": "ara.W_1", "attention_weight": "ara.W_2"}
    golden.load(module, names)
    return module.eval()


def test_limits_at_the_published_grid_golden(golden: Golden) -> None:
    rows, columns = map(int, golden.metadata["grid"].split("x"))
    limits = RegionLimits.of(rows * columns)
    assert limits.kept == int(golden.metadata["topk_regions_fde"])
    assert limits.area == int(golden.metadata["mask_min_area"])
    assert limits.threshold == float(golden.metadata["mask_threshold"])
    assert kept_regions(rows * columns) == int(golden.metadata["topk_regions_ara"])


@torch.no_grad()
def test_feature_denoising_golden(golden: Golden) -> None:
    encoder = _denoising(golden)
    denoised = encoder(golden["fde.in.tokens_B1RC"])
    assert_golden(denoised.regions.transpose(1, 2), golden["fde.out.features_BCR"])
    assert_golden(encoder.class_logits(denoised), golden["fde.out.class_logits"])


@torch.no_grad()
def test_the_second_auxiliary_head_golden(golden: Golden) -> None:
    """The head that we leave out, put onto what ours encodes: the encoding before the gate agrees, too."""
    head = auxiliary_head(golden["fde.AK.0.weight"].shape[1], golden["fde.AK.4.bias"].numel())
    golden.load(head, {name: f"fde.AK.{name}" for name in LAYERS})
    encoded = _denoising(golden).encode(golden["fde.in.tokens_B1RC"][:, 1:])
    assert_golden(head(encoded.amax(dim=1)), golden["fde.out.attribute_logits"])


@torch.no_grad()
def test_attribute_attention_golden(golden: Golden) -> None:
    module, regions = _attention(golden), golden["ara.in.features_BCR"].transpose(1, 2)
    output = module(regions)
    assert_golden(output.attention, golden["ara.out.attention"])
    assert_golden(output.refined, golden["ara.out.refined_mean_over_attributes"])
    assert_golden(module.attribute_features(regions), golden["ara.out.attended"])


@torch.no_grad()
def test_class_scores_and_loss_golden(golden: Golden) -> None:
    output = _attention(golden)(golden["ara.in.features_BCR"].transpose(1, 2))
    scores = class_scores(output.scores, golden["attributes"])
    assert_golden(scores, golden["ara.out.class_scores"])
    first, last = map(int, golden.metadata["seen_classes"].split("-"))
    loss = seen_class_loss(scores, golden["ara.in.seen_labels"], torch.arange(first, last + 1))
    assert_golden(loss, golden["ara.out.loss_ce_seen"])
