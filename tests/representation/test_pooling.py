"""Poolings against their formulas."""

import numpy as np
import pytest
import torch
from scipy.stats import pmean

from dkgzsl.errors import DataError
from dkgzsl.representation.blocks import pool


def test_poolings_by_their_formulas() -> None:
    tokens = np.random.default_rng(0).random((3, 6, 4))
    ours = pool(torch.from_numpy(tokens), ["pooled", "mean", "maximum", "generalised"])
    np.testing.assert_allclose(ours["pooled"], tokens[:, 0])
    np.testing.assert_allclose(ours["mean"], tokens[:, 1:].mean(axis=1))
    np.testing.assert_allclose(ours["maximum"], tokens[:, 1:].max(axis=1))
    np.testing.assert_allclose(ours["generalised"], pmean(tokens[:, 1:], 3, axis=1))


def test_no_generalised_mean_of_negative_features() -> None:
    tokens = torch.rand(2, 5, 3)
    tokens[0, 0] = -1  # the global token is not pooled
    assert pool(tokens, ["generalised"])["generalised"].isfinite().all()
    tokens[1, 3, 1] = -0.1
    with pytest.raises(DataError, match="never negative"):
        pool(tokens, ["generalised"])
