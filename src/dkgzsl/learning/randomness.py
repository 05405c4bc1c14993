"""Random streams by name: what is drawn where depends on the seed and the place alone, not on what ran before."""

from __future__ import annotations

import numpy as np
import torch


def seeded(seed: int, *place: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one place of one seed's run, such as an epoch's number.

    Args:
        seed: the run's seed, 0 or more.
        place: whole numbers that name the place, 0 or more.
        device: where the generator draws; the same place gives other numbers on another kind of device.
    """
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
