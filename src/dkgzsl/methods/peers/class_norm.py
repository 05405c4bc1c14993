"""Class-Norm: class normalization for zero-shot learning (Skorokhodov and Elhoseiny, ICLR 2021, arXiv
2006.11328).

A network p(a) gives each class a prototype; the logit of class c is gamma^2 cos(x, p(a_c)) ("normalize +
scale", gamma 5), trained by cross-entropy over the seen classes. Descriptions are normalised to length
sqrt(S) (attribute normalisation). p is Linear, ReLU, Linear, S, ReLU, S, Linear, ReLU, where S is class
normalisation (eq. 9): each unit is standardised over the classes of the batch, here always all seen ones, and
by the running mean and variance of these afterwards, so that no statistic of an unseen class is used. The
last layer starts uniform with variance 1 / (hidden * visual) (eq. 10). Seen logits are multiplied by a factor
below 1 to trade S for U.

Sizes, rates and epochs are those of the authors' release: hidden 1024, 50 epochs of batches of 256, Adam 5e-4
with weight decay 1e-4, a tenth of the rate after 25 epochs, factor 0.95 (CUB: 1).

Deviations: S divides by the deviation as in eq. 9, where the release divides by the variance. Scale of the
features (lengths are 1 anyway, so `unit` is `none`), epoch and factor are chosen by the selector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from dkgzsl.methods.base import Model, Setting, Task
from dkgzsl.methods.peers.epochwise import EpochwiseMethod
from dkgzsl.methods.peers.linear_model import LinearModel, View
from dkgzsl.methods.shared.scaling import Scaling, fitting_scalings
from dkgzsl.methods.shared.training import seeded

SCALINGS: Final = ("none", "min-max", "square-root")
FACTORS: Final = (1.0, 0.95)
GAMMA: Final = 5.0
_MOMENTUM, _EPSILON = 0.1, 1e-5
_FIRST = 0  # place of the first weights' stream; epochs count from 1


class ClassNormalization(nn.Module):
    """Standardises each unit over classes: those of the batch in training, running statistics afterwards.

    Args:
        size: number of units.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))

    def forward(self, units: Float[Tensor, "classes size"]) -> Float[Tensor, "classes size"]:
        """Standardised units."""
        mean, variance = self.mean, self.variance
        if self.training:
            variance, mean = torch.var_mean(units, dim=0)
            self.mean.lerp_(mean.detach(), _MOMENTUM)
            self.variance.lerp_(variance.detach(), _MOMENTUM)
        return (units - mean) / (variance + _EPSILON).sqrt()


def prototype_network(semantic: int, hidden: int, visual: int) -> nn.Sequential:
    """Descriptions [classes, semantic] -> prototypes [classes, visual]; weights from torch's global stream."""
    last = nn.Linear(hidden, visual)
    bound = sqrt(3 / (hidden * visual))
    nn.init.uniform_(last.weight, -bound, bound)
    return nn.Sequential(
        nn.Linear(semantic, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        ClassNormalization(hidden),
        nn.ReLU(),
        ClassNormalization(hidden),
        last,
        nn.ReLU(),
    )


class ClassNorm(EpochwiseMethod):
    """Scale, epoch and factor of the seen logits are chosen by the selector.

    Args:
        epochs: passes over the training images.
        hidden: units of each hidden layer.
        learning_rate: Adam's.
        weight_decay: Adam's.
        drop_after: epochs after which the rate falls to a tenth, again and again.
        batch_size: images a step.
        scalings: scales of the features to try.
        factors: of the seen logits, to try.
        seed: first weights and order of the images.
        device: where to compute.
        minutes: wall-clock cap of one explore; None: none.

    Raises:
        ConfigError: epochs or minutes are out of range.
    """

    name = "class-norm"

    def __init__(
        self,
        *,
        epochs: int = 50,
        hidden: int = 1024,
        learning_rate: float = 5e-4,
        weight_decay: float = 1e-4,
        drop_after: int = 25,
        batch_size: int = 256,
        scalings: Sequence[str] = SCALINGS,
        factors: Sequence[float] = FACTORS,
        seed: int = 0,
        device: str = "cpu",
        minutes: float | None = None,
    ) -> None:
        options = [{"scaling": scaling} for scaling in scalings]
        super().__init__(epochs=epochs, minutes=minutes, seed=seed, device=device, options=options)
        self.hidden, self.learning_rate, self.weight_decay = hidden, learning_rate, weight_decay
        self.drop_after, self.batch_size, self.factors = drop_after, batch_size, tuple(factors)

    def options_for(self, task: Task) -> Sequence[Setting]:
        """No square root of negative features."""
        kept = fitting_scalings(SCALINGS, task.features)
        return [option for option in self.options if option["scaling"] in kept]

    def begin(self, task: Task, option: Setting) -> _Training:
        """A training that has not begun."""
        return _Training(task, option["scaling"], self)


class _Training:
    def __init__(self, task: Task, scaling: str, method: ClassNorm) -> None:
        features = task.features.to(method.device)
        self.seen, self.unseen = task.seen.to(method.device), task.unseen.to(method.device)
        self.positions = torch.searchsorted(self.seen, task.labels.to(method.device))
        self.scaling = Scaling.fit(scaling, features)
        self.features = GAMMA * normalize(self.scaling(features), dim=1)
        semantics = task.semantics.to(features)
        self.described = sqrt(semantics.shape[1]) * normalize(semantics, dim=1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeded(method.seed, _FIRST).initial_seed())
            network = prototype_network(semantics.shape[1], method.hidden, features.shape[1])
        self.network = network.to(method.device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=method.learning_rate, weight_decay=method.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=method.drop_after)
        self.batch_size, self.seed, self.epoch = method.batch_size, method.seed, 0
        self.factors = method.factors

    def train_epoch(self) -> Mapping[str, float]:
        """All images once."""
        self.epoch += 1
        random = seeded(self.seed, self.epoch, device=self.features.device)
        order = torch.randperm(len(self.features), generator=random, device=self.features.device)
        described, total = self.described[self.seen], self.features.new_zeros(())
        self.network.train()
        for images in torch.split(order, self.batch_size):
            prototypes = GAMMA * normalize(self.network(described), dim=1)
            loss = cross_entropy(self.features[images] @ prototypes.T, self.positions[images])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += loss.detach() * len(images)
        self.schedule.step()
        return {"loss": float(total) / len(self.features)}

    def models(self) -> Iterator[tuple[Setting, Model]]:
        """Cosines with every class's prototype, times gamma^2, with each factor on the seen ones."""
        self.network.eval()
        with torch.no_grad():
            logits = GAMMA**2 * normalize(self.network(self.described), dim=1).T
        view, bias = View(self.scaling, unit="before"), logits.new_zeros(len(self.described))
        for factor in self.factors:
            weights = logits.clone()
            weights[:, self.seen] *= factor
            yield {"factor": factor}, LinearModel("class-norm", view, weights, bias, self.seen, self.unseen)
