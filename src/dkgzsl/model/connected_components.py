"""Connected components of small maps by iterated masked max-pooling, for runtimes that have no labelling."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def longest_way(grid: tuple[int, int]) -> int:
    """Steps that any two cells of one 8-connected component are apart within it, at most.

    A shortest way has no shortcuts, so of the four cells of a 2 x 2 block, all neighbours of each other, it
    visits two at most; ceil(rows / 2) x ceil(columns / 2) such blocks cover the grid.
    """
    rows, columns = grid
    return 2 * ((rows + 1) // 2) * ((columns + 1) // 2) - 1


def component_areas(above: Bool[Tensor, "batch regions"], grid: tuple[int, int]) -> Float[Tensor, "batch regions"]:
    """Cells of the 8-connected component that each marked cell belongs to; 0 for the others.

    Every marked cell starts with a number of its own and takes the largest among its marked neighbours, as many
    times as the longest way within a component has steps; by then a component's cells share one number. The count
    of steps is fixed by the grid, so that the whole unrolls into a graph without loops or branches.

    Args:
        above: marked cells, the grid's rows from top to bottom.
        grid: rows and columns.
    """
    marked = above.to(torch.float32).reshape(-1, 1, *grid)
    numbers = torch.arange(1, grid[0] * grid[1] + 1, dtype=torch.float32, device=above.device).reshape(1, 1, *grid)
    numbers = numbers * marked
    for _ in range(longest_way(grid)):
        numbers = functional.max_pool2d(numbers, 3, stride=1, padding=1) * marked
    own = numbers.flatten(1)
    areas: Tensor = (own[:, :, None] == own[:, None, :]).to(torch.float32).sum(dim=2)
    return areas * marked.flatten(1)
