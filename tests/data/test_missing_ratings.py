"""AwA's tables mark what nobody rated by -1."""

import numpy as np
import pytest
from scipy.io import loadmat

from dkgzsl.data.formats.xlsa17 import read_raw, read_split
from dkgzsl.data.missing import unknown_entries


@pytest.mark.parametrize("name", ["AWA1", "AWA2"])
def test_what_awa_does_not_know_is_the_mean_of_the_others(xlsa17, name):
    path = xlsa17 / name / "att_splits.mat"
    split, file = read_split(path), loadmat(path)
    given = file["original_att"].T
    found = split.tables["att_original"]
    assert (given == -1).sum() == 4
    for row, column in np.argwhere(given == -1):
        others = [given[other, column] for other in range(50) if given[other, column] != -1]
        assert found[row, column] == pytest.approx(sum(others) / len(others))
        length = np.sqrt((found[row] ** 2).sum())
        assert split.tables["att"][row, column] == pytest.approx(found[row, column] / length)
    np.testing.assert_array_equal(found[given != -1], given[given != -1])
    whole = (given != -1).all(1)
    np.testing.assert_array_equal(split.tables["att"][whole], file["att"].T[whole])
    raw, _ = read_raw(path.parent, features=None)
    assert [note for note in raw.notes if "4 entries of 'att' are -1" in note] == list(raw.notes)


def test_tables_where_minus_one_is_a_value_stay():
    rng = np.random.default_rng(0)
    assert not unknown_entries(rng.choice([-1.0, 1.0], (20, 30))).any()
    assert not unknown_entries(rng.standard_normal((20, 30))).any()
    rated = rng.integers(0, 100, (20, 30)).astype(float)
    rated[3, 4] = -1
    assert np.argwhere(unknown_entries(rated)).tolist() == [[3, 4]]
    rated[:10, :10] = -1  # too many to be gaps
    assert not unknown_entries(rated).any()
