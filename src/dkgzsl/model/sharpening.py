"""What a few photos add to a description: the posterior of a class's prototype.

The knowledge predicts m_c with error covariance v_c E (`KernelRidge`): the prior is N(m_c, v_c E). The mean of n
photos has the distribution N(prototype, s2 / n I). On the axes of E, with eigenvalues e_j, both are diagonal, and
the posterior is precision-weighted axis by axis (the normal model with known variance; derived here, as no
zero-shot method is known to us that uses its own error covariance so):

    w_j = v_c e_j / (v_c e_j + s2 / n),   mean_j = m_cj + w_j (photos_j - m_cj),   variance_j = v_c e_j (1 - w_j)

Without photos it is the description's prototype, with many their mean; axes on which descriptions tell
little move first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class PhotoMeans:
    """Photos of described classes, as far as they count.

    Attributes:
        classes: class numbers, each once.
        means: mean of each class's photos, in the space of the prototypes.
        counts: photos of each class, at least 1.
    """

    classes: Int[Tensor, " sharpened"]
    means: Float[Tensor, "sharpened dim"]
    counts: Int[Tensor, " sharpened"]


@dataclass(frozen=True)
class Posterior:
    """Prototypes after the photos.

    Attributes:
        means: posterior means.
        variances: posterior variances of the prototypes, an axis.
        ignorance: trace of the posterior covariance over the prior's, 0 to 1: what share of the description's
            uncertainty is left.
    """

    means: Float[Tensor, "sharpened dim"]
    variances: Float[Tensor, "sharpened dim"]
    ignorance: Float[Tensor, " sharpened"]


def posterior(
    prior: Float[Tensor, "sharpened dim"],
    prior_variances: Float[Tensor, "sharpened dim"],
    photos: Float[Tensor, "sharpened dim"],
    counts: Int[Tensor, " sharpened"],
    variance: float,
) -> Posterior:
    """The posterior on the axes of the error covariance.

    Args:
        prior: m_c on these axes.
        prior_variances: v_c e_j.
        photos: means of the photos on these axes.
        counts: n.
        variance: s2, within a class, an axis.
    """
    noise = variance / counts[:, None]
    weight = prior_variances / (prior_variances + noise)
    left = prior_variances * (1 - weight)
    return Posterior(
        means=torch.lerp(prior, photos, weight),
        variances=left,
        ignorance=left.sum(1) / prior_variances.sum(1).clamp(min=torch.finfo(prior.dtype).tiny),
    )
