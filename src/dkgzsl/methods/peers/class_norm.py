"""Class-Norm: class normalization for zero-shot learning (arXiv 2006.11328).

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
from dataclasses import dataclass
from math import sqrt
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from dkgzsl.config import check_ranges
from dkgzsl.methods.base import MethodInfo, Setting, Setup, Task
from dkgzsl.methods.peers.epochwise import EpochwiseMethod
from dkgzsl.methods.peers.linear_model import Columns, LinearModel, View
from dkgzsl.methods.search import Choice, Range, Space
from dkgzsl.methods.shared.scaling import Scaling, check_names, fitting_scalings
from dkgzsl.methods.shared.training import restore, seeded, state_of

SCALINGS: Final = ("none", "min-max", "square-root")
GAMMA: Final = 5.0
_MOMENTUM, _EPSILON = 0.1, 1e-5
_FIRST = 0  # place of the first weights' stream; epochs count from 1


@dataclass(frozen=True)
class ClassNormSettings:
    """A network with class normalization predicts a vector of each class, compared by cosine.

    Raises:
        ConfigError: a value is out of its range.
    """

    epochs: int = 50
    """Most passes over the training images; the epoch is chosen on validation classes."""
    hidden_size: int = 1024
    """Units of each hidden layer."""
    learning_rate: float = 5e-4
    """Adam's learning rate."""
    weight_decay: float = 1e-4
    """Adam's weight decay."""
    drop_after: int = 25
    """Epochs after which the learning rate falls to a tenth, again and again."""
    batch_size: int = 256
    """Images per step."""
    scalings: tuple[str, ...] = SCALINGS
    """Scales of the features to try: none, min-max, square-root."""
    factors: tuple[float, ...] = (1.0, 0.95)
    """Factors of the seen classes' logits to try."""

    def __post_init__(self) -> None:
        counts = {"epochs": 1, "hidden_size": 1, "drop_after": 1, "batch_size": 1}
        check_ranges(
            self,
            "class-norm.",
            at_least={**counts, "weight_decay": 0},
            above_zero=("learning_rate", "factors"),
        )
        check_names(self.scalings, SCALINGS, "class-norm.scalings")


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


@dataclass(frozen=True)
class ClassNormModel(LinearModel):
    """Scores gamma^2 cos(x, p(a_c)), times the factor for seen classes. `parameters` are the network's weights."""

    kind = "class-norm"

    def columns(self, semantics: Float[Tensor, "described semantic"]) -> Columns:
        """Of further classes: the network's prototypes."""
        first, last = self.parameters["0.weight"], self.parameters["6.weight"]
        with torch.device("meta"):
            network = prototype_network(first.shape[1], first.shape[0], last.shape[0])
        network.load_state_dict(self.parameters, assign=True)
        weights = _logit_weights(network, semantics)
        return Columns(weights, weights.new_zeros(len(semantics)))


@torch.no_grad()
def _logit_weights(
    network: nn.Module, semantics: Float[Tensor, "classes semantic"]
) -> Float[Tensor, "visual classes"]:
    """gamma^2 times each class's prototype, scaled to length 1."""
    weights: Tensor = GAMMA**2 * normalize(network.eval()(_normalised(semantics)), dim=1).T
    return weights


def _normalised(semantics: Float[Tensor, "classes semantic"]) -> Float[Tensor, "classes semantic"]:
    return sqrt(semantics.shape[1]) * normalize(semantics, dim=1)


class ClassNorm(EpochwiseMethod):
    """Scale, epoch and factor of the seen logits are chosen by the selector.

    Args:
        settings: of the training, and what to try.
        setup: the seed decides first weights and order of the images.

    Raises:
        ConfigError: the minutes are out of range.
    """

    name = "class-norm"

    def __init__(self, settings: ClassNormSettings | None = None, setup: Setup | None = None) -> None:
        self.settings = settings or ClassNormSettings()
        super().__init__(self.settings, setup, [{"scaling": scaling} for scaling in self.settings.scalings])

    def options_for(self, task: Task) -> Sequence[Setting]:
        """No square root of negative features."""
        kept = fitting_scalings(self.settings.scalings, task.features)
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
        settings, self.semantics = method.settings, task.semantics.to(features)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeded(method.seed, _FIRST).initial_seed())
            network = prototype_network(self.semantics.shape[1], settings.hidden_size, features.shape[1])
        self.network = network.to(method.device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.rate, self.drop_after = settings.learning_rate, settings.drop_after
        self.batch_size, self.factors = settings.batch_size, settings.factors
        self.seed, self.epoch = method.seed, 0

    def train_epoch(self) -> Mapping[str, float]:
        """All images once."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * 0.1 ** (self.epoch // self.drop_after)
        self.epoch += 1
        random = seeded(self.seed, self.epoch, device=self.features.device)
        order = torch.randperm(len(self.features), generator=random, device=self.features.device)
        described, total = _normalised(self.semantics)[self.seen], self.features.new_zeros(())
        self.network.train()
        for images in torch.split(order, self.batch_size):
            prototypes = GAMMA * normalize(self.network(described), dim=1)
            loss = cross_entropy(self.features[images] @ prototypes.T, self.positions[images])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += loss.detach() * len(images)
        return {"loss": float(total) / len(self.features)}

    def state(self) -> Mapping[str, Tensor]:
        """Network, its running statistics, and moments."""
        return state_of({"network": self.optimizer}, dict(self.network.named_buffers()))

    def restore(self, tensors: Mapping[str, Tensor], *, epoch: int) -> None:
        """Go on from a `state` as it was after `epoch` epochs."""
        restore(tensors, {"network": self.optimizer}, dict(self.network.named_buffers()))
        self.epoch = epoch

    def models(self) -> Iterator[tuple[Setting, ClassNormModel]]:
        """Cosines with every class's prototype, times gamma^2, with each factor on the seen ones."""
        logits = _logit_weights(self.network, self.semantics)
        view, bias = View(self.scaling, unit="before"), logits.new_zeros(len(self.semantics))
        network = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        for factor in self.factors:
            weights = logits.clone()
            weights[:, self.seen] *= factor
            model = ClassNormModel(view, weights, bias, self.seen, self.unseen, self.semantics, parameters=network)
            yield {"factor": factor}, model


def search(settings: ClassNormSettings, images: int) -> Space:
    """What `tune` tries."""
    del images
    return {
        "learning_rate": Range(1e-5, 1e-2, log=True),
        "weight_decay": Range(1e-6, 1e-2, log=True),
        "hidden_size": Range(128, 4096, log=True, whole=True),
        "scalings": Choice(settings.scalings),
    }


INFO = MethodInfo(
    name="class-norm",
    title="Class-Norm",
    paper="Skorokhodov and Elhoseiny, Class normalization for (continual)? generalized zero-shot learning, "
    "ICLR 2021",
    settings=ClassNormSettings,
    make=ClassNorm,
    models={"class-norm": ClassNormModel},
    iterative=True,
    search=search,
)
