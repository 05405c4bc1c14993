"""Shapes and types in signatures are checked while tests run, and only then."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch is imported: tests are many and small, and run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

import annotations
from tiers import NAMES, may_be_quick, place_in_order, share_of, tier_of

# Before any module of the package is imported: every annotated function is checked at each call.
annotations.install("dkgzsl")


@pytest.fixture(scope="session", autouse=True)
def _read_once() -> Iterator[None]:
    from read_once import read_once

    with read_once():
        yield


@pytest.fixture(scope="session")
def xlsa17() -> Path:
    """The folder with the field's real split files; tests that need it are skipped, visibly, where it is not."""
    folder = Path(os.environ.get("DKGZSL_XLSA17", Path(__file__).parents[2] / "shared" / "data" / "xlsa17"))
    if not folder.is_dir():
        pytest.skip(f"the real split files are not here ({folder}); DKGZSL_XLSA17 names their folder")
    return folder


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`pytest -m quick` imports files of the tier `quick` alone: importing all takes as long as the tests."""
    return True if config.option.markexpr == "quick" and not may_be_quick(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test has the marker of one tier (`pytest -m quick`), and names it in the file of `--junitxml`."""
    items.sort(key=lambda item: place_in_order(item.path))
    for item in items:
        tier = chosen_tier([name for name in NAMES if item.get_closest_marker(name)], item)
        item.add_marker(tier)
        item.user_properties.append(("tier", tier))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`pytest -n 2` gives all tests of a file to one worker, which makes the fixtures of the file once."""
    if config.option.dist != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share_of(nodeid)

    config.option.loadscopereorder = False  # the order is that of `tiers.FIRST`
    return ByFile(config, log)


def chosen_tier(own: list[str], item: pytest.Item) -> str:
    """The tier of a test that has its `own` markers, or none."""
    of_file = tier_of(item.path)
    if len(own) > 1 or any(NAMES.index(name) < NAMES.index(of_file) for name in own):
        why = f"one marker, of a tier slower than its file's ({of_file}); not {own}"
        raise pytest.UsageError(f"{item.nodeid}: {why}")
    return own[0] if own else of_file
