"""A linear layer that trains in one precision and is read in another, its cast weights kept between readings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dkgzsl.model.kept_weights import KeptResult, records_a_graph
from dkgzsl.model.precision import multiplies_in_bfloat16


class LowLinear(nn.Linear):
    """x W^T + b; where no gradient is wanted, of numbers rounded to `reads_in`, the result in float32.

    One image's product costs less than casting the weights for it, so that they are cast once. Where a device
    would emulate such products, and in a recorded graph, the same numbers are rounded and multiplied in float32.

    Args:
        inputs: numbers a row.
        outputs: numbers a row.
        reads_in: precision of reading; float32 makes this an ordinary linear layer.
    """

    def __init__(self, inputs: int, outputs: int, *, reads_in: torch.dtype) -> None:
        super().__init__(inputs, outputs)
        self.reads_in = reads_in
        self._kept: KeptResult[list[Tensor]] = KeptResult()

    def forward(self, values: Tensor) -> Tensor:
        """Rows of any shape in front."""
        recording = records_a_graph()
        if self.reads_in == torch.float32 or (torch.is_grad_enabled() and not recording):
            return super().forward(values)
        rounded = values.to(self.reads_in)
        if recording:
            return self._emulated(rounded, self._cast(torch.float32))
        if not multiplies_in_bfloat16(values.device):
            return self._emulated(rounded, self._cast_once(torch.float32))
        weight, bias = self._cast_once(self.reads_in)
        return nn.functional.linear(rounded, weight, bias).float()

    def _emulated(self, rounded: Tensor, weights: list[Tensor]) -> Tensor:
        weight, bias = weights
        return nn.functional.linear(rounded.float(), weight, bias).to(self.reads_in).float()

    def _cast_once(self, dtype: torch.dtype) -> list[Tensor]:
        return self._kept.of((self.weight, self.bias), dtype, lambda: self._cast(dtype))

    def _cast(self, dtype: torch.dtype) -> list[Tensor]:
        """The rounded weights, held in `dtype`."""
        return [weight.detach().to(self.reads_in).to(dtype) for weight in (self.weight, self.bias)]
