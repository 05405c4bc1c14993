"""Descriptions with gaps: filled in from classes described alike, warned of, and no attractor."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from dkgzsl.data.arrays import problem_from_arrays
from dkgzsl.data.checks import structure
from dkgzsl.data.formats.tables import SemanticTable, read_semantic_table, write_semantic_table
from dkgzsl.data.gaps import completed, filled, gap_notes
from dkgzsl.data.raw import RawData
from dkgzsl.errors import DataError


def table_of(classes: int = 40, seed: int = 0) -> np.ndarray:
    """Twelve attributes that depend on three hidden ones, on scales of their own."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(classes, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(classes, 12))
    return hidden * np.linspace(1, 50, 12) + 7


def test_a_gap_has_the_conditional_mean() -> None:
    """Against the same by the precision matrix: x_m = mean_m - P_mm^-1 P_mo (x_o - mean_o)."""
    table = table_of()
    row, others = table[0].copy(), table[1:]
    row[[2, 5, 11]] = np.nan
    gap = np.isnan(row)
    mean, deviation = others.mean(0), others.std(0)
    standard = (others - mean) / deviation
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(standard).covariance_)
    apart = ((row - mean) / deviation)[~gap]
    told = -np.linalg.solve(precision[np.ix_(gap, gap)], precision[np.ix_(gap, ~gap)] @ apart)
    expected = np.clip(mean[gap] + deviation[gap] * told, others[:, gap].min(0), others[:, gap].max(0))
    found = completed(row, others)
    np.testing.assert_allclose(found[gap], expected, rtol=1e-3)
    np.testing.assert_array_equal(found[~gap], row[~gap])
    closer = np.abs(found - table[0])[gap] / deviation[gap]
    assert closer.mean() < np.abs(mean - table[0])[gap].mean() / deviation[gap].mean()


def test_nothing_known_is_the_mean_and_nothing_missing_stays() -> None:
    table = table_of()
    np.testing.assert_allclose(completed(np.full(12, np.nan), table), table.mean(0))
    assert filled(table).values is not None
    np.testing.assert_array_equal(filled(table).values, table)
    assert filled(table).missing.tolist() == [0] * 40
    with pytest.raises(DataError, match="no value at all"):
        filled(np.vstack([table, np.full((1, 12), np.nan)]))


def test_other_sparse_classes_are_not_filled_in_from() -> None:
    table = table_of()
    table[0, 4:], table[1, :11] = np.nan, np.nan
    table[1, 11] = 1e4
    both, alone = filled(table).values[0], filled(np.delete(table, 1, axis=0)).values[0]
    np.testing.assert_allclose(both, alone)
    assert filled(table).missing[:2].tolist() == [8 / 12, 11 / 12]


def test_a_problem_is_filled_and_warns() -> None:
    table = table_of(12)
    table[3, 1:] = np.nan
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(10), 6)
    features = rng.normal(size=(60, 5)).astype(np.float32)
    problem = problem_from_arrays(features, labels, table)
    np.testing.assert_allclose(problem.semantics, filled(table).values)
    (note,) = problem.provenance["notes"]
    assert note.startswith("warning: most values are missing of class_4 (92%)")
    few = table_of(12)
    few[3, 1] = np.nan
    assert gap_notes(few, classes=[str(k) for k in range(12)])[0].startswith("1 values are missing")
    assert gap_notes(table_of(12), classes=[str(k) for k in range(12)]) == []


@pytest.mark.parametrize(("own", "severity"), [(True, "warning"), (False, "error")])
def test_data_check_warns_of_ones_own_table_and_refuses_a_published_one(own: bool, severity: str) -> None:
    table = table_of(4)
    table[3, 1:] = np.nan
    raw = RawData(
        name="x", where="x", tables={"att": table}, described_only=own, class_names=("a", "b", "c", "d"),
        parts={part: np.arange(0) for part in ("trainval", "test_seen", "test_unseen")},
    )  # fmt: skip
    found = [one for one in structure(raw) if one.check in ("missing values", "nan")]
    assert [one.severity for one in found] == [severity]
    assert "d" in found[0].message


def test_gaps_stay_gaps_in_a_file(tmp_path: Path) -> None:
    table = SemanticTable(("a", "b"), ("x", "y"), np.array([[1.0, np.nan], [0.25, 2.0]]))
    write_semantic_table(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_text() == "class,x,y\na,1.0,\nb,0.25,2.0\n"
    np.testing.assert_array_equal(read_semantic_table(tmp_path / "t.csv").values, table.values)
