"""The balance of seen and unseen classes, solved from leave-one-class-out errors.

A seen class knows its mean from its images; a described class has a predicted one, and what the prediction errs by
counts against it in every score. How much, the seen classes tell: each is predicted from all the others, and its
own images are asked whether they would still find it. No held-out image takes part, no constant is tried. This is
ours; METHOD's step 3 widens the densities instead, which costs accuracy among the unseen classes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def seen_unseen_balance(
    means: Float[Tensor, "seen dim"],
    placed: Float[Tensor, "seen dim"],
    predicted: Float[Tensor, "seen dim"],
    variance: float,
) -> float:
    """What to add to the log densities of described classes, so that neither side has the advantage.

    With M the means of the images, S where the model places the seen classes and P their leave-one-class-out
    predictions, an image at M_i that should find its class by description does so when the offset is above

        u_i = (|M_i - P_i|^2 - min_{j != i} |M_i - S_j|^2) / (2 s2),

    and one at M_j that should find its seen class while others are described does so when it is below

        v_j = (min_{i != j} |M_j - P_i|^2 - |M_j - S_j|^2) / (2 s2).

    The balance is half way between the mean of u and the mean of v.

    Args:
        means: M, class means of training images in the whitened space.
        placed: S, means of the seen densities (M itself, or blended with predictions).
        predicted: P, each class's mean as predicted from all other classes.
        variance: s2, the pooled variance of an axis, above 0.

    Returns:
        The offset in units of log density; 0 where there are fewer than two classes.
    """
    if len(means) < 2:
        return 0.0
    to_placed, to_predicted = (torch.cdist(means, points).square() for points in (placed, predicted))
    own = torch.eye(len(means), dtype=torch.bool, device=means.device)
    rival_seen = to_placed.masked_fill(own, torch.inf).amin(1)
    rival_described = to_predicted.masked_fill(own, torch.inf).amin(1)
    found_described = to_predicted.diagonal() - rival_seen
    found_seen = rival_described - to_placed.diagonal()
    return float((found_described.mean() + found_seen.mean()) / (4 * variance))
