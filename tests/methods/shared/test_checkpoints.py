"""A training's state: what is taken back steps on as if nothing had happened, and another size is refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dkgzsl.errors import RunError
from dkgzsl.methods.base import Setup
from dkgzsl.methods.shared.training import Checkpoint, Stopwatch, clock_of, restore, state_of


def adam(size: int, **options: bool) -> tuple[nn.Linear, torch.optim.Optimizer]:
    network = nn.Linear(size, 2)
    nn.init.ones_(network.weight)
    return network, torch.optim.Adam(network.parameters(), lr=0.1, **options)


def step(network: nn.Linear, optimizer: torch.optim.Optimizer, number: int) -> Tensor:
    optimizer.zero_grad()
    network(torch.linspace(-1, number, 3)).square().sum().backward()
    optimizer.step()
    return network.weight.detach().clone()


@pytest.mark.parametrize("options", [{}, {"amsgrad": True}, {"fused": True}], ids=str)
def test_what_is_taken_back_steps_as_what_was_kept(tmp_path: Path, options: dict[str, bool]) -> None:
    network, optimizer = adam(3, **options)
    for number in range(5):
        step(network, optimizer, number)
    mean = torch.tensor([7.0])
    kept = Checkpoint(tmp_path, "explore", {"seed": 1})
    kept.write(state_of({"adam": optimizer}, {"mean": mean}), {"epoch": 5})
    expected = step(network, optimizer, 5)
    again, other = adam(3, **options)
    found = Checkpoint(tmp_path, "explore", {"seed": 1}).read()
    assert found is not None
    restored = torch.zeros(1)
    restore(found[0], {"adam": other}, {"mean": restored})
    assert found[1]["epoch"] == 5
    assert restored == mean
    assert torch.equal(step(again, other, 5), expected)


def test_a_state_of_another_size_is_refused() -> None:
    network, optimizer = adam(3)
    step(network, optimizer, 1)
    with pytest.raises(ValueError, match="another size"):
        restore(state_of({"adam": optimizer}, {}), {"adam": adam(4)[1]}, {})
    with pytest.raises(ValueError, match="another size"):
        restore(state_of({"adam": optimizer}, {}), {"adam": adam(3)[1]}, {"mean": torch.zeros(1)})


def test_a_checkpoint_of_another_key_is_refused_and_without_a_folder_there_is_none(tmp_path: Path) -> None:
    Checkpoint(tmp_path, "fit", {"seed": 1}).write({}, {"epoch": 0})
    with pytest.raises(RunError, match="other settings or other data"):
        Checkpoint(tmp_path, "fit", {"seed": 2}).read()
    nowhere = Checkpoint(None, "fit", {})
    nowhere.write({}, {})
    assert nowhere.read() is None
    assert not nowhere.is_due


def test_processor_time_is_counted_on_the_cpu_alone() -> None:
    import time

    assert clock_of(Setup(clock="processor")) is time.process_time
    assert clock_of(Setup(clock="processor", device="cuda")) is time.monotonic
    assert clock_of(Setup()) is time.monotonic
    ticks = iter([5.0, 8.0])
    assert Stopwatch(lambda: next(ticks), before=2.0).seconds == 5.0
