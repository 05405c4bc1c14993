"""A small task in double precision, so that two ways to compute the same agree closely."""

import pytest
import torch

from dkgzsl.methods.base import Task


@pytest.fixture(scope="session")
def task() -> Task:
    """Eight described classes, five of them seen; class 3 is no part of the task."""
    random = torch.Generator().manual_seed(0)
    semantics = torch.randn(9, 6, generator=random, dtype=torch.float64)
    means = semantics @ torch.randn(6, 12, generator=random, dtype=torch.float64)
    seen = torch.tensor([0, 2, 4, 5, 8])
    labels = seen[torch.arange(60) % 5]
    features = means[labels] + 0.3 * torch.randn(60, 12, generator=random, dtype=torch.float64)
    return Task(features, labels, semantics, seen, torch.tensor([1, 6, 7]), tuple("abcdefghi"))
