"""ESZSL: a bilinear map from features to attributes in closed form (Romera-Paredes and Torr, ICML 2015).

V = (X^T X + gamma I)^-1 X^T Y A (A^T A + lambda I)^-1, score x V a_c. Y is +1 for an image's class and -1 for
every other seen class. Deviation: class descriptions are scaled to unit length, as the xlsa17 `att` rows are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dkgzsl.methods.base import Judge, SavedModel, Setting, Task, columns_of

POWERS = tuple(range(-5, 4))


@dataclass(frozen=True)
class BilinearModel:
    """Scores x V a_c.

    Attributes:
        class_weights: V a_c of every class of the task, a column a class.
        seen: class numbers of seen classes.
        unseen: class numbers of unseen classes.
    """

    class_weights: Float[Tensor, "visual classes"]
    seen: Int[Tensor, " seen"]
    unseen: Int[Tensor, " unseen"]

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Compatibility with every class of the task; -inf for others."""
        all_scores = features.to(self.class_weights) @ self.class_weights
        return columns_of(all_scores, torch.cat([self.seen, self.unseen]))

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """The same compatibility, among unseen classes."""
        return columns_of(self.scores(features), self.unseen)

    def save(self) -> SavedModel:
        """The weights, and which classes are which."""
        tensors = {"class_weights": self.class_weights, "seen": self.seen, "unseen": self.unseen}
        return SavedModel("eszsl", tensors, {})

    @classmethod
    def load(cls, saved: SavedModel) -> BilinearModel:
        """The model that `saved` was made from."""
        return cls(**{name: saved.tensors[name] for name in ("class_weights", "seen", "unseen")})


class ESZSL:
    """Both penalties, gamma and lambda, are chosen by the judge among powers of ten.

    Args:
        powers: exponents to try for each penalty, relative to the mean diagonal of X^T X and of A^T A, so that
            they do not depend on the scale of features and descriptions, nor on their number.
        device: where to compute.
    """

    name = "eszsl"

    def __init__(
        self,
        powers: Sequence[int] = POWERS,
        *,
        seed: int = 0,
        device: str = "cpu",
        minutes: float | None = None,
    ) -> None:
        del seed, minutes  # nothing is drawn, and it takes less than two
        self.powers, self.device = tuple(powers), torch.device(device)

    def explore(self, task: Task, judge: Judge) -> None:
        """Every pair of penalties; one factorisation for each gamma."""
        fitting = _Fitting(task, self.device)
        for gamma in self.powers:
            left = fitting.left(gamma)
            for lambda_ in self.powers:
                judge({"gamma": gamma, "lambda": lambda_}, fitting.model(left, lambda_))

    def fit(self, task: Task, setting: Setting) -> BilinearModel:
        """Fit with one pair of penalties (powers of ten)."""
        fitting = _Fitting(task, self.device)
        return fitting.model(fitting.left(setting["gamma"]), setting["lambda"])


class _Fitting:
    def __init__(self, task: Task, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.semantics = torch.nn.functional.normalize(task.semantics.to(device), dim=1)
        self.gram = features.T @ features
        self.scale = float(self.gram.diagonal().mean())
        # Y A without the [images, seen] matrix Y: twice the own description minus the sum of all.
        own = self.semantics[task.labels.to(device)]
        self.cross = features.T @ (2 * own - self.semantics[self.seen].sum(0))

    def left(self, gamma: int) -> Float[Tensor, "visual semantic"]:
        """(X^T X + gamma I)^-1 X^T Y A."""
        regular = self.gram.clone()
        regular.diagonal().add_(10.0**gamma * self.scale)
        left: Tensor = torch.cholesky_solve(self.cross, torch.linalg.cholesky(regular))
        return left

    def model(self, left: Float[Tensor, "visual semantic"], lambda_: int) -> BilinearModel:
        """V a_c = left (A^T A + lambda I)^-1 a_c, without making V."""
        seen = self.semantics[self.seen]
        regular = seen.T @ seen
        regular.diagonal().add_(10.0**lambda_ * float(regular.diagonal().mean()))
        return BilinearModel(left @ torch.linalg.solve(regular, self.semantics.T), self.seen, self.unseen)
