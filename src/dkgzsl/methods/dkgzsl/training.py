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

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from math import ceil
from weakref import ref

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from dkgzsl.distributed import ALONE, Processes
from dkgzsl.methods.dkgzsl.networks import Guidance, Knowledge, Networks
from dkgzsl.methods.dkgzsl.settings import AdversarialSettings
from dkgzsl.methods.shared.critic import critic_gradients
from dkgzsl.methods.shared.softmax import BETAS
from dkgzsl.methods.shared.training import (
    Batches,
    Drawn,
    draw_batches,
    gradient_memory,
    seeded,
    transposed_product,
)
from dkgzsl.repeated import Repeated, has_graphs

_WEIGHTS, _EPOCH = 0, 1  # places of random streams; `method.py` has further ones


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
        for network in (self.networks.critic, self.networks.knowledge):
            network.requires_grad_(False)  # their gradients are written out
        self.penalty_weight = torch.tensor(settings.penalty_weight, device=features.device, dtype=features.dtype)
        self.optimizers = {
            name: torch.optim.Adam(
                getattr(self.networks, name).parameters(),
                lr=settings.fusion_learning_rate if name == "fusion" else settings.learning_rate,
                betas=BETAS,
                fused=True,
                capturable=has_graphs(features.device),
            )
            for name in ("knowledge", "fusion", "generator", "critic")
        }
        self._repeat()

    def _repeat(self) -> None:
        """Repeat iterations by graphs from now on, where the device has them; with several processes without."""
        self._repeated: dict[bool, Repeated[Drawn]] = {}
        if has_graphs(self.features.device) and self.processes.size == 1:
            for guided in (False, True):
                self._repeated[guided] = Repeated(partial(self.iterate, guided=guided), self.state)

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
            drawn = self._drawn(batches, start, random)
            sums += self._repeated[guided](drawn) if self._repeated else self.iterate(drawn, guided=guided)
        return sums / rounds

    def iteration(
        self, batches: Batches, start: int, random: torch.Generator, *, guided: bool
    ) -> Float[Tensor, " 4"]:
        """An iteration on `critic_steps` batches; see `iterate`.

        Args:
            batches: of the pass.
            start: the first batch of the iteration.
            random: source of noise and mixtures, drawn in the order of the steps.
            guided: whether MFU guides the generator, and steps with it.
        """
        return self.iterate(self._drawn(batches, start, random), guided=guided)

    def iterate(self, drawn: Drawn, *, guided: bool) -> Float[Tensor, " 4"]:
        """A step of KTN and of the critic on each of `critic_steps` batches, then one of generator and MFU.

        KTN learns from images alone, and generator and MFU stay as they are until the end. So KTN takes all its
        steps first, and one product makes the generated features of all critic steps.

        Args:
            drawn: batches, noise and mixtures.
            guided: whether MFU guides the generator, and steps with it.

        Returns:
            Means over the critic steps of distance, penalty and KTN's loss; the generator's loss.
        """
        steps = [_Batch(self, drawn, number) for number in range(len(drawn.images))]
        known = [self._knowledge_step(batch, guided=guided) for batch in steps]
        guidance = self._guidance_of(steps, [knowledge for knowledge, _ in known if knowledge is not None])
        fakes = self._generated(steps, drawn.noise.flatten(0, 1), guidance)
        sums = self.penalty_weight.new_zeros(4)
        for batch, fake, mix, (_, knowledge_loss) in zip(steps, fakes, drawn.mix, known, strict=True):
            distance, penalty = self._critic_step(batch, fake, mix)
            sums[:3] += torch.stack([distance, penalty, knowledge_loss])
        sums /= len(steps)
        self._adapt_penalty_weight(sums[1])
        sums[3] = self._generator_step(steps[-1], guidance[-1] if guidance else None, drawn.last_noise)
        return sums

    def _drawn(self, batches: Batches, start: int, random: torch.Generator) -> Drawn:
        """Batches, noise and mixtures of an iteration, in the order in which its steps use them.

        Noise is drawn for whole batches and then cut to the own slice, so that it does not depend on the slices.
        """
        here = slice(start, start + self.settings.critic_steps)
        size, like = batches.images.shape[1], self.semantics
        own = self.processes.own(size)

        def draw(function: Callable[..., Tensor], width: int) -> Tensor:
            drawn = function(size, width, generator=random, device=like.device, dtype=like.dtype)
            return drawn[own]

        classes = batches.classes[here]
        if self._repeated:  # a graph's tensors have one shape in all epochs
            width = min(size, len(like))
            classes = torch.cat([classes, classes[:, :1].expand(-1, width - classes.shape[1])], dim=1)
        steps = range(self.settings.critic_steps)
        draws = [(draw(torch.randn, like.shape[1]), draw(torch.rand, 1)) for _ in steps]
        noises, mixes = (torch.stack(parts) for parts in zip(*draws, strict=True))
        parts = (batches.images[here], batches.labels[here], classes, batches.slots[here])
        return Drawn(*parts, noises, mixes, draw(torch.randn, like.shape[1]))

    @torch.no_grad()
    def _knowledge_step(self, batch: _Batch, *, guided: bool) -> tuple[Knowledge | None, Float[Tensor, ""]]:
        """One step of KTN; returns what it then knows of the batch's classes (guided), and its loss.

        The reconstruction depends on the class alone: an image's cross-entropy is softplus(k2) - k2 x, so
        that the batch needs one row a class, the images' number and sum. Gradients are written out.
        """
        network, low = self.networks.knowledge, self.features.dtype
        described, weight = batch.semantics.to(low), network.visual.weight.to(low)
        with self._precision():
            hidden, visual = network(described)
        visual = visual.to(batch.sums.dtype)
        scale = self.settings.knowledge_weight / batch.size
        loss = (batch.counts[:, None] * functional.softplus(visual) - visual * batch.sums).sum() * scale

        by_visual = (batch.counts[:, None] * torch.sigmoid(visual) - batch.sums).mul_(scale)
        by_hidden = (by_visual.to(low) @ weight).masked_fill_(hidden <= 0, 0)
        transposed_product(by_visual, hidden, gradient_memory(network.visual.weight))
        transposed_product(by_hidden, described, gradient_memory(network.hidden.weight))
        network.visual.bias.grad = by_visual.sum(dim=0)
        network.hidden.bias.grad = by_hidden.sum(dim=0, dtype=visual.dtype)
        self._step("knowledge")
        if not guided:
            return None, loss
        with self._precision():
            return network(described), loss

    def _guidance_of(self, steps: Sequence[_Batch], known: Sequence[Knowledge]) -> list[Guidance]:
        """Guidance for each batch's classes, with derivatives for the last batch; nothing where none is known."""
        if not known:
            return []
        fusion, weight = self.networks.fusion, self.settings.fusion_weight
        made: list[Guidance] = []
        with self._precision():
            if len(steps) > 1:
                classes = torch.cat([batch.classes for batch in steps[:-1]])
                with torch.no_grad():
                    terms = fusion.semantic_terms(self.semantics)
                    spread = Guidance(*(term.index_select(0, classes) for term in terms))
                    joined = Knowledge(*(torch.cat(level) for level in zip(*known[:-1], strict=True)))
                    levels = fusion(joined, spread, weight=weight)
                sizes = [len(batch.classes) for batch in steps[:-1]]
                made += [Guidance(*parts) for parts in zip(*(level.split(sizes) for level in levels), strict=True)]
            made.append(fusion(known[-1], fusion.semantic_terms(steps[-1].semantics), weight=weight))
        return made

    @torch.no_grad()
    def _generated(
        self, steps: Sequence[_Batch], noise: Float[Tensor, "rows semantic"], guidance: Sequence[Guidance]
    ) -> Sequence[Float[Tensor, "images visual"]]:
        """Generated features of each batch, from the noise of all, one batch after the other."""
        generator = self.networks.generator
        with self._precision():
            class_part = generator.semantic(self.semantics).index_select(0, torch.cat([b.labels for b in steps]))
            spread = None
            if guidance:
                rows = [
                    [level.index_select(0, batch.slots) for level in by_class]
                    for batch, by_class in zip(steps, guidance, strict=True)
                ]
                spread = Guidance(*(torch.cat(level) for level in zip(*rows, strict=True)))
            fakes: Tensor = generator(noise, class_part, spread).to(self.features.dtype)
        return torch.split(fakes, [len(batch.slots) for batch in steps])

    def _critic_step(
        self, batch: _Batch, fake: Float[Tensor, "images visual"], mix: Float[Tensor, "images 1"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """One step of the critic on the batch and as many generated features; returns distance and penalty."""
        figures = critic_gradients(
            self.networks.critic,
            batch.real,
            fake,
            batch.semantics,
            batch.slots,
            batch.members,
            mix,
            gamma=self.settings.gamma,
            penalty_weight=self.penalty_weight,
        )
        distance, penalty = self.processes.summed(self.networks.critic.parameters(), figures, of=batch.size)
        self._step("critic")
        return distance, penalty

    def _generator_step(
        self, batch: _Batch, by_class: Guidance | None, noise: Float[Tensor, "images semantic"]
    ) -> Float[Tensor, ""]:
        """One step of the generator, and of MFU where guided, on the batch's classes; returns the loss.

        Classes are spread over images by a product with `members`, whose derivative adds up in a fixed order.
        """
        networks = self.networks
        with self._precision():
            guidance = None if by_class is None else Guidance(*(batch.members @ level for level in by_class))
            class_part = batch.members @ networks.generator.semantic(batch.semantics)
            fake = networks.generator(noise, class_part, guidance)
            with torch.no_grad():
                critic_part = networks.critic.semantic(batch.semantics).index_select(0, batch.slots)
            loss = -self.settings.gamma * networks.critic(fake, critic_part).mean(dtype=noise.dtype)
        loss.backward()
        stepped = ["generator"] if by_class is None else ["generator", "fusion"]
        parameters = [one for name in stepped for one in getattr(networks, name).parameters()]
        (mean,) = self.processes.summed(parameters, [loss.detach()], of=batch.size)
        for name in stepped:
            self._step(name)
        for unit in (networks.fusion.hidden, networks.fusion.visual):
            unit.scale.grad = None  # the gradients of the layers are overwritten, this one would add up
        return mean

    def _adapt_penalty_weight(self, penalty: Float[Tensor, ""]) -> None:
        """lambda times 1.1 where the mean penalty is above 1.05, through 1.1 where it is below 1.001."""
        raised, lowered = self.penalty_weight * 1.1, self.penalty_weight / 1.1
        kept = torch.where(penalty < 1.001, lowered, self.penalty_weight)
        self.penalty_weight.copy_(torch.where(penalty > 1.05, raised, kept))

    def _step(self, name: str) -> None:
        self.optimizers[name].step()

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
        self.penalty_weight = tensors["penalty_weight"].to(device, copy=True)
        for name, optimizer in self.optimizers.items():
            state = optimizer.state_dict()
            prefix = f"optimizer.{name}."
            for key, tensor in tensors.items():
                if key.startswith(prefix):
                    position, moment = key.removeprefix(prefix).split(".")
                    state["state"].setdefault(int(position), {})[moment] = tensor
            optimizer.load_state_dict(state)
        self.epoch = epoch
        self._repeat()


class _Batch:
    """One batch, and what its steps share: `real`, `slots`, `members` and `labels` of the process's own slice."""

    def __init__(self, training: AdversarialTraining, drawn: Drawn, number: int) -> None:
        self.size = len(drawn.slots[number])
        own = training.processes.own(self.size)
        self.labels, self.classes = drawn.labels[number][own], drawn.classes[number]
        self.semantics = training.semantics.index_select(0, self.classes)
        real = training.features.index_select(0, drawn.images[number])
        width = torch.arange(len(self.classes), device=self.classes.device)
        members = (drawn.slots[number][:, None] == width).to(self.semantics.dtype)
        self.counts = members.sum(dim=0)  # of the whole batch, for KTN
        self.sums = members.T @ real.to(members.dtype)
        self.real, self.members, self.slots = real[own], members[own], drawn.slots[number][own]


_followed: ref[AdversarialTraining] | None = None
"""The training whose data and state the other processes have."""
