"""A function over shares of work: one after the other in this process, or by the workers of a Ray cluster.

The verbs call `map_shares` and know nothing of Ray. A function that is mapped is pure: its result depends on what
the shares have in common and on the share, it changes neither, and it writes no file. So a share whose worker was
lost is done again, and it does not matter which worker does which share.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from dkgzsl.errors import ConfigError

Share = TypeVar("Share")
Result = TypeVar("Result")

PLACES = "ray (the cores of this machine, or the cluster at RAY_ADDRESS), or ray://HOST:PORT (usually port 6379)"


def check_place(on: str | None) -> None:
    """That `--on` names a place.

    Args:
        on: None is this process.

    Raises:
        ConfigError: it does not.
    """
    if on is None or on == "ray":
        return
    host, _, port = on.removeprefix("ray://").rpartition(":")
    if not on.startswith("ray://") or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(f"--on {on!r} cannot be a place to work", fix=PLACES)


def map_shares(
    function: Callable[[Any, Share], Result],
    common: Any,
    shares: Sequence[Share],
    *,
    on: str | None = None,
    gpu: bool = False,
    in_order: bool = True,
) -> Generator[tuple[int, Result], None, None]:
    """`function(common, share)` of each share, with its position, as they are done.

    On a cluster each share takes one processor core, or one GPU. Only a few shares are under way for each core,
    so that neither their results nor the shares fill the memory. The iterator ends when every share has been
    done once; closing it ends what is under way.

    Args:
        function: a function of a module that the workers can import. It is pure; see above.
        common: what all shares need, such as a model: sent to each worker once.
        shares: what to do, small: sent with each call.
        on: None: this process; `ray`, or `ray://HOST:PORT`.
        gpu: whether a share needs a GPU.
        in_order: whether results come in the order of the shares. In this process they always do.

    Yields:
        (position in `shares`, result).

    Raises:
        ConfigError: `on` names no place, Ray is missing, the cluster cannot be reached, has other versions than
            this machine, or lacks a GPU.
        RunError: a share's worker was lost each time.
        Exception: what the function raises, as in this process.
    """
    check_place(on)
    if on is None:
        for position, share in enumerate(shares):
            yield position, function(common, share)
        return
    from dkgzsl.cluster.engine import on_ray

    yield from on_ray(function, common, shares, on=on, gpu=gpu, in_order=in_order)


@contextmanager
def kept_workers(on: str | None) -> Iterator[None]:
    """Workers that stay between the calls of `map_shares` within: a cluster takes seconds to start.

    Args:
        on: as for `map_shares`.

    Raises:
        ConfigError: as `map_shares`.
    """
    check_place(on)
    if on is None:
        yield
        return
    from dkgzsl.cluster.engine import connected

    with connected(on):
        yield
