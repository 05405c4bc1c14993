"""Every place that a tier names exists, and a file has one tier."""

from pathlib import Path

from conftest import TIERS, tier_of

HERE = Path(__file__).parent


def test_places_exist_and_are_named_once() -> None:
    places = [place for named in TIERS.values() for place in named]
    assert all((HERE / place).exists() for place in places)
    assert len(set(places)) == len(places)


def test_tiers_of_some_files() -> None:
    assert tier_of(HERE / "docs" / "test_blocks.py") == "long"
    assert tier_of(HERE / "evaluation" / "test_metrics.py") == "quick"
    assert tier_of(HERE / "estimator" / "test_estimator.py") == "standard"
