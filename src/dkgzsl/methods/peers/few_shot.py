"""What a few photos add to a description, for peers that predict class means by kernel regression.

The regression f(a) = k(a)^T G M, with G = (K + l I)^-1 and seen means M, is that of a Gaussian process. It
predicts seen class i from all the others with the error r_i = [G M]_i / G_ii, of variance 1 / G_ii times that of
the process. So the prior of a described class's mean in dimension j is N(f_j(a), v E_j), where

    v = k(a, a) - k(a)^T G k(a) + l,   E_j = mean_i(r_ij^2) / mean_i(1 / G_ii)

The mean of n photos is N(mean of the class, s_j^2 / n), where s_j^2 is the variance within the class, and the
posterior of the class's mean is

    f_j(a) + gain_j (photos_j - f_j(a)),   gain_j = v E_j / (v E_j + s_j^2 / n)

Derived here; neither paper has photos of described classes. `closed_form.few_shot` does the same with full
covariances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.errors import DataError


@dataclass(frozen=True)
class Photos:
    """What a model keeps of photos of described classes.

    Attributes:
        classes: class numbers, each once.
        means: mean of the scaled features of each class's photos.
        counts: photos of each class, at least 1.
    """

    classes: Int[Tensor, " few_shot"]
    means: Float[Tensor, "few_shot visual"]
    counts: Int[Tensor, " few_shot"]

    @classmethod
    def added(
        cls,
        before: Photos | None,
        number: int,
        scaled: Float[Tensor, "images visual"],
        unseen: Int[Tensor, " unseen"],
    ) -> Photos:
        """With the photos of one more class, or with other photos of a class.

        Args:
            before: what there was; None: no photos.
            number: of the class.
            scaled: scaled features of its photos.
            unseen: numbers of the described classes.

        Raises:
            DataError: there is no photo, or the class is not a described one.
        """
        if not len(scaled):
            raise DataError("there is no photo", fix="give at least one")
        if number not in unseen.tolist():
            raise DataError(
                f"class {number} is not a described one", fix="give photos of a class without training images"
            )
        added = cls(unseen.new_tensor([number]), scaled.mean(0, keepdim=True), unseen.new_tensor([len(scaled)]))
        if before is None:
            return added
        others = before.classes != number
        return cls(
            torch.cat([before.classes[others], added.classes]),
            torch.cat([before.means[others], added.means]),
            torch.cat([before.counts[others], added.counts]),
        )

    def of(self, classes: Int[Tensor, " some"]) -> Photos | None:
        """Those of some classes, or None."""
        kept = torch.isin(self.classes, classes)
        return Photos(self.classes[kept], self.means[kept], self.counts[kept]) if kept.any() else None

    def tensors(self) -> dict[str, Tensor]:
        """Tensors by name, from which `load` makes them again."""
        return {f"photos.{name}": getattr(self, name) for name in _PARTS}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor]) -> Photos | None:
        """What `tensors` was made from, or None where they hold no photos."""
        if "photos.means" not in tensors:
            return None
        return cls(*(tensors[f"photos.{name}"] for name in _PARTS))

    def posterior(
        self,
        prior: Float[Tensor, "few_shot visual"],
        unknown: Float[Tensor, "few_shot visual"],
        within: Float[Tensor, "few_shot visual"],
    ) -> Float[Tensor, "few_shot visual"]:
        """Posterior means of the classes.

        Args:
            prior: what the descriptions predict, f_j(a).
            unknown: variance of the prediction's error, v E_j.
            within: variance within the classes, s_j^2.
        """
        tiny = torch.finfo(prior.dtype).tiny  # a dimension that never varies has neither variance
        gain = unknown / (unknown + within / self.counts[:, None]).clamp(min=tiny)
        moved: Tensor = prior + gain * (self.means - prior)
        return moved


_PARTS: Final = ("classes", "means", "counts")


def error_variances(
    kernel: Float[Tensor, "seen seen"],
    noise: float,
    cross: Float[Tensor, "classes seen"],
    own: Float[Tensor, " classes"],
    targets: Float[Tensor, "seen visual"],
) -> Float[Tensor, "classes visual"]:
    """v E_j: variance of the error of each predicted mean, in each dimension.

    Args:
        kernel: K, between seen classes.
        noise: l.
        cross: k(a), between predicted and seen classes.
        own: k(a, a).
        targets: M, less what the regression adds at the end.
    """
    # In float64: G's own diagonal is used, and K is nearly singular where there are more classes than attributes.
    regular = kernel.double() + noise * torch.eye(len(kernel), dtype=torch.float64, device=kernel.device)
    inverse = torch.linalg.inv(regular)
    diagonal = inverse.diagonal()
    errors = inverse @ targets.double() / diagonal[:, None]
    unit = errors.square().mean(0) / (1 / diagonal).mean()
    wide = cross.double()
    explained = ((wide @ inverse) * wide).sum(1)
    unknown = (own.double() - explained).clamp(min=0) + noise
    variances: Tensor = unknown[:, None] * unit
    return variances.to(targets)
