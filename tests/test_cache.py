import copy
import pickle

import numpy as np
import pytest
import torch

from dkgzsl.cache import WeightCache
from dkgzsl.device import resolved
from dkgzsl.representation import feature_denoising as low_linear
from dkgzsl.representation.feature_denoising import FeatureDenoising


@pytest.fixture
def encoder() -> FeatureDenoising:
    torch.manual_seed(0)
    return FeatureDenoising(16, (3, 3), 5, reads_in=torch.bfloat16).eval()


def test_reading_multiplies_in_bfloat16_and_gradients_do_not(encoder: FeatureDenoising) -> None:
    """Against torch's convolution of rounded numbers in float64: only the product's own rounding is left."""
    tokens = torch.rand(2, 10, 16)
    with torch.no_grad():
        ours, again = encoder.encode(tokens[:, 1:]), encoder.encode(tokens[:, 1:])
        rounded = [
            value.bfloat16().double()
            for value in (tokens[:, 1:], encoder.convolution.weight, encoder.convolution.bias)
        ]
        kernel = rounded[1].reshape(16, 3, 16).transpose(1, 2)
        exact = torch.nn.functional.conv1d(rounded[0].transpose(1, 2), kernel, rounded[2], padding=1)
    assert torch.equal(ours, again)
    assert ours.dtype == torch.float32
    theirs = exact.transpose(1, 2).bfloat16().float().sigmoid()
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)
    full = FeatureDenoising(16, (3, 3), 5).eval()
    full.load_state_dict(encoder.state_dict())
    assert torch.equal(encoder.encode(tokens[:, 1:]), full.encode(tokens[:, 1:]))
    assert not torch.equal(ours, full.encode(tokens[:, 1:]))


@pytest.mark.parametrize("change", ["in place", "replaced", "loaded"])
def test_changed_weights_are_cast_anew(encoder: FeatureDenoising, change: str) -> None:
    tokens = torch.rand(2, 10, 16)
    with torch.no_grad():
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


def test_weights_made_where_others_lay_are_not_taken_for_them() -> None:
    """Memory that one tensor gives back is often the next one's: equal address, equal version."""
    memory, cache = np.zeros(4, np.float32), WeightCache[float]()
    addresses = set()
    with torch.no_grad():
        for value in range(3):
            memory[:] = value
            weight = torch.from_numpy(memory)
            addresses.add((weight.data_ptr(), weight._version))
            assert cache.get([weight], None, lambda: float(memory[0])) == value
    assert len(addresses) == 1, "otherwise nothing was tested"


def test_copies_begin_with_an_empty_cache() -> None:
    cache: WeightCache[int] = WeightCache()
    weights = [torch.ones(3)]
    cache.get(weights, None, lambda: 1)
    assert cache.get(weights, None, lambda: 2) == 1
    assert cache.get(weights, "otherwise", lambda: 2) == 2
    for copied in (pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache)):
        assert copied.get(weights, "otherwise", lambda: 3) == 3


def test_where_bfloat16_is_emulated_the_product_is_rounded_alike(encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, found = torch.rand(2, 10, 16), []
    for has_it in (True, False):
        monkeypatch.setattr(low_linear, "multiplies_in_bfloat16", lambda device, known=has_it: known)
        with torch.no_grad():
            found.append(encoder.encode(tokens[:, 1:]))
    full = FeatureDenoising(16, (3, 3), 5).eval()
    full.load_state_dict(encoder.state_dict())
    apart = (found[0] - full.encode(tokens[:, 1:])).abs().mean()
    assert (found[0] - found[1]).abs().mean() < 0.05 * apart


def test_an_open_precision_is_the_device_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for supported in (True, False):
        for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, probe, lambda known=supported: known, raising=False)
        assert resolved("auto", "cpu") == ("bfloat16" if supported else "float32")
        assert resolved("float32", "cpu") == "float32"
        assert resolved("bfloat16", "cpu") == "bfloat16"
    assert resolved("auto", "mps") == "float32"
