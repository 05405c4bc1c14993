"""A cluster of two workers on this machine, one for all tests of this folder (tiers.TOGETHER)."""

import os
from contextlib import ExitStack
from importlib.util import find_spec

import pytest

from dkgzsl.cluster import engine

CLUSTER = ExitStack()
STARTED: list[str] = []
"""Whether `CLUSTER` has a cluster to end."""


@pytest.fixture
def has_ray() -> None:
    if find_spec("ray") is None:  # not importorskip: Ray reads its settings when it is imported
        pytest.skip("the extra `cluster` is not installed")


@pytest.fixture
def two_workers(has_ray: None) -> None:
    """`--on ray` joins the cluster that this process has."""
    if STARTED:
        return
    if hasattr(os, "sched_getaffinity"):
        cores = os.sched_getaffinity(0)
        patch = CLUSTER.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(os, "sched_getaffinity", lambda _: sorted(cores)[:1] * 2)
        patch.delenv("RAY_ADDRESS", raising=False)
    CLUSTER.enter_context(engine.connected("ray"))
    STARTED.append("ray")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The cluster ends with the last test of this folder."""
    if nextitem is None or nextitem.path.parent != item.path.parent:
        CLUSTER.close()
        STARTED.clear()
