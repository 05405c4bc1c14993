"""Components by max-pooling against SciPy's and OpenCV's labelling, on random maps and on the longest ways."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from dkgzsl.inference.export.modules import component_areas, longest_way
from dkgzsl.representation.feature_denoising import RegionLimits, large_components


def by_scipy(marked: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(marked, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return areas[labels]


def by_opencv(marked: np.ndarray) -> np.ndarray:
    cv2 = pytest.importorskip("cv2", reason="the extra `images` is not installed")
    _, labels, stats, _ = cv2.connectedComponentsWithStats(marked.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return areas[labels]


def ours(marked: np.ndarray) -> np.ndarray:
    areas = component_areas(torch.from_numpy(marked).flatten(1), marked.shape[1:])
    return areas.reshape(marked.shape).numpy()


@pytest.mark.parametrize("grid", [(1, 1), (1, 9), (2, 3), (5, 5), (7, 7), (14, 14), (9, 4)])
@pytest.mark.parametrize("reference", [by_scipy, by_opencv])
def test_areas_equal_those_of_an_independent_labelling(grid, reference) -> None:
    rng = np.random.default_rng(0)
    marked = rng.random((60, *grid)) < rng.uniform(0, 1, (60, 1, 1))
    np.testing.assert_array_equal(ours(marked), np.stack([reference(one) for one in marked]))


def snake(grid: tuple[int, int]) -> np.ndarray:
    """Every other row, joined at alternating ends: a component whose ends are far apart."""
    marked = np.zeros(grid, bool)
    marked[::2] = True
    for turn, row in enumerate(range(1, grid[0] - 1, 2)):
        marked[row, -1 if turn % 2 == 0 else 0] = True
        marked[row - 1, -1 if turn % 2 == 0 else 0] = False
        marked[row + 1, -1 if turn % 2 == 0 else 0] = False
    return marked


@pytest.mark.parametrize("grid", [(7, 7), (14, 14), (13, 14), (6, 9)])
def test_the_longest_snakes_are_one_component(grid) -> None:
    for marked in (snake(grid), snake(grid[::-1]).T):
        np.testing.assert_array_equal(ours(marked[None])[0], by_scipy(marked))


def eccentricity(marked: np.ndarray) -> int:
    """Steps from the first marked cell to the farthest cell of its component, by flooding."""
    reached = np.zeros_like(marked)
    reached.flat[np.flatnonzero(marked)[0]] = True
    for steps in range(marked.size + 1):
        wider = ndimage.binary_dilation(reached, np.ones((3, 3))) & marked
        if (wider == reached).all():
            return steps
        reached = wider
    raise AssertionError


@pytest.mark.parametrize("grid", [(7, 7), (14, 14), (6, 9)])
def test_the_bound_holds_and_is_not_far_off(grid) -> None:
    longest = max(eccentricity(marked) for marked in (snake(grid), snake(grid[::-1]).T))
    assert longest <= longest_way(grid) < 1.4 * longest


@pytest.mark.parametrize("grid", [(7, 7), (14, 14)])
def test_large_components_are_those_of_the_denoising_encoder(grid) -> None:
    random = torch.Generator().manual_seed(1)
    saliency = torch.nn.functional.normalize(torch.rand(40, grid[0] * grid[1], generator=random) ** 3, dim=1)
    limits = RegionLimits.of(grid[0] * grid[1])
    found = component_areas(saliency > limits.threshold, grid) >= limits.area
    assert torch.equal(found, large_components(saliency, grid, limits))
    assert 0 < int(found.sum()) < found.numel()
