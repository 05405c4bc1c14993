"""Methods that choose their settings on several validation cuts at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from dkgzsl.methods.base import Model, Setting, Task


@runtime_checkable
class CutSelector(Protocol):
    """Scores settings on several validation cuts, each another division of the seen classes and their images."""

    def __call__(
        self, setting: Setting, models: Iterator[Model], *, candidate: bool = True
    ) -> Float[np.ndarray, " cuts"]:
        """Score of a setting's model on each cut, higher is better.

        Args:
            setting: what the models were fitted with.
            models: one for each cut's task, in order; they are asked for one by one. Where the first shows that
            the
                setting will not lead, the others are not asked for, and their scores are minus infinity.
            candidate: whether this setting may be chosen.
        """
        ...

    def is_better(self, scores: Float[np.ndarray, " cuts"], lead: Float[np.ndarray, " lead"]) -> bool:
        """Whether a setting with these scores takes the lead from one with those."""
        ...


@runtime_checkable
class CutMethod(Protocol):
    """A method that chooses its settings on several cuts at once."""

    def explore_cuts(self, tasks: Sequence[Task], selector: CutSelector) -> None:
        """Show the selector every setting worth trying, its models fitted on every task.

        The setting shown first is the starting point. The selector remembers the one that leads; the protocol
        takes it.
        """
        ...
