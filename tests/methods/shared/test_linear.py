"""The linear layer with kept gradients is torch's layer, but for where its gradients lie."""

import pytest
import torch

from dkgzsl.methods.shared.training import Linear


def pair(*, bias: bool) -> tuple[Linear, torch.nn.Linear]:
    torch.manual_seed(0)
    ours, theirs = Linear(5, 3, bias=bias), torch.nn.Linear(5, 3, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
def test_output_and_gradients_are_those_of_torch(bias) -> None:
    ours, theirs = pair(bias=bias)
    for turn in range(2):  # the second one overwrites the first one's gradients
        found = []
        for layer in (ours, theirs):
            rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(turn)).requires_grad_()
            layer(rows).square().sum().backward()
            found.append([layer(rows).detach(), rows.grad, *(one.grad.clone() for one in layer.parameters())])
            if layer is theirs:
                layer.zero_grad()
        for mine, other in zip(*found, strict=True):
            torch.testing.assert_close(mine, other)


def test_gradients_keep_their_memory() -> None:
    layer, _ = pair(bias=True)
    places = []
    for _ in range(2):
        layer(torch.randn(7, 5)).sum().backward()
        places.append([one.grad.data_ptr() for one in layer.parameters()])
    assert places[0] == places[1]


def test_autocast_decides_the_precision() -> None:
    ours, theirs = pair(bias=True)
    rows = torch.randn(7, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = ours(rows), theirs(rows)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)
    found.float().square().sum().backward()
    expected.float().square().sum().backward()
    assert ours.weight.grad.dtype == torch.float32
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=0.02, atol=0.02)


def test_a_frozen_layer_leaves_no_gradient() -> None:
    layer, _ = pair(bias=True)
    layer.requires_grad_(False)
    rows = torch.randn(7, 5, requires_grad=True)
    layer(rows).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(rows.grad, layer.weight.sum(0).expand(7, 5))
