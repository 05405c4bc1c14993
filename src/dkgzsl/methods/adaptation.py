"""What an adaptation to unlabelled photos has changed in a model, of whatever method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HOLDS_DESCRIBED: Final = 0.2
"""Share of a pool's photos that evident described classes must take. On draws of training classes of CUB no
pool of seen classes alone reached it, and 2 % of the pools with all described classes missed it where each had 15
photos, 30 % where each had five."""


@dataclass(frozen=True)
class Adaptation:
    """What unlabelled photos have changed in a model.

    Attributes:
        photos: number of photos of the last pool.
        classes: numbers of the described classes.
        taken: how many of these photos each class took; photos are shared, so that the numbers are not whole.
        moved: how far the prototype of each moved, in distances of an image from its class's mean.
        evident: which classes took photos of it that are more like each other than like any seen class.
        evident_share: photos that evident classes took, as a share of the pool, 0 to 1.
        uncertain: pairs of classes whose photos could as well be each other's, the most uncertain first.
    """

    photos: int
    classes: tuple[int, ...]
    taken: tuple[float, ...]
    moved: tuple[float, ...]
    evident: tuple[bool, ...]
    evident_share: float
    uncertain: tuple[tuple[int, int], ...]

    @property
    def holds_described(self) -> bool:
        """Whether the last pool shows described classes at all; where it does not, adaptation does harm."""
        return self.evident_share >= HOLDS_DESCRIBED
