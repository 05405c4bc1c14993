"""The fixture `golden`: each reference file in turn."""

from pathlib import Path

import pytest
from reference import Golden, golden_files, golden_folder, read


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden" in metafunc.fixturenames:
        files: list[Path | None] = [*golden_files()] or [None]
        metafunc.parametrize("golden", files, indirect=True, ids=lambda path: path.stem if path else "none")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """One file of reference vectors; a test that takes it runs once a file."""
    if request.param is not None:
        return read(request.param)
    folder, named = golden_folder()
    if named or folder.is_dir():
        pytest.fail(f"no reference vectors (*.safetensors) in {folder}")
    pytest.skip(f"no reference vectors here ({folder}); DKGZSL_GOLDEN names their folder")
