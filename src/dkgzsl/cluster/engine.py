"""Ray behind `map_shares`: connecting, sending shares, doing lost ones again, and leaving no process.

Ray pickles between its own processes. What it sends comes from this command and goes to its workers; no file is
ever unpickled.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, NamedTuple
from uuid import uuid4

import torch

import dkgzsl
from dkgzsl.cluster.processes import LocalProcesses, descendants
from dkgzsl.device import fast_products
from dkgzsl.errors import ConfigError, RunError

_RETRIES: Final = 3
"""How often Ray itself does a share again whose worker was lost."""
_ROUNDS: Final = 2
"""How often we hand such a share to Ray before we give up."""
_UNDER_WAY: Final = 2
"""Shares under way for each core: one that is computed, and one that waits for it."""
_OBJECTS: Final = 100 * 2**20
"""Bytes for shares and results under way, a core of this machine; what does not fit goes to the disk."""
_PATIENCE: Final = 5.0
"""Seconds in which the cluster must take a connection."""
_TOKEN_FILE: Final = Path("~/.ray/auth_token")
"""Where `ray start` keeps the token that it has made."""
_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_ALLOW_REGEX": "",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else it prints the death of a worker among the results
}


def on_ray(
    function: Callable[[Any, Any], Any],
    common: Any,
    shares: Sequence[Any],
    *,
    on: str,
    gpu: bool,
    in_order: bool,
) -> Iterator[tuple[int, Any]]:
    """`map_shares` on a cluster; see there."""
    if not shares:
        return
    with connected(on) as ray:
        if gpu and not ray.cluster_resources().get("GPU"):
            raise ConfigError("the cluster has no GPU", where=on, fix="--device cpu, or add machines with GPUs")
        yield from _Mapping(ray, function, common, shares, gpu=gpu, in_order=in_order).results()


class _Mapping:
    """The shares of one call: which are under way, which are done, which were lost."""

    def __init__(
        self,
        ray: Any,
        function: Callable[[Any, Any], Any],
        common: Any,
        shares: Sequence[Any],
        *,
        gpu: bool,
        in_order: bool,
    ) -> None:
        self._ray, self._shares, self._in_order = ray, shares, in_order
        self._function = _Name(
            function.__module__, function.__qualname__, [str(Path(one or ".").resolve()) for one in sys.path]
        )
        needs = {"num_cpus": 1, "num_gpus": 1} if gpu else {"num_cpus": 1}
        self._remote = ray.remote(max_retries=_RETRIES, **needs)(_do)
        self._key, self._common = uuid4().hex, [ray.put(common)]
        self._under_way: dict[Any, int] = {}
        self._lost: dict[int, int] = {}
        self._waiting = 0  # the first share that was never sent
        self._given = 0  # in order: the first share whose result was not yielded

    def results(self) -> Iterator[tuple[int, Any]]:
        done: dict[int, Any] = {}
        left = len(self._shares)
        try:
            while left:
                self._send_more(held=len(done))
                ready, _ = self._ray.wait(list(self._under_way), num_returns=1, timeout=1.0)
                for reference in ready:
                    position = self._under_way.pop(reference)
                    if (result := self._result_of(reference, position)) is not None:
                        done[position] = result[0]
                for position in self._to_give(done):
                    yield position, done.pop(position)
                    left -= 1
        finally:
            for reference in self._under_way:
                with suppress(Exception):  # the cluster may be gone
                    self._ray.cancel(reference, force=True)

    def _send_more(self, *, held: int) -> None:
        most = _UNDER_WAY * max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        while self._waiting < len(self._shares) and len(self._under_way) + held < most:
            self._send(self._waiting)
            self._waiting += 1

    def _send(self, position: int) -> None:
        share = self._shares[position]
        reference = self._remote.remote(self._function, self._key, self._common, share, _versions())
        self._under_way[reference] = position

    def _result_of(self, reference: Any, position: int) -> tuple[Any] | None:
        """The result; None where the share was lost and has been sent again."""
        errors = self._ray.exceptions
        try:
            return (self._ray.get(reference),)
        except errors.RayTaskError as error:  # the function has failed, or could not be sent
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, Exception) else error) from None
        except errors.RaySystemError:  # what was sent cannot be read there
            raise
        except errors.RayError as error:
            self._lost[position] = self._lost.get(position, 0) + 1
            if self._lost[position] >= _ROUNDS:
                share, times = f"share {position + 1} of {len(self._shares)}", _ROUNDS * (_RETRIES + 1)
                raise RunError(
                    f"the worker of {share} was lost {times} times, at last by {type(error).__name__}",
                    fix="see whether its machine runs out of memory (ray logs, dmesg); the same command goes on",
                ) from error
            self._send(position)
            return None

    def _to_give(self, done: dict[int, Any]) -> Iterator[int]:
        if not self._in_order:
            yield from list(done)
            return
        while self._given in done:
            yield self._given
            self._given += 1


class _Name(NamedTuple):
    """A function by its name, and where its module is looked for after a worker's own folders."""

    module: str
    name: str
    path: list[str]

    def function(self) -> Callable[[Any, Any], Any]:
        sys.path.extend(one for one in self.path if one not in sys.path and Path(one).exists())
        found: Callable[[Any, Any], Any] = getattr(import_module(self.module), self.name)
        return found


_KEPT: dict[str, Any] = {}
"""In a worker: what the shares of the call have in common, by the call."""


@fast_products()
def _do(name: _Name, key: str, common: list[Any], share: Any, wanted: Any) -> Any:
    """In a worker: one share."""
    import ray

    if _versions() != wanted:
        differ = ", ".join(f"{k} {v} there and {wanted[k]} here" for k, v in _versions().items() if v != wanted[k])
        raise ConfigError(
            f"a worker has other versions: {differ}",
            where=platform.node(),
            fix="install the same versions on every machine of the cluster",
        )
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = deepcopy(ray.get(common[0]))  # what Ray keeps in shared memory cannot be written to
    torch.set_num_threads(1)  # one core a share
    return name.function()(_KEPT[key], deepcopy(share))


def _versions() -> dict[str, str]:
    """What decides the bytes of a result; Ray itself compares its own version and Python's."""
    return {"dkgzsl": dkgzsl.__version__, "torch": str(torch.__version__)}


@contextmanager
def connected(on: str) -> Iterator[Any]:
    """Ray, connected to the place; it is left again, and what was started here ends."""
    address = os.environ.get("RAY_ADDRESS", "") if on == "ray" else on.removeprefix("ray://")
    ray = _ray(own=not address)
    if ray.is_initialized():  # whoever calls from Python has connected
        yield ray
        return
    before = signal.getsignal(signal.SIGTERM)
    others = descendants([os.getpid()])
    started: LocalProcesses | None = None
    try:
        if address:
            _join(ray, address, on)
        else:
            _start(ray)
            started = LocalProcesses.since(others)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray puts its own in place
        yield ray
    finally:
        with suppress(Exception):
            ray.shutdown()
        if started is not None:
            started.end()


def _ray(*, own: bool) -> Any:
    """Ray, quiet. Of an own cluster only this command knows the token.

    Ray's ports are open to the network, and who may use them may run any code here: the token is for that. Ray
    reads it when it is imported.
    """
    settings = dict(_QUIET)
    if own:
        settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_hex(32)}
        settings |= {"RAY_worker_niceness": "0"}  # the priority of this command, not a lower one
    elif _TOKEN_FILE.expanduser().is_file() or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        settings |= {"RAY_AUTH_MODE": "token"}  # as `ray start` does; a driver does not by itself
    if "ray" not in sys.modules:
        for name, value in settings.items():
            os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "--on ray needs Ray, which is not installed", fix='pip install "dkgzsl[cluster]"'
        ) from error
    return ray


def _join(ray: Any, address: str, on: str) -> None:
    """Become a driver of the cluster at HOST:PORT."""
    _check_address(address, on)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        raise _unreachable(on, error) from error
    except (RuntimeError, ValueError, AssertionError) as error:  # other versions, or a machine outside the cluster
        raise ConfigError(
            f"cannot join the cluster: {str(error).splitlines()[0]}",
            where=on,
            fix="give the command on a machine that `ray start` has made part of the cluster, with the same Ray",
        ) from error


def _check_address(address: str, on: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, ValueError) as error:
        raise _unreachable(on, error) from error


def _unreachable(on: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"no cluster can be reached: {getattr(error, 'strerror', None) or str(error).splitlines()[0]}",
        where=on,
        fix="give the address that `ray start --head` prints (usually port 6379), with the token of the cluster "
        "(RAY_AUTH_TOKEN, or ~/.ray/auth_token of its machines); or --on ray for this machine",
    )


def _start(ray: Any) -> None:
    """A cluster of this machine without a dashboard, a worker a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ray.init(
        num_cpus=cores,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=max(2, cores) * _OBJECTS,
    )
