"""The tier of each test: `quick`, `standard` or `long`.

The file or the folder of a test decides; what `TIERS` does not name is `standard`. A marker on a test moves it to a
slower tier (`@pytest.mark.long`), never to a faster one: `pytest -m quick` does not import files of other tiers.
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
        "test_tiers.py",
    ),
}
"""Files and folders of the tiers `long` and `quick`."""


def tier_of(path: Path) -> str:
    """The tier of a test file, for tests without a marker of their own."""
    place = path.relative_to(Path(__file__).parent).as_posix()
    return next((name for name, places in TIERS.items() if place.startswith(places)), "standard")
