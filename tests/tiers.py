"""The tier of each test: `quick`, `standard` or `long`.

The file or the folder of a test decides; what `TIERS` does not name is `standard`. A marker on a test moves it to
a slower tier (`@pytest.mark.long`), never to a faster one: `pytest -m quick` does not import files of other tiers.
`python tools/tiers.py` compares the tiers with measured seconds.
"""

from pathlib import Path

NAMES = ("quick", "standard", "long")
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
        "test_reading.py",
        "test_shape.py",
        "test_tiers.py",
    ),
}
"""Files and folders of the tiers `long` and `quick`."""
FIRST = (
    "faults/test_verbs.py",
    "benchmark/test_tune.py",
    "estimator/test_estimator.py",
    "test_matrix.py",
    "methods/test_contract.py",
    "cli/test_train.py",
    "docs/test_site.py",
    "benchmark/test_grid.py",
    "test_extend.py",
    "inference/test_own_photos.py",
    "inference/test_export.py",
    "inference/test_push_pull.py",
    "cluster/test_extract.py",
    "distributed/test_torchrun.py",
    "distributed/test_processes.py",
    "faults/test_writers.py",
    "app/test_server.py",
)
"""Files that take longest, in the order in which they begin: the last one to end shall be a short one."""
TOGETHER = ("tests/report/", "tests/cluster/")
"""Folders whose files have fixtures in common: their tests go to one worker."""


def place_of(path: Path) -> str:
    """A file or folder below `tests`, as `TIERS` names it."""
    return path.relative_to(Path(__file__).parent).as_posix()


def tier_of(path: Path) -> str:
    """The tier of a test file, for tests without a marker of their own."""
    return next((name for name, places in TIERS.items() if place_of(path).startswith(places)), "standard")


def share_of(nodeid: str) -> str:
    """Tests with the same share go to one worker of pytest-xdist: those of a file, or of a folder."""
    return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.split("::", 1)[0])


def place_in_order(path: Path) -> int:
    """Where a file stands in the order of the tests."""
    return FIRST.index(place_of(path)) if place_of(path) in FIRST else len(FIRST)


def may_be_quick(path: Path) -> bool:
    """Whether a file is quick, or a folder may have a quick file."""
    if path.is_dir():
        place = "" if path == Path(__file__).parent else f"{place_of(path)}/"
        return any(quick.startswith(place) or place.startswith(quick) for quick in TIERS["quick"])
    return not path.name.startswith("test_") or tier_of(path) == "quick"
