"""Several processes that train one model together, as `torchrun` starts them.

Process 0 leads: it alone reads the settings, evaluates, prints and writes files. It begins each piece of training
with a message, and the other processes follow: they draw the same random numbers for the whole batch, take their
own slice of it, and add up their gradients. So the result is that of one process with the same batch.

Why not `torch.nn.parallel.DistributedDataParallel`: it starts its exchange from hooks of automatic
differentiation. The critic's gradients are written out in closed form, penalty included, and never pass through
such a hook; and it takes the mean over processes, which is wrong where slices differ in size. One sum of one flat
tensor a step is all that is needed.

Nothing is pickled: a message is JSON and safetensors.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

from dkgzsl.errors import ConfigError, RunError
from dkgzsl.launch import launched
from dkgzsl.writing import how_to_go_on

STEP_TIMEOUT: Final = timedelta(minutes=10)
"""How long a step waits for a process that is still there but silent. One that ends is noticed at once on gloo."""
MESSAGE_TIMEOUT: Final = timedelta(days=7)
"""How long a process waits for the next message: process 0 evaluates meanwhile, for as long as it takes."""
_PIECE: Final = 1 << 28
"""Bytes of a message that are sent at a time."""
_SPOKEN: Final = "dkgzsl/spoken"

Handler = Callable[[Mapping[str, Any], Mapping[str, Tensor]], None]
"""Carries out a message: its JSON values and its tensors, which are on the CPU."""


class ProcessLostError(RunError):
    """Another process of a training has ended, or has not responded in time."""


@dataclass(frozen=True)
class Processes:
    """The processes of one training.

    Attributes:
        rank: number of this process, from 0 on.
        size: number of processes, 1 or more.
        messages: torch's group for messages; None where there is one process.
        store: torch's store, shared by all processes; None likewise.
    """

    rank: int = 0
    size: int = 1
    messages: Any = None
    store: Any = None

    @property
    def leads(self) -> bool:
        """Whether this is process 0, which may be the only one."""
        return self.rank == 0

    def own(self, number: int) -> slice:
        """This process's slice of a batch of `number` images; slices differ by one image at most.

        Raises:
            ConfigError: there are fewer images than processes.
        """
        if number < self.size:
            raise ConfigError(
                f"{self.size} processes cannot share a batch of {number} images",
                fix=f"start at most {number} processes, or raise the batch size",
            )
        return slice(self.rank * number // self.size, (self.rank + 1) * number // self.size)

    def summed(
        self, parameters: Iterable[Tensor], figures: Sequence[Float[Tensor, ""]], *, of: int
    ) -> list[Float[Tensor, ""]]:
        """Means over a batch from the means over slices, of gradients (in place) and of figures.

        Args:
            parameters: each gradient is the mean over this process's own slice; where one has no gradient here,
                it has none in any process.
            figures: means over the own slice.
            of: images of the whole batch.

        Returns:
            The figures over the whole batch: the same bits in every process.

        Raises:
            ProcessLostError: another process has ended.
        """
        if self.size == 1:
            return list(figures)
        own = self.own(of)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        parts = [*gradients, *(figure.detach() for figure in figures)]
        flat = torch.cat([part.reshape(-1) for part in parts]).mul_((own.stop - own.start) / of)
        with _noticing_losses():
            torch.distributed.all_reduce(flat)
        pieces = torch.split(flat, [part.numel() for part in parts])
        for gradient, piece in zip(gradients, pieces, strict=False):
            gradient.copy_(piece.view_as(gradient))
        return [piece.view(()) for piece in pieces[len(gradients) :]]

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Give process 0's tensors to every process, in place: machines that round differently stay together."""
        if self.size > 1:
            with _noticing_losses():
                for tensor in tensors:
                    torch.distributed.broadcast(tensor.detach(), src=0)

    def send(self, name: str, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Begin a piece of work in the other processes, which wait in `serve`; process 0 alone may.

        Args:
            name: of the handler.
            values: JSON values.
            tensors: any device; they arrive on the CPU.
        """
        from safetensors.torch import save

        on_cpu = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        head = json.dumps({"name": name, "values": dict(values), "go_on": how_to_go_on()[:1]}).encode()
        body = save(on_cpu)
        buffer = torch.frombuffer(bytearray(head + body), dtype=torch.uint8)
        self._broadcast(torch.tensor([len(head), len(buffer)]))
        self._broadcast(buffer)

    def serve(self, handlers: Mapping[str, Handler]) -> None:
        """Carry out the messages of process 0 until it says that all is done.

        Args:
            handlers: by the names that `send` uses.

        Raises:
            ProcessLostError: another process has ended.
        """
        from safetensors.torch import load

        go_on: list[str] = []
        try:
            while True:
                sizes = torch.zeros(2, dtype=torch.int64)
                self._broadcast(sizes)
                head, whole = sizes.tolist()
                buffer = torch.empty(whole, dtype=torch.uint8)
                self._broadcast(buffer)
                received = buffer.numpy().tobytes()
                message = json.loads(received[:head])
                go_on = message["go_on"]
                if message["name"] == _END:
                    return
                handlers[message["name"]](message["values"], load(received[head:]))
        except ProcessLostError as error:
            raise ProcessLostError(error.what, fix=_next(go_on)) from error

    def wait(self) -> None:
        """Until every process is here, however long one of them reads its data."""
        if self.size > 1:
            with _noticing_losses():
                torch.distributed.barrier(group=self.messages)

    def speaks(self) -> bool:
        """Whether this process is the first to say why the training ends; the others are silent then."""
        if self.store is None:
            return True
        try:
            return int(self.store.add(_SPOKEN, 1)) == 1
        except RuntimeError:  # the store has gone, too
            return True

    def _broadcast(self, tensor: Tensor) -> None:
        with _noticing_losses():
            for piece in torch.split(tensor, _PIECE):
                torch.distributed.broadcast(piece, src=0, group=self.messages)


_END: Final = "end"
ALONE: Final = Processes()
_CURRENT: list[Processes] = []


def current() -> Processes:
    """The processes that train together inside a `joined` block; elsewhere this one alone."""
    return _CURRENT[-1] if _CURRENT else ALONE


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that `torchrun` has started; without it this process alone.

    Messages go by gloo on the CPU; the sums of a step go by gloo for tensors on the CPU, by nccl on CUDA.
    When the block of process 0 ends well, the others' `serve` returns; when it raises, they end.

    Raises:
        ConfigError: this machine has fewer GPUs than processes, or a torch without `torch.distributed`.
        RunError: the processes do not reach one another.
        ProcessLostError: another process has ended before the work was done.
    """
    if not launched():
        yield ALONE
        return
    processes = _begin()
    _CURRENT.append(processes)
    try:
        yield processes
        if processes.leads:
            processes.send(_END, {}, {})
    except BaseException as error:
        if isinstance(error, ProcessLostError):
            _finish_speaking()
        if processes.leads:
            processes.speaks()  # by its own message: the others need not
        raise
    finally:
        _CURRENT.remove(processes)
        if sys.exc_info()[0] is None or not torch.cuda.is_available():  # nccl would wait for a lost process
            torch.distributed.destroy_process_group()


def _begin() -> Processes:
    """Join torch's default group, and make the group for messages."""
    if not torch.distributed.is_available():
        raise ConfigError("this torch has no torch.distributed", fix="start dkgzsl train without torchrun")
    local, cuda = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.is_available()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if cuda and here <= torch.cuda.device_count():
        torch.cuda.set_device(local)
    nccl = cuda and torch.distributed.is_nccl_available()
    try:
        found = rendezvous("env://", timeout=STEP_TIMEOUT)
        store, rank, size = next(iter(found))
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if nccl else "gloo",
            store=PrefixStore("dkgzsl/group", store),
            rank=rank,
            world_size=size,
            timeout=STEP_TIMEOUT,
        )
        messages = torch.distributed.new_group(backend="gloo", timeout=MESSAGE_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"the processes do not reach one another: {_first_line(error)}",
            fix="name the network interface in GLOO_SOCKET_IFNAME (on one machine: lo), or leave torchrun out",
        ) from error
    return Processes(rank, size, messages, store)


def device_here(device: torch.device) -> torch.device:
    """This process's own device of the kind that process 0 computes on.

    Raises:
        ConfigError: processes cannot share the work on such devices, or this machine has too few of them.
    """
    local, here = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cpu":
        return device
    if device.type != "cuda" or device.index not in (None, 0):
        raise ConfigError(
            f"several processes cannot compute on {device}", fix="--device cuda is each process's own GPU, or cpu"
        )
    if here > torch.cuda.device_count():
        raise ConfigError(
            f"{here} processes, and this machine has {torch.cuda.device_count()} GPUs",
            fix=f"torchrun --nproc-per-node {torch.cuda.device_count()}, or --device cpu",
        )
    return torch.device("cuda", local)


@contextmanager
def _noticing_losses() -> Iterator[None]:
    """Turn torch's error into one that says what has happened."""
    try:
        yield
    except RuntimeError as error:
        late = "timed out" in str(error).lower() or "timeout" in str(error).lower()
        how = "has not responded in time" if late else "has ended"
        what = f"another process of this training {how} ({_first_line(error)})"
        raise ProcessLostError(what, fix=_next(how_to_go_on()[:1])) from error


def _finish_speaking() -> None:
    """Ignore torchrun's SIGTERM, which follows a lost process within a second, until the message is out."""
    if threading.current_thread() is threading.main_thread():
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _next(go_on: Sequence[str]) -> str:
    how = go_on[0] if go_on else "give the same command again"
    return f"any number of processes can go on from the last checkpoint; {how}"


def _first_line(error: BaseException) -> str:
    """Without the place in torch's own source, and without its advice."""
    text = re.sub(r"^\[\S*\] ", "", str(error)).splitlines()
    return text[0].partition(". ")[0][:200] if text else type(error).__name__
