"""Repeated iterations where there is no GPU: what a graph would replay is called instead.

What only CUDA can show, that the work can be captured, the training checks itself: see `dkgzsl.repeated`.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from toys import Toy

from dkgzsl import repeated
from dkgzsl.methods.dkgzsl import training
from dkgzsl.methods.dkgzsl.settings import AdversarialSettings
from dkgzsl.methods.dkgzsl.training import AdversarialTraining

SETTINGS = AdversarialSettings(
    hidden_size=16, batch_size=8, learning_rate=1e-3, fusion_learning_rate=5e-4, gamma=10.0
)
Run = Callable[[], Tensor]


def trained(toy: Toy) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    made = AdversarialTraining(toy.features.double(), toy.labels, toy.semantics.double(), SETTINGS, seed=3)
    figures = [dict(made.train_epoch()) for _ in range(2)]
    return made.state(), figures


@pytest.fixture
def plain(toy: Toy) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    return trained(toy)


@pytest.fixture
def with_graphs(plain: object, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A CPU that is taken for a device with graphs; its optimizers are not captured."""
    adam = torch.optim.Adam
    monkeypatch.setattr(training, "has_graphs", lambda _: True)
    monkeypatch.setattr(torch.optim, "Adam", lambda *args, capturable, **others: adam(*args, **others))
    return monkeypatch


def test_replayed_iterations_change_nothing(toy: Toy, plain, with_graphs) -> None:
    replays = []

    def counted(run: Run) -> Run:
        number = len(replays)
        replays.append(0)

        def replay() -> Tensor:
            replays[number] += 1
            return run()

        return replay

    with_graphs.setattr(repeated, "captured", counted)
    state, figures = trained(toy)
    # 5 iterations a pass: in the first epoch one as it is, one that is compared, three replayed
    assert replays == [4 + 5, 4 + 5], "unguided and guided"
    assert figures == [pytest.approx(one, abs=1e-9) for one in plain[1]]
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, plain[0][name], atol=1e-9, rtol=0)


def test_a_graph_that_does_something_else_is_given_up(toy: Toy, plain, with_graphs) -> None:
    def nothing(run: Run) -> Run:
        return lambda: torch.zeros(4, dtype=torch.float64)

    with_graphs.setattr(repeated, "captured", nothing)
    with pytest.warns(RuntimeWarning, match="without a CUDA graph: its figures differ"):
        state, figures = trained(toy)
    assert figures == [pytest.approx(one, abs=1e-9) for one in plain[1]]
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, plain[0][name], atol=1e-9, rtol=0)


def test_a_step_that_is_not_captured_is_noticed(toy: Toy, plain, with_graphs) -> None:
    """The figures are right, but the weights stay as they were."""

    def without_steps(run: Run) -> Run:
        def replay() -> Tensor:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(AdversarialTraining, "_step", lambda *_: None)
                return run()

        return replay

    with_graphs.setattr(repeated, "captured", without_steps)
    with pytest.warns(RuntimeWarning, match="without a CUDA graph"):
        state, _ = trained(toy)
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, plain[0][name], atol=1e-9, rtol=0)


def test_a_device_that_cannot_capture_trains_all_the_same(toy: Toy, plain, with_graphs) -> None:
    def refused(run: Run) -> Run:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    with_graphs.setattr(repeated, "captured", refused)
    with pytest.warns(RuntimeWarning, match="not permitted when stream is capturing$"):
        state, _ = trained(toy)
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, plain[0][name], atol=1e-9, rtol=0)
