import copy
import pickle

import pytest
import torch

from dkgzsl.learning.precision import resolved
from dkgzsl.model.feature_denoising import FeatureDenoising
from dkgzsl.model.kept_weights import CastWeights


@pytest.fixture
def encoder() -> FeatureDenoising:
    torch.manual_seed(0)
    return FeatureDenoising(16, (3, 3), 5).eval()


def test_the_product_of_kept_weights_is_autocast_s_own(encoder: FeatureDenoising) -> None:
    """With gradients nothing is kept, and torch casts by itself."""
    tokens = torch.rand(2, 10, 16)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = encoder.denoise(tokens)
        with torch.no_grad():
            ours, again = encoder.denoise(tokens), encoder.denoise(tokens)
    for left, mid, right in zip(ours, again, theirs, strict=True):
        assert torch.equal(left, right.detach())
        assert torch.equal(left, mid)


@pytest.mark.parametrize("change", ["in place", "replaced", "loaded"])
def test_changed_weights_are_cast_anew(encoder: FeatureDenoising, change: str) -> None:
    tokens = torch.rand(2, 10, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = encoder.encode(tokens)
        other = copy.deepcopy(encoder)
        if change == "in place":
            encoder.convolution.weight.mul_(2)
        elif change == "replaced":
            encoder.convolution.weight = torch.nn.Parameter(2 * encoder.convolution.weight)
        else:
            state = encoder.state_dict()
            encoder.load_state_dict({**state, "convolution.weight": 2 * state["convolution.weight"]})
        after = encoder.encode(tokens)
        assert torch.equal(other.encode(tokens), before)
    assert not torch.equal(before, after)


def test_kept_weights_do_not_travel() -> None:
    kept = CastWeights()
    kept.of([torch.ones(3)], torch.bfloat16)
    assert pickle.loads(pickle.dumps(kept))._kept is None


def test_an_open_precision_is_the_device_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for supported in (True, False):
        for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, probe, lambda known=supported: known, raising=False)
        assert resolved("auto", "cpu") == ("bfloat16" if supported else "float32")
        assert resolved("float32", "cpu") == "float32"
        assert resolved("bfloat16", "cpu") == "bfloat16"
    assert resolved("auto", "mps") == "float32"
