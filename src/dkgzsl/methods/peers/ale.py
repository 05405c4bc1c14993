"""ALE, attribute label embedding (Akata, Perronnin, Harchaoui and Schmid, TPAMI 2016, arXiv 1503.08677).

Compatibility F(x, c) = x^T W a_c, trained by the weighted approximate ranking objective (eq. 8): sum over
images of beta_r / r * sum over classes c of max(0, 1 + F(x, c) - F(x, y)), c != y, where r counts the classes
that violate the margin and beta_r = 1 + 1/2 + ... + 1/r. Nothing but early stopping regularises; the selector
chooses the epoch.

W starts at 0 and each step adds x times a combination of seen descriptions, so W = C A with C [visual, seen]
and A the seen descriptions: C is what is trained, exactly as W would be.

Deviations: all violating classes are counted instead of sampled; steps are minibatches, their gradient a
mean; W starts at 0 instead of a small random matrix; descriptions have length 1. Learning rates are relative
to the images' mean square length, since the paper's are those of its features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from dkgzsl.methods.base import Model, Setting, Task
from dkgzsl.methods.peers.epochwise import EpochwiseMethod
from dkgzsl.methods.peers.linear_model import LinearModel, View
from dkgzsl.methods.shared.scaling import SCALINGS, Scaling, fitting_scalings
from dkgzsl.methods.shared.training import seeded

RATES: Final = (10.0, 30.0)
MARGIN: Final = 1.0


def ranking_gradient(
    scores: Float[Tensor, "images seen"], positions: Int[Tensor, " images"]
) -> tuple[Float[Tensor, " images"], Float[Tensor, "images seen"]]:
    """Each image's weighted ranking loss, and its derivative by the scores.

    Args:
        scores: of every seen class.
        positions: column of each image's own class.
    """
    own = positions[:, None]
    hinges = (MARGIN + scores - scores.gather(1, own)).scatter(1, own, 0.0).clamp(min=0.0)
    violating = (hinges > 0).to(scores)
    number = violating.sum(dim=1)
    harmonic = torch.arange(1, scores.shape[1] + 1).to(scores).reciprocal().cumsum(0)
    weight = harmonic[(number.long() - 1).clamp(min=0)] / number.clamp(min=1)
    gradient = violating * weight[:, None]
    return weight * hinges.sum(dim=1), gradient.scatter(1, own, -gradient.sum(dim=1, keepdim=True))


class ALE(EpochwiseMethod):
    """Scale, learning rate and epoch are chosen by the selector.

    Args:
        epochs: most epochs to train.
        rates: learning rates to try.
        batch_size: images a step.
        scalings: scales of the features to try.
        seed: order of the images.
        device: where to compute.
        minutes: wall-clock cap of one explore; None: none.

    Raises:
        ConfigError: epochs or minutes are out of range.
    """

    name = "ale"

    def __init__(
        self,
        *,
        epochs: int = 32,
        rates: Sequence[float] = RATES,
        batch_size: int = 32,
        scalings: Sequence[str] = SCALINGS,
        seed: int = 0,
        device: str = "cpu",
        minutes: float | None = None,
    ) -> None:
        options = [{"scaling": scaling, "rate": rate} for scaling in scalings for rate in rates]
        super().__init__(epochs=epochs, minutes=minutes, seed=seed, device=device, options=options)
        self.batch_size = batch_size

    def options_for(self, task: Task) -> Sequence[Setting]:
        """No square root of negative features."""
        kept = fitting_scalings(SCALINGS, task.features)
        return [option for option in self.options if option["scaling"] in kept]

    def begin(self, task: Task, option: Setting) -> _Training:
        """A training that has not begun."""
        return _Training(task, option, batch_size=self.batch_size, seed=self.seed, device=self.device)


class _Training:
    def __init__(self, task: Task, option: Setting, *, batch_size: int, seed: int, device: torch.device) -> None:
        features = task.features.to(device)
        self.seen, self.unseen = task.seen.to(device), task.unseen.to(device)
        self.positions = torch.searchsorted(self.seen, task.labels.to(device))
        self.scaling = Scaling.fit(option["scaling"], features)
        self.features = self.scaling(features)
        described = normalize(task.semantics.to(features), dim=1)
        self.kernel = described @ described[self.seen].T
        self.known = self.kernel[self.seen]
        self.combinations = features.new_zeros(features.shape[1], len(self.seen))
        self.rate = option["rate"] / float((self.features**2).sum(dim=1).mean())
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0

    def train_epoch(self) -> Mapping[str, float]:
        """All images once."""
        random = seeded(self.seed, self.epoch, device=self.features.device)
        order = torch.randperm(len(self.features), generator=random, device=self.features.device)
        total = self.features.new_zeros(())
        for images in torch.split(order, self.batch_size):
            batch = self.features[images]
            losses, gradient = ranking_gradient(batch @ self.combinations @ self.known, self.positions[images])
            self.combinations.addmm_(batch.T, gradient, alpha=-self.rate / len(images))
            total += losses.sum()
        self.epoch += 1
        return {"loss": float(total) / len(self.features)}

    def models(self) -> Iterator[tuple[Setting, Model]]:
        """The model as it stands."""
        view, weights = View(self.scaling, self.combinations.clone()), self.kernel.T
        bias = weights.new_zeros(len(self.kernel))
        yield {}, LinearModel("ale", view, weights, bias, self.seen, self.unseen)
