"""Shapes and types in signatures are checked while tests run, and only then."""

import os
from pathlib import Path

# Before torch is imported: tests are many and small, and run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from jaxtyping import install_import_hook

# Before any module of the package is imported: every annotated function is checked at each call.
install_import_hook("dkgzsl", "beartype.beartype")


@pytest.fixture(scope="session")
def xlsa17() -> Path:
    """The folder with the field's real split files; tests that need it are skipped, visibly, where it is not."""
    folder = Path(os.environ.get("DKGZSL_XLSA17", Path(__file__).parents[2] / "shared" / "data" / "xlsa17"))
    if not folder.is_dir():
        pytest.skip(f"the real split files are not here ({folder}); DKGZSL_XLSA17 names their folder")
    return folder
