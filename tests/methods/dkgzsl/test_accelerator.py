"""The published training at its published sizes where there is no GPU: shapes, devices and dtypes without numbers.

On `meta` a whole pass runs, backward and Adam included. A fake CUDA device, which checks that no operation mixes
devices, runs the critic's step in bfloat16; it has no automatic differentiation.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dkgzsl.methods.dkgzsl import training
from dkgzsl.methods.dkgzsl.networks import Networks
from dkgzsl.methods.dkgzsl.settings import AdversarialSettings
from dkgzsl.methods.dkgzsl.training import AdversarialTraining
from dkgzsl.methods.shared.training import Batches

IMAGES, CLASSES, VISUAL, SEMANTIC, HIDDEN, BATCH, WIDTH = 256, 150, 768, 1024, 4096, 128, 90
"""CUB's published sizes, but for the number of images."""
SETTINGS: dict[str, Any] = {"hidden_size": HIDDEN, "batch_size": BATCH, "learning_rate": 1e-4, "gamma": 10.0}
SETTINGS |= {"fusion_learning_rate": 1e-4, "critic_steps": 2}
Adam = torch.optim.Adam


class Built(Networks):
    """Networks that stay on the device where they were built."""

    @classmethod
    def initialised(cls, *sizes: Any) -> "Built":
        return cls(*sizes[:3])

    def to(self, *_: Any) -> "Built":
        return self


def plain_adam(parameters: Any, *, fused: bool, capturable: bool, **others: Any) -> Adam:
    return Adam(parameters, foreach=False, **others)


def without_autocast(_: AdversarialTraining) -> AbstractContextManager[None]:
    """It has no `meta`, and none for CUDA where there is no GPU; the critic's own casts stay."""
    return nullcontext()


def batches(labels: Tensor, *, number: int, size: int, random: Any) -> Batches:
    """Shapes of real batches: how many classes one has would have to be read from the device."""

    def numbers(*shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.int64, device=labels.device)

    return Batches(numbers(number, size), numbers(number, size), numbers(number, WIDTH), numbers(number, size))


def made(device: str, precision: str) -> AdversarialTraining:
    with torch.device(device):
        data = (torch.ones(IMAGES, VISUAL), torch.zeros(IMAGES, dtype=torch.int64), torch.ones(CLASSES, SEMANTIC))
        return AdversarialTraining(*data, AdversarialSettings(**SETTINGS, precision=precision), seed=0)


@pytest.fixture(autouse=True)
def without_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Networks", Built)
    monkeypatch.setattr(training, "draw_batches", batches)
    monkeypatch.setattr(torch.optim, "Adam", plain_adam)
    monkeypatch.setattr(AdversarialTraining, "_precision", without_autocast)
    for name in ("rand", "randn"):  # a generator of the CPU does not draw for another device
        drawn = getattr(torch, name)

        def without_generator(*sizes: Any, generator: Any = None, drawn: Any = drawn, **others: Any) -> Tensor:
            return drawn(*sizes, **others)

        monkeypatch.setattr(torch, name, without_generator)


@pytest.mark.parametrize("guided", [False, True])
def test_a_pass_runs_on_meta(guided: bool) -> None:
    """Any tensor that a pass makes elsewhere stops it: torch does not multiply `meta` by `cpu`."""

    trained = made("meta", "float32")
    figures = trained._train_pass(torch.Generator(), guided=guided)
    assert figures.shape == (4,)
    state = {name: tensor for name, tensor in trained.state().items() if not name.endswith(".step")}
    assert {tensor.device.type for tensor in state.values()} == {"meta"}
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert state["networks.generator.visual.weight"].shape == (VISUAL, HIDDEN)
    moments = {name.split(".")[1] for name in state if name.startswith("optimizer.")}
    assert moments == {"knowledge", "critic", "generator"} | ({"fusion"} if guided else set())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("guided", [False, True])
def test_the_critics_step_stays_on_a_fake_cuda_device(guided: bool, precision: str) -> None:
    with FakeTensorMode():
        trained = made("cuda", precision)
        drawn = batches(trained.labels, number=2, size=BATCH, random=None)
        inputs = trained._drawn(drawn, 0, torch.Generator("cpu"))
        batch = training._Batch(trained, inputs, 0)
        knowledge, _ = trained._knowledge_step(batch, guided=guided)
        guidance = trained._guidance_of([batch], [knowledge] if knowledge is not None else [])
        (fake,) = trained._generated([batch], inputs.noise[0], guidance)
        figures = trained._critic_step(batch, fake, inputs.mix[0])
        low = torch.bfloat16 if precision == "bfloat16" else torch.float32
        assert batch.real.dtype == low, "products run in the precision of the setting"
        kept = [*figures, *trained.networks.critic.parameters()]
        kept += [value for key, value in trained.state().items() if key.endswith(("exp_avg", "exp_avg_sq"))]
    assert {tensor.device.type for tensor in kept} == {"cuda"}
    assert {tensor.dtype for tensor in kept} == {torch.float32}, "weights, moments and figures stay exact"
