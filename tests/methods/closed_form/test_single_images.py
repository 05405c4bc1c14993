"""The closed form where classes have one or two images."""

import pytest
import torch

from dkgzsl.errors import DataError
from dkgzsl.methods.base import Setup, Task
from dkgzsl.methods.closed_form.method import ClosedForm

SETTING = {"components": 8, "shrinkage": 0.8, "kernel_width": 2.0, "feature_kernel_width": 0.0, "ridge": 0.01}
SETTING |= {"seen_blend": 0.5, "unit_length": False, "gate": False, "seen_expert": False, "described_power": 0.0}
SETTING |= {"balance": True, "episodes": "off", "description_root": False}


def task(images: int) -> Task:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(8).repeat_interleave(images)
    return Task(
        features=torch.randn(len(labels), 6, generator=random) + labels[:, None],
        labels=labels,
        semantics=torch.rand(10, 5, generator=random),
        seen=torch.arange(8),
        unseen=torch.arange(8, 10),
    )


def test_single_images_are_refused_in_words() -> None:
    with pytest.raises(DataError, match="single training image"):
        ClosedForm(setup=Setup(seed=0)).fit(task(1), SETTING)


def test_two_images_a_class_are_enough() -> None:
    model = ClosedForm(setup=Setup(seed=0)).fit(task(2), SETTING)
    assert torch.isfinite(model.scores(task(2).features)).all()
