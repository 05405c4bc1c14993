"""A linear layer whose gradients stay in the same memory from step to step."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def gradient_memory(parameter: Tensor) -> Tensor:
    """The parameter's gradient, to be overwritten; made where there is none yet.

    Fresh memory for every gradient costs a CPU up to half of the product's time.
    """
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad


def transposed_product(
    left: Float[Tensor, "terms rows"], right: Float[Tensor, "terms columns"], out: Float[Tensor, "rows columns"]
) -> Float[Tensor, "rows columns"]:
    """left^T right, written to `out`: the gradient of a layer's weight.

    Args:
        left: derivatives by the layer's output.
        right: the layer's input; the product runs in its precision.
        out: memory in the precision of the weight.
    """
    if right.dtype == out.dtype:
        return torch.mm(left.T, right, out=out)
    return out.copy_(left.to(right.dtype).T @ right)


class Linear(nn.Linear):
    """`torch.nn.Linear` whose gradients overwrite those of the step before, in their memory.

    The optimizer's `zero_grad` is not needed, and would give the memory back. Gradients are not added up: within
    one derivation the layer may be used once. Inputs are matrices.
    """

    def forward(self, input: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """input W^T + b, in the precision of autocast where that is on."""
        low, kind = input.dtype, input.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            low = torch.get_autocast_dtype(kind)
        needed = torch.is_grad_enabled() and self.weight.requires_grad
        function = _InMemory.apply if needed else _output
        found: Tensor = function(input.to(low), self.weight, self.bias)
        return found


def _output(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found = rows @ weight.to(rows.dtype).T
    return found if bias is None else found.add_(bias)  # on a CPU quicker than torch.addmm


class _InMemory(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight, bias)
        return _output(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *derivatives: Tensor) -> tuple[Tensor | None, None, None]:
        (by_output,) = derivatives
        rows, weight, bias = ctx.saved_tensors
        transposed_product(by_output, rows, gradient_memory(weight))
        if bias is not None:
            torch.sum(by_output, dim=0, dtype=bias.dtype, out=gradient_memory(bias))
        return by_output @ weight.to(by_output.dtype) if ctx.needs_input_grad[0] else None, None, None
