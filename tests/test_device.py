"""Models on other devices, where there is no GPU: a fake CUDA device checks that no operation mixes devices."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from dkgzsl import device
from dkgzsl.cli.main import main
from dkgzsl.device import fast_products, moved, sent
from dkgzsl.evaluation.held_out import POOLED, HeldOut, decided_on
from dkgzsl.runs import evaluation
from worlds import world_folder

META = torch.device("meta")


class Pair(NamedTuple):
    first: Tensor
    second: tuple[Tensor, ...]


@dataclass(frozen=True)
class Holder:
    pair: Pair
    named: dict[str, Tensor]
    layer: torch.nn.Linear
    text: str = "unchanged"

    def __call__(self, values: Tensor) -> Tensor:
        return values


def holder() -> Holder:
    shared = torch.ones(2)
    return Holder(Pair(shared, (torch.ones(3),)), {"again": shared}, torch.nn.Linear(2, 1))


def test_every_tensor_is_moved_and_the_original_stays() -> None:
    before = holder()
    after = moved(before, META)
    assert isinstance(after.pair, Pair)
    tensors = [after.pair.first, *after.pair.second, *after.named.values(), after.layer.weight]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert after.named["again"] is after.pair.first, "what was shared is shared"
    assert after.text == "unchanged"
    assert before.pair.first.device.type == "cpu"


def test_on_the_cpu_nothing_is_copied() -> None:
    before = holder()
    assert moved(before, torch.device("cpu")) is before


def test_images_and_model_meet_on_the_device() -> None:
    held_out = HeldOut(torch.ones(3, 2), np.array([0, 1, 1]), np.array([False, True]), POOLED)
    places: list[str] = []

    @dataclass(frozen=True)
    class Model:
        seen: Tensor
        unseen: Tensor
        semantics: Tensor

        def save(self) -> None: ...
        def load(self) -> None: ...
        def scores(self, features: Tensor) -> Tensor:
            places.extend([features.device.type, self.semantics.device.type])
            return torch.tensor([[1.0, 0.0]]).repeat(len(features), 1)

        conventional_scores = scores

    model: Any = Model(torch.tensor([0]), torch.tensor([1]), torch.ones(2, 3))
    decided_on(META, held_out, model)
    assert places == ["meta"] * 4


@pytest.mark.standard
def test_evaluate_computes_on_the_device_that_it_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    words = [str(world_folder(tmp_path / "world")), "--method", "eszsl", "--report", "off", "--baseline", "none"]
    assert main(["train", *words, "--out", str(run)]) == 0
    devices = []

    def on_cpu(device: torch.device, held_out: HeldOut, model: Any) -> Any:
        devices.append(device.type)
        return decided_on(torch.device("cpu"), held_out, model)

    monkeypatch.setattr(evaluation, "decided_on", on_cpu)
    monkeypatch.setattr("dkgzsl.runs.plan.device_of", lambda name: torch.device(name or "cpu"))
    for name in ("cpu", "meta"):
        assert main(["evaluate", str(run), "--device", name]) == 0
    assert devices == ["cpu", "meta"]
    assert capsys.readouterr().out


def product_setting() -> str:
    if device._product_settings() is None:
        pytest.skip("this torch has no setting of oneDNN's products")
    return str(torch.backends.mkldnn.matmul.fp32_precision)


def test_products_are_as_exact_within_as_outside() -> None:
    """On a processor that would round them to bfloat16, the error would be .002."""
    draw = torch.Generator().manual_seed(1)
    for rows, terms, columns in ((33, 700, 129), (256, 64, 512), (1, 2048, 300)):
        left, right = torch.randn(rows, terms, generator=draw), torch.randn(columns, terms, generator=draw)
        exact = left.double() @ right.double().T
        with fast_products():
            found = left @ right.T
        assert float((found - exact).norm() / exact.norm()) < 1e-5


def test_the_setting_of_torch_comes_back(monkeypatch) -> None:
    before = product_setting()
    monkeypatch.setattr(device, "_exact_by_onednn", lambda: True)
    with suppress(ZeroDivisionError), fast_products():
        with fast_products():
            assert product_setting() == "bf16"
        assert product_setting() == "bf16", "the outer one is not over"
        raise ZeroDivisionError
    assert product_setting() == before


def test_where_onednn_rounds_nothing_changes(monkeypatch) -> None:
    before = product_setting()
    monkeypatch.setattr(device, "_exact_by_onednn", lambda: False)
    with fast_products():
        assert product_setting() == before


def test_the_trial_notices_rounding(monkeypatch) -> None:
    product_setting()
    multiply = Tensor.__matmul__

    def rounded(left: Tensor, right: Tensor) -> Tensor:
        if left.dtype == torch.float32:
            return multiply(left.bfloat16(), right.bfloat16()).float()
        return multiply(left, right)

    monkeypatch.setattr(Tensor, "__matmul__", rounded)
    assert not device._exact_by_onednn.__wrapped__()


def test_what_goes_to_cuda_is_pinned_and_not_waited_for(monkeypatch) -> None:
    """Without a GPU neither works: what is called is recorded."""
    calls: list[Any] = []

    def pinned(tensor: Tensor) -> Tensor:
        calls.append("pinned")
        return tensor

    def to(tensor: Tensor, device: Any, **options: Any) -> Tensor:
        calls.append((str(device), options))
        return tensor

    tensor = torch.ones(2)
    monkeypatch.setattr(Tensor, "pin_memory", pinned)
    monkeypatch.setattr(Tensor, "to", to)
    assert sent(tensor, torch.device("cuda")) is tensor
    assert calls == ["pinned", ("cuda", {"non_blocking": True})]
    calls.clear()
    assert sent(tensor, torch.device("cpu")) is tensor
    assert calls == [("cpu", {})]
