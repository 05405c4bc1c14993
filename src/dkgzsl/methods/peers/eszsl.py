"""ESZSL: a bilinear map from features to attributes in closed form.

V = (X^T X + gamma I)^-1 X^T Y A (A^T A + lambda I)^-1, score x V a_c. Y is +1 for an image's class and -1 for
every other seen class (the paper), or 1 and 0 (its authors' release). The scores see an image as its regression
on Y alone, [images, seen].

Deviations: class descriptions are scaled to unit length, as the xlsa17 `att` rows are. The paper's features
are those of its data sets; which scale they get, the selector chooses, and which labels. Penalties are relative to
the mean of the diagonals that they are added to; the paper's are absolute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.cache import InputCache
from dkgzsl.config import check_ranges
from dkgzsl.methods.base import MethodInfo, Selector, Setting, Setup, Task
from dkgzsl.methods.peers.linear_model import Columns, FeatureRegression, LinearModel, View
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, check_names, fitting_scalings

LABELS: Final = ("signed", "binary")
"""What Y says of an image: +1 for its class and -1 for every other seen class, or 1 and 0."""
SIGNED: Final = LABELS[0]


@dataclass(frozen=True)
class ESZSLSettings:
    """A bilinear map from features to attributes in closed form. Every scale is tried with all labels and lambdas,
    and with as many gammas as raise the score.

    Raises:
        ConfigError: a value is out of its range.
    """

    powers: tuple[int, ...] = tuple(range(-5, 4))
    """Exponents of ten to try for each of both penalties, relative to the diagonals that they are added to."""
    scalings: tuple[str, ...] = SCALINGS
    """Scales of the features to try: none, min-max, unit, square-root, standard."""
    labels: tuple[str, ...] = LABELS
    """Labels to try: signed (+1 and -1, the paper's), binary (1 and 0, those of its authors' release)."""

    def __post_init__(self) -> None:
        check_ranges(self, "eszsl.", at_least={"powers": -12})
        check_names(self.labels, LABELS, "eszsl.labels")
        check_names(self.scalings, SCALINGS, "eszsl.scalings")


@dataclass(frozen=True)
class ESZSLModel(LinearModel):
    """Scores x V a_c; the columns are A (A^T A + lambda I)^-1 a_c."""

    kind = "eszsl"

    def columns(self, semantics: Float[Tensor, "described semantic"]) -> Columns:
        """Of further classes, from their descriptions."""
        known = normalize(self.semantics[self.seen].to(semantics), dim=1)
        weights = _description_weights(normalize(semantics, dim=1), known, self.values["lambda"])
        return Columns(weights, weights.new_zeros(len(semantics)))


class ESZSL:
    """Scale of the features and both penalties, gamma and lambda, are chosen by the selector.

    Args:
        settings: what to try.
        setup: nothing is drawn, and nothing needs a cap on the minutes.
    """

    name = "eszsl"

    def __init__(self, settings: ESZSLSettings | None = None, setup: Setup | None = None) -> None:
        self.settings = settings or ESZSLSettings()
        self.device = torch.device((setup or Setup()).device)

    def explore(self, task: Task, selector: Selector) -> None:
        """Every lambda and kind of labels on every scale, for gammas from the one nearest 1 as long as the best
        score rises. One factorisation a gamma, one a lambda."""
        weights = {lambda_: self._weights(task, lambda_) for lambda_ in self.settings.powers}
        for scaling in fitting_scalings(self.settings.scalings, task.features):
            fitting = _Fitting(task, scaling, self.device)
            # Where features have mean 0, labels differ by a factor of all scores: one kind is enough.
            kinds = self.settings.labels[:1] if scaling == "standard" else self.settings.labels
            _climb(self.settings.powers, partial(_best_score, selector, fitting, kinds, weights))

    def fit(self, task: Task, setting: Setting) -> ESZSLModel:
        """Fit with one scale and one pair of penalties (powers of ten)."""
        fitting, lambda_ = _Fitting(task, setting["scaling"], self.device), setting["lambda"]
        labels = setting.get("labels", SIGNED)  # runs of dkgzsl 0.2.0 name none
        view = fitting.views(setting["gamma"], (labels,))[labels]
        return fitting.model(view, self._weights(task, lambda_), lambda_)

    def _weights(self, task: Task, lambda_: int) -> Float[Tensor, "seen classes"]:
        described = normalize(task.semantics.to(self.device, task.features.dtype), dim=1)
        return _description_weights(described, described[task.seen.to(self.device)], lambda_)


def _best_score(
    selector: Selector,
    fitting: _Fitting,
    kinds: Sequence[str],
    weights: Mapping[int, Float[Tensor, "seen classes"]],
    gamma: int,
) -> float:
    """Of the models with this gamma, with every kind of labels and every lambda."""
    best = float("-inf")
    for labels, view in fitting.views(gamma, kinds).items():
        for lambda_, columns in weights.items():
            setting = {"scaling": fitting.scaling.name, "labels": labels, "gamma": gamma, "lambda": lambda_}
            best = max(best, selector(setting, fitting.model(view, columns, lambda_)))
    return best


def _climb(powers: Sequence[int], score: Callable[[int], float]) -> None:
    """Score the power nearest 0, and those above or below it as long as the score rises."""
    ordered = sorted(set(powers))
    start = min(range(len(ordered)), key=lambda position: abs(ordered[position]))
    first = score(ordered[start])
    for side in (ordered[start + 1 :], ordered[:start][::-1]):
        best = first
        for power in side:
            found = score(power)
            if not found > best:
                break
            best = found
        if best > first:
            break


def _description_weights(
    described: Float[Tensor, "classes semantic"], seen: Float[Tensor, "seen semantic"], lambda_: int
) -> Float[Tensor, "seen classes"]:
    """A (A^T A + lambda I)^-1 a_c for every description: what does not depend on the images."""
    regular = seen.T @ seen
    regular.diagonal().add_(10.0**lambda_ * float(regular.diagonal().mean()))
    weights: Tensor = seen @ torch.linalg.solve(regular, described.T)
    return weights


class _Fitting:
    def __init__(self, task: Task, scaling: str, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.semantics = task.semantics.to(device)
        self.scaling, self.shared = Scaling.fit(scaling, features), InputCache()
        self.regression = FeatureRegression(self.scaling(features))
        labels = (task.labels.to(device)[:, None] == self.seen).to(features)
        self.targets = torch.cat([labels, torch.ones_like(labels[:, :1])], dim=1)

    def views(self, gamma: int, labels: Sequence[str]) -> dict[str, View]:
        """x -> x (X^T X + gamma I)^-1 X^T Y for each kind of labels, from one factorisation."""
        solved = self.regression.solve(self.targets, 10.0**gamma * self.regression.scale)
        binary, ones = solved[:, :-1], solved[:, -1:]
        projections = {"binary": binary, "signed": 2 * binary - ones}  # Y of +1 and -1 is 2 Y - 1
        return {name: View(self.scaling, projections[name], shared=self.shared) for name in labels}

    def model(self, view: View, weights: Float[Tensor, "seen classes"], lambda_: int) -> ESZSLModel:
        """The view's regression on the seen classes, weighed by the descriptions of every class."""
        bias = weights.new_zeros(len(weights.T))
        return ESZSLModel(view, weights, bias, self.seen, self.unseen, self.semantics, {"lambda": lambda_})


INFO = MethodInfo(
    name="eszsl",
    title="ESZSL",
    paper="Romera-Paredes and Torr, An embarrassingly simple approach to zero-shot learning, ICML 2015",
    settings=ESZSLSettings,
    make=ESZSL,
    models={"eszsl": ESZSLModel},
)
