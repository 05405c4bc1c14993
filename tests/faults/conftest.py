"""What the tests of faults share: the verbs that write, their runs, and what each leaves undisturbed."""

from collections.abc import Callable
from pathlib import Path

import pytest

import faults_forks as forks
import faults_kills as kills
from dkgzsl.data.load import load_dataset


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def verbs(shared: Path) -> dict[str, forks.Verb]:
    found = {verb.name: verb for verb in kills.verbs(shared)}
    load_dataset(shared / "world")  # forked processes know what this one has read (read_once.py)
    return found


@pytest.fixture(scope="session")
def undisturbed(
    verbs: dict[str, forks.Verb], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[forks.Result, int]]:
    """What a verb leaves, and in how many steps; each is carried out once."""
    known: dict[str, tuple[forks.Result, int]] = {}

    def find(name: str) -> tuple[forks.Result, int]:
        if name not in known:
            truth, steps, _ = forks.undisturbed(verbs[name], tmp_path_factory.mktemp("undisturbed") / "case")
            assert truth, "nothing would be compared"
            known[name] = truth, steps
        return known[name]

    return find
