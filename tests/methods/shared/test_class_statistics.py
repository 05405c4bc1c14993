"""Statistics that are added to block by block, against numpy over all images at once."""

import numpy as np
import pytest
import torch

from dkgzsl.memory import blocks_of
from dkgzsl.methods.shared.class_statistics import ClassStatistics

IMAGES, CLASSES, DIM = 700, 9, 600  # more columns than a strip of products has


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(IMAGES, DIM)) * rng.uniform(0.1, 3, DIM) + rng.normal(size=DIM) * 50
    return torch.from_numpy(rows), torch.from_numpy(rng.integers(0, CLASSES, IMAGES))


def added(rows, positions, size, origin=None) -> ClassStatistics:
    known = ClassStatistics.empty(CLASSES, rows[:20].mean(0) if origin is None else origin)
    for where, block in blocks_of(rows, size):
        known.add(block, positions[where])
    return known


@pytest.mark.parametrize("size", [64, 1000])
def test_blocks_give_what_all_rows_give(data, size) -> None:
    rows, positions = data
    known, x, y = added(rows, positions, size), rows.numpy(), positions.numpy()
    means = np.stack([x[y == c].mean(0) for c in range(CLASSES)])
    np.testing.assert_allclose(known.means.numpy(), means, rtol=1e-12)
    np.testing.assert_allclose(known.mean.numpy(), x.mean(0), rtol=1e-12)
    np.testing.assert_array_equal(known.counts.numpy(), np.bincount(y))
    np.testing.assert_allclose(known.total.numpy() / (IMAGES - 1), np.cov(x.T), rtol=1e-9, atol=1e-9)
    deviations = x - means[y]
    np.testing.assert_allclose(known.within.numpy(), deviations.T @ deviations, rtol=1e-9, atol=1e-7)


def test_shares_of_the_images_merge_into_all(data) -> None:
    rows, positions = data
    whole = added(rows, positions, 1000)
    first, second = (
        added(rows[part], positions[part], 100, whole.origin) for part in (slice(300), slice(300, None))
    )
    merged = first.merge(second)
    for name in ("counts", "sums", "scatter"):
        torch.testing.assert_close(getattr(merged, name), getattr(whole, name), rtol=1e-9, atol=1e-7)
    with pytest.raises(ValueError, match="origins"):
        first.merge(added(rows, positions, 100, whole.origin + 1))


def test_single_precision_loses_no_digits_far_from_zero(data) -> None:
    rows, positions = data
    exact, rounded = added(rows, positions, 100), added(rows.float(), positions, 100)
    torch.testing.assert_close(
        rounded.within, exact.within, rtol=2e-4, atol=2e-4 * float(exact.within.abs().max())
    )


def test_one_block_is_the_tensor_itself(data) -> None:
    rows = data[0]
    assert next(iter(blocks_of(rows, IMAGES)))[1] is rows
    assert torch.equal(torch.cat([block for _, block in blocks_of(rows, 99)]), rows)
