"""A tiny training set: five described classes of clustered features in [0, 1]."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Toy(NamedTuple):
    features: Tensor
    labels: Tensor
    semantics: Tensor


def toy_set() -> Toy:
    random = torch.Generator().manual_seed(0)
    semantics = functional.normalize(torch.randn(5, 6, generator=random), dim=1)
    means = torch.sigmoid(semantics @ torch.randn(6, 12, generator=random))
    labels = torch.arange(40) % 5
    noise = 0.05 * torch.randn(40, 12, generator=random)
    return Toy((means[labels] + noise).clamp(0, 1), labels, semantics)
