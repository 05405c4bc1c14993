"""Runs for the tests of the report: trained once, then only read."""

from pathlib import Path

import pytest

from dkgzsl.cli.main import main
from worlds import ONE_WAY, world_folder

FEW = ["--closed-form.components", "20", "--closed-form.shrinkage", "0.5", "--closed-form.ridge", "0.01", "0.1"]
FEW += ["--closed-form.kernel-width", "0", "2", "--closed-form.episodes", "off"]
FEW += ONE_WAY
PUBLISHED = [
    "--epochs",
    "4",
    "--batch-size",
    "32",
    "--dkgzsl.hidden-size",
    "16",
    "--dkgzsl.softmax.per-class",
    "10",
]
PUBLISHED += ["--dkgzsl.evaluate-every", "2", "--dkgzsl.softmax.epochs", "2"]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(world_folder(tmp_path_factory.mktemp("data") / "world"))


def _train(folder: Path, *words: str) -> Path:
    assert main(["train", *words, "--json", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def default_run(data, tmp_path_factory) -> Path:
    return _train(tmp_path_factory.mktemp("runs") / "default", data, *FEW)


@pytest.fixture(scope="session")
def seeds_run(data, tmp_path_factory) -> Path:
    return _train(tmp_path_factory.mktemp("runs") / "seeds", data, *FEW, "--seeds", "3", "--baseline", "none")


@pytest.fixture(scope="session")
def oracle_run(data, tmp_path_factory) -> Path:
    return _train(tmp_path_factory.mktemp("runs") / "oracle", data, *PUBLISHED, "--protocol", "oracle")


@pytest.fixture(scope="session")
def published_run(data, tmp_path_factory) -> Path:
    """The published method under the protocol that scores the test images once."""
    return _train(tmp_path_factory.mktemp("runs") / "published", data, *PUBLISHED)
