"""A cluster of two workers on this machine, one for all tests of a module."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from dkgzsl.cluster import engine


@pytest.fixture
def has_ray() -> None:
    if find_spec("ray") is None:  # not importorskip: Ray reads its settings when it is imported
        pytest.skip("the extra `cluster` is not installed")


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    """`--on ray` joins the cluster that this process has."""
    if find_spec("ray") is None:
        pytest.skip("the extra `cluster` is not installed")
    if hasattr(os, "sched_getaffinity"):
        cores = os.sched_getaffinity(0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "sched_getaffinity", lambda _: sorted(cores)[:1] * 2)
            patch.delenv("RAY_ADDRESS", raising=False)
            with engine.connected("ray"):
                yield
    else:
        with engine.connected("ray"):
            yield
