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


TIERS = {
    "long": (
        "docs/test_blocks.py",
        "docs/test_notebooks.py",
        "cluster/test_train_on_cluster.py",
        "cluster/test_tune_on_cluster.py",
    ),
    "quick": (
        "evaluation/",
        "data/test_arrays.py",
        "data/test_samples.py",
        "data/test_splits.py",
        "data/test_tables.py",
        "docs/test_comparison.py",
        "docs/test_links.py",
        "docs/test_results_tables.py",
        "formats/",
        "representation/",
        "test_cache.py",
        "test_device.py",
        "test_display.py",
        "test_files.py",
        "test_latex.py",
        "test_shape.py",
    ),
}
"""Files and folders of the tiers `long` and `quick`; all other tests are `standard`."""


def tier_of(path: Path) -> str:
    """The tier of a test file."""
    place = path.relative_to(Path(__file__).parent).as_posix()
    return next((name for name, places in TIERS.items() if place.startswith(places)), "standard")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test gets the marker of its tier: `pytest -m quick`."""
    for item in items:
        item.add_marker(tier_of(item.path))
