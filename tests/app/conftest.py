"""One small run of `numbers` for all tests of the page; each module has a copy to save versions into."""

import shutil
from pathlib import Path

import pytest

from app.runs import quick_run


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    return quick_run(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory) -> Path:
    return Path(shutil.copytree(trained, tmp_path_factory.mktemp("numbers") / "run"))
