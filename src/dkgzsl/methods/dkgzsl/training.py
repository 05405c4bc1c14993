"""Training of the published form: a conditional WGAN-GP whose generator is guided by the knowledge of KTN.

One epoch is two passes, unguided and guided. A pass has ceil(images / batch size) generator steps; each follows
`critic_steps` critic steps, each on a batch of its own and each with one step of KTN before it. MFU steps
with the generator, in the guided pass only.

What the published description leaves open, and how it is done here:
- Guidance uses KTN's weights after its step on the same batch; the generator's step reuses the last critic batch's
  classes and knowledge.
- MFU steps along the gradient of its own step. The released code never clears MFU's gradients, so that there they
  add up over the whole run.

Several processes (`dkgzsl.distributed`) draw the same numbers for the whole batch. Each takes its own slice of it
for critic and generator, whose gradients are then summed. KTN's step depends on the batch's classes alone, of
which a slice has nearly as many: every process takes it whole, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal
from weakref import ref

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from dkgzsl.distributed import ALONE, Handler, Processes, device_here
from dkgzsl.errors import ConfigError
from dkgzsl.methods.dkgzsl.networks import Guidance, Knowledge, Networks
from dkgzsl.methods.shared.critic import critic_gradients
from dkgzsl.methods.shared.softmax import BETAS
from dkgzsl.methods.shared.training import Batches, draw_batches, seeded

_WEIGHTS, _EPOCH = 0, 1  # places of random streams; `method.py` has further ones


@dataclass(frozen=True)
class AdversarialSettings:
    """All that decides the training, given features and descriptions; meanings and ranges as in the configuration.

    Raises:
        ConfigError: a number is out of its range.
    """

    hidden_size: int
    batch_size: int
    learning_rate: float
    fusion_learning_rate: float
    gamma: float
    penalty_weight: float = 10.0
    critic_steps: int = 5
    knowledge_weight: float = 0.1
    fusion_weight: float = 0.1
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("batch_size", "critic_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.hidden_size < 2:
            raise ConfigError(f"hidden_size must be at least 2, not {self.hidden_size}")
        for name in ("learning_rate", "fusion_learning_rate", "gamma", "penalty_weight"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("knowledge_weight", "fusion_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be 0 or above, not {getattr(self, name)}")


class AdversarialTraining:
    """The networks in training, with everything that the next epoch depends on: a plain state.

    Nothing is copied to the host and nothing waits for the device between the beginning and the end of a pass.

    Args:
        features: training features in [0, 1], on the device that computes.
        labels: class of each image as a row of `semantics`.
        semantics: descriptions of the seen classes.
        settings: what decides the training.
        seed: with the epoch's number it decides order, noise and first weights.
        processes: that share the work. Process 0 trains as ever; the others do what `Follower` does.

    Raises:
        ConfigError: a batch has fewer images than there are processes.

    Attributes:
        networks: KTN, MFU, generator and critic.
        penalty_weight: lambda, which adapts.
        epoch: epochs done.
    """

    def __init__(
        self,
        features: Float[Tensor, "images visual"],
        labels: Int[Tensor, " images"],
        semantics: Float[Tensor, "classes semantic"],
        settings: AdversarialSettings,
        *,
        seed: int,
        processes: Processes = ALONE,
    ) -> None:
        self.settings, self.seed, self.epoch = settings, seed, 0
        self.processes = processes
        processes.own(min(settings.batch_size, len(labels)))  # raises where a batch is too small
        self.labels, self.semantics = labels, semantics
        low = torch.bfloat16 if settings.precision == "bfloat16" else features.dtype
        self.features = features.to(low)
        networks = Networks.initialised(
            semantics.shape[1], settings.hidden_size, features.shape[1], seeded(seed, _WEIGHTS)
        )
        self.networks = networks.to(features.device, features.dtype)
        self.networks.critic.requires_grad_(False)  # its gradients are written out
        self.penalty_weight = torch.tensor(settings.penalty_weight, device=features.device, dtype=features.dtype)
        self.optimizers = {
            name: torch.optim.Adam(
                getattr(self.networks, name).parameters(),
                lr=settings.fusion_learning_rate if name == "fusion" else settings.learning_rate,
                betas=BETAS,
                fused=True,
            )
            for name in ("knowledge", "fusion", "generator", "critic")
        }

    def train_epoch(self) -> Mapping[str, float]:
        """Train one epoch: an unguided pass, a guided pass.

        Returns:
            Means over the epoch: `distance` (E D(real) - E D(fake)), `penalty` ((|g| - 1)^2), `knowledge_loss`
            and `generator_loss`; and lambda at its end, `penalty_weight`.
        """
        if self.processes.leads and self.processes.size > 1:
            self._call_followers()
        self.processes.same([*self.networks.parameters(), self.penalty_weight])
        random = seeded(self.seed, _EPOCH, self.epoch, device=self.features.device)
        figures = [self._train_pass(random, guided=guided) for guided in (False, True)]
        self.epoch += 1
        names = ("distance", "penalty", "knowledge_loss", "generator_loss", "penalty_weight")
        values = torch.cat([torch.stack(figures).mean(dim=0), self.penalty_weight[None]])
        return dict(zip(names, values.tolist(), strict=True))

    def _call_followers(self) -> None:
        """Let the other processes train the same epoch; they get data and state where they do not have them."""
        global _followed
        if _followed is None or _followed() is not self:
            data = {"features": self.features, "labels": self.labels, "semantics": self.semantics}
            values = {"settings": asdict(self.settings), "seed": self.seed, "epoch": self.epoch}
            tensors = {f"data.{name}": tensor for name, tensor in data.items()}
            device = str(self.features.device)
            self.processes.send("dkgzsl", {**values, "device": device}, tensors | self.state())
            _followed = ref(self)
        self.processes.send("dkgzsl epoch", {}, {})

    def _train_pass(self, random: torch.Generator, *, guided: bool) -> Float[Tensor, " 4"]:
        """Train one pass; returns the means of the four figures."""
        size = min(self.settings.batch_size, len(self.labels))
        rounds = ceil(len(self.labels) / size)
        critic_steps = self.settings.critic_steps
        batches = draw_batches(self.labels, number=rounds * critic_steps, size=size, random=random)
        sums = self.penalty_weight.new_zeros(4)
        for start in range(0, rounds * critic_steps, critic_steps):
            fixed = self._fixed_between_generator_steps(guided=guided)
            penalty = self.penalty_weight.new_zeros(())
            for number in range(start, start + critic_steps):
                batch = _Batch(self, batches, number)
                knowledge, knowledge_loss = self._knowledge_step(batch, guided=guided)
                distance, step_penalty = self._critic_step(batch, knowledge, fixed, random)
                penalty += step_penalty / critic_steps
                sums[0] += distance / critic_steps
                sums[2] += knowledge_loss / critic_steps
            self._adapt_penalty_weight(penalty)
            sums[1] += penalty
            sums[3] += self._generator_step(batch, knowledge, random)
        return sums / rounds

    def _knowledge_step(self, batch: _Batch, *, guided: bool) -> tuple[Knowledge | None, Float[Tensor, ""]]:
        """One step of KTN; returns what it then knows of the batch's classes (guided), and its loss.

        The reconstruction depends on the class alone: an image's cross-entropy is softplus(k2) - k2 x, so
        that the batch needs one row a class, the images' number and sum.
        """
        network = self.networks.knowledge
        with self._precision():
            visual = network(batch.semantics).visual.to(batch.sums.dtype)
        entropy = batch.counts[:, None] * functional.softplus(visual) - visual * batch.sums
        loss = entropy.sum() * (self.settings.knowledge_weight / batch.size)
        loss.backward()
        self._step("knowledge")
        if not guided:
            return None, loss.detach()
        with torch.no_grad(), self._precision():
            return network(batch.semantics), loss.detach()

    def _critic_step(
        self, batch: _Batch, knowledge: Knowledge | None, fixed: _Fixed, random: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """One step of the critic on the batch and as many generated features; returns distance and penalty."""
        noise = self._noise(batch, random)
        with torch.no_grad(), self._precision():
            guidance = None
            if knowledge is not None and fixed.semantic_terms is not None:
                terms = Guidance(*(term.index_select(0, batch.classes) for term in fixed.semantic_terms))
                by_class = self.networks.fusion(knowledge, terms, weight=self.settings.fusion_weight)
                guidance = Guidance(*(level.index_select(0, batch.slots) for level in by_class))
            class_part = fixed.class_part.index_select(0, batch.labels)
            fake = self.networks.generator(noise, class_part, guidance)
        mix = torch.rand(batch.size, 1, generator=random, device=noise.device, dtype=noise.dtype)
        figures = critic_gradients(
            self.networks.critic,
            batch.real,
            fake.to(batch.real.dtype),
            batch.semantics,
            batch.slots,
            batch.members,
            mix[batch.own],
            gamma=self.settings.gamma,
            penalty_weight=self.penalty_weight,
        )
        distance, penalty = self.processes.summed(self.networks.critic.parameters(), figures, of=batch.size)
        self._step("critic")
        return distance, penalty

    def _generator_step(
        self, batch: _Batch, knowledge: Knowledge | None, random: torch.Generator
    ) -> Float[Tensor, ""]:
        """One step of the generator, and of MFU where guided, on the batch's classes; returns the loss.

        Classes are spread over images by a product with `members`, whose derivative adds up in a fixed order.
        """
        networks, noise = self.networks, self._noise(batch, random)
        with self._precision():
            guidance = None
            if knowledge is not None:
                terms = networks.fusion.semantic_terms(batch.semantics)
                by_class = networks.fusion(knowledge, terms, weight=self.settings.fusion_weight)
                guidance = Guidance(*(batch.members @ level for level in by_class))
            class_part = batch.members @ networks.generator.semantic(batch.semantics)
            fake = networks.generator(noise, class_part, guidance)
            with torch.no_grad():
                critic_part = networks.critic.semantic(batch.semantics).index_select(0, batch.slots)
            loss = -self.settings.gamma * networks.critic(fake, critic_part).mean(dtype=noise.dtype)
        loss.backward()
        stepped = ["generator"] if knowledge is None else ["generator", "fusion"]
        parameters = [one for name in stepped for one in getattr(networks, name).parameters()]
        (mean,) = self.processes.summed(parameters, [loss.detach()], of=batch.size)
        for name in stepped:
            self._step(name)
        return mean

    def _adapt_penalty_weight(self, penalty: Float[Tensor, ""]) -> None:
        """lambda times 1.1 where the mean penalty is above 1.05, through 1.1 where it is below 1.001."""
        raised, lowered = self.penalty_weight * 1.1, self.penalty_weight / 1.1
        kept = torch.where(penalty < 1.001, lowered, self.penalty_weight)
        self.penalty_weight = torch.where(penalty > 1.05, raised, kept)

    def _fixed_between_generator_steps(self, *, guided: bool) -> _Fixed:
        with torch.no_grad(), self._precision():
            terms = self.networks.fusion.semantic_terms(self.semantics) if guided else None
            return _Fixed(self.networks.generator.semantic(self.semantics), terms)

    def _noise(self, batch: _Batch, random: torch.Generator) -> Float[Tensor, "images semantic"]:
        """Noise of the own slice: drawn for the whole batch, so that it does not depend on the slices."""
        like, size = self.semantics, (batch.size, self.semantics.shape[1])
        return torch.randn(size, generator=random, device=like.device, dtype=like.dtype)[batch.own]

    def _step(self, name: str) -> None:
        self.optimizers[name].step()
        self.optimizers[name].zero_grad(set_to_none=True)

    def _precision(self) -> AbstractContextManager[None]:
        low = self.settings.precision == "bfloat16"
        return torch.autocast(self.features.device.type, torch.bfloat16, enabled=low)

    def state(self) -> dict[str, Tensor]:
        """Everything that the next epoch depends on, besides the arguments and the number of epochs done."""
        tensors = {f"networks.{name}": tensor for name, tensor in self.networks.state_dict().items()}
        tensors["penalty_weight"] = self.penalty_weight
        for name, optimizer in self.optimizers.items():
            for position, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{name}.{position}.{key}": value for key, value in moments.items()}
        return tensors

    def restore(self, tensors: Mapping[str, Tensor], *, epoch: int) -> None:
        """Continue from a `state` as it was after `epoch` epochs.

        Raises:
            ValueError: the state is of other networks.
        """
        global _followed
        _followed = None  # the other processes have another state
        device = self.features.device
        prefix = "networks."
        weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        ours = self.networks.state_dict()
        if {n: t.shape for n, t in weights.items()} != {n: t.shape for n, t in ours.items()}:
            raise ValueError("the state belongs to networks of another size")
        self.networks.load_state_dict(weights)
        self.penalty_weight = tensors["penalty_weight"].to(device)
        for name, optimizer in self.optimizers.items():
            state = optimizer.state_dict()
            prefix = f"optimizer.{name}."
            for key, tensor in tensors.items():
                if key.startswith(prefix):
                    position, moment = key.removeprefix(prefix).split(".")
                    state["state"].setdefault(int(position), {})[moment] = tensor
            optimizer.load_state_dict(state)
        self.epoch = epoch


@dataclass(frozen=True)
class _Fixed:
    """What the seen classes' descriptions alone decide, until the generator and MFU step again."""

    class_part: Float[Tensor, "classes hidden"]
    semantic_terms: Guidance | None


class _Batch:
    """One batch, and what its steps share: `real`, `slots`, `members` and `labels` of the process's own slice."""

    def __init__(self, training: AdversarialTraining, batches: Batches, number: int) -> None:
        self.size = len(batches.slots[number])
        self.own = training.processes.own(self.size)
        self.labels, self.classes = batches.labels[number][self.own], batches.classes[number]
        self.semantics = training.semantics.index_select(0, self.classes)
        real = training.features.index_select(0, batches.images[number])
        width = torch.arange(len(self.classes), device=self.classes.device)
        members = (batches.slots[number][:, None] == width).to(self.semantics.dtype)
        self.counts = members.sum(dim=0)  # of the whole batch, for KTN
        self.sums = members.T @ real.to(members.dtype)
        self.real, self.members, self.slots = real[self.own], members[self.own], batches.slots[number][self.own]


_followed: ref[AdversarialTraining] | None = None
"""The training whose data and state the other processes have."""


class Follower:
    """What a process other than the first does of a training: the epochs that process 0 begins.

    Args:
        processes: that share the work.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._training: AdversarialTraining | None = None

    @property
    def handlers(self) -> dict[str, Handler]:
        """For `Processes.serve`."""
        return {"dkgzsl": self._begin, "dkgzsl epoch": self._train_epoch}

    def _begin(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        device = device_here(torch.device(values["device"]))
        features, labels, semantics = (
            tensors[f"data.{name}"].to(device) for name in ("features", "labels", "semantics")
        )
        self._training = AdversarialTraining(
            features.to(semantics.dtype),
            labels,
            semantics,
            AdversarialSettings(**values["settings"]),
            seed=values["seed"],
            processes=self._processes,
        )
        self._training.restore(tensors, epoch=values["epoch"])

    def _train_epoch(self, *_: Mapping[str, Any]) -> None:
        assert self._training is not None, "process 0 begins a training before its first epoch"
        self._training.train_epoch()
