"""The folder of reference vectors: read where it is, skipped visibly or failed where it is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reference import Golden


def test_golden_file_holds_inputs_of_one_batch(golden: Golden) -> None:
    assert len(golden["labels"]) == len(golden["noise"]) == len(golden["real"])


@pytest.mark.parametrize("folder", ["absent", "."])
def test_named_golden_folder_without_vectors_fails(tmp_path: Path, folder: str) -> None:
    this = f"{__file__}::{test_golden_file_holds_inputs_of_one_batch.__name__}"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", this],
        env={**os.environ, "DKGZSL_GOLDEN": str(tmp_path / folder)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1, result.stdout
    assert "no reference vectors" in result.stdout
