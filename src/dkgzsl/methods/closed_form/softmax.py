"""The closed form with another last step: a softmax on real seen and synthesized unseen features.

DKGZSL (IEEE TCSVT 2025) ends so, too. Here the features are drawn from the solved densities in the whitened space,
not from an adversarial generator. Constants are chosen with the densities themselves, which is quick; the softmax
is trained for the choice alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dkgzsl.config import SoftmaxConfig
from dkgzsl.methods.adaptation import Adaptation
from dkgzsl.methods.base import Model, SavedModel, Selector, Setting, Task
from dkgzsl.methods.closed_form.export import WhitenedFeatures
from dkgzsl.methods.closed_form.model import ClosedFormModel
from dkgzsl.methods.shared.softmax import BETAS, LinearClassifier, LinearScores, train_softmax


@dataclass(frozen=True)
class SoftmaxRecipe:
    """How a softmax was trained.

    Attributes:
        per_class: features synthesized for each described class; images a step, too.
        seen_per_class: mean number of real features of a seen class.
        epochs: passes.
        learning_rate: Adam's.
    """

    per_class: int
    seen_per_class: int
    epochs: int
    learning_rate: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SoftmaxRecipe:
        """The recipe that `content` was made from."""
        return cls(**content)


@torch.no_grad()
def with_rows(
    classifier: LinearClassifier,
    features: Float[Tensor, "images visual"],
    labels: Int[Tensor, " images"],
    classes: Int[Tensor, " classes"],
    *,
    like: Int[Tensor, " like"],
    recipe: SoftmaxRecipe,
    generator: torch.Generator,
) -> LinearClassifier:
    """A classifier over other classes: rows of known ones are kept, rows of new ones learned by cross-entropy.

    New rows start at the mean of those of `like`, and are trained by Adam (betas 0.5 and 0.999) as others were.

    Args:
        classifier: as it stands.
        features: synthesized, of old and new classes.
        labels: class of each, all of them in `classes`.
        classes: the classes to tell apart, ascending.
        like: old classes, of the kind of the new ones.
        recipe: how the others were trained.
        generator: of the features' device; decides the order.
    """
    old = torch.isin(classes, classifier.classes)
    kept = torch.isin(classifier.classes, classes)
    alike = torch.isin(classifier.classes, like)
    alike = alike if bool(alike.any()) else torch.ones_like(alike)
    weight = classifier.weight[alike].mean(0).repeat(len(classes), 1)
    bias = classifier.bias[alike].mean().repeat(len(classes))
    weight[old], bias[old] = classifier.weight[kept], classifier.bias[kept]
    if bool(old.all()):
        return LinearClassifier(weight, bias, classes)
    new_weight, new_bias = weight[~old].clone(), bias[~old].clone()
    optimizer = torch.optim.Adam([new_weight, new_bias], lr=recipe.learning_rate, betas=BETAS)
    rows = torch.searchsorted(classes, labels)
    features = features.to(weight)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(features), generator=generator, device=features.device)
        for images in torch.split(order, recipe.per_class):
            batch = features[images]
            weight[~old], bias[~old] = new_weight, new_bias
            error = torch.softmax(batch @ weight.T + bias, dim=1)
            target = rows[images][:, None]
            error.scatter_add_(1, target, error.new_full(target.shape, -1.0)).div_(len(images))
            new_weight.grad, new_bias.grad = error[:, ~old].T @ batch, error[:, ~old].sum(0)
            optimizer.step()
    weight[~old], bias[~old] = new_weight, new_bias
    return LinearClassifier(weight, bias, classes)


PER_CLASS = 100
"""Features synthesized for each unseen class, where neither settings nor preset say."""
LEARNING_RATE = 1e-3
EPOCHS = 25


@dataclass(frozen=True)
class SoftmaxModel:
    """Class densities that synthesize, and two softmax classifiers trained on what they give.

    Attributes:
        densities: the generator and the space.
        generalized: over all classes of the task.
        conventional: over the unseen ones.
        recipe: how the classifiers were trained.
    """

    densities: ClosedFormModel
    generalized: LinearClassifier
    conventional: LinearClassifier
    recipe: SoftmaxRecipe

    @property
    def seen(self) -> Int[Tensor, " seen"]:
        """Numbers of the seen classes."""
        return self.densities.seen

    @property
    def unseen(self) -> Int[Tensor, " unseen"]:
        """Numbers of the unseen classes."""
        return self.densities.unseen

    @property
    def semantics(self) -> Float[Tensor, "classes semantic"]:
        """Descriptions of all classes, as they were given."""
        return self.densities.semantics

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log probabilities over all classes of the task; -inf for others."""
        return self._columns(self.generalized, features)

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Log probabilities over the unseen classes; -inf for others."""
        return self._columns(self.conventional, features)

    def _columns(self, classifier: LinearClassifier, features: Tensor) -> Tensor:
        known = classifier.log_probabilities(self.densities.space.whitened(features))
        scores = known.new_full((len(known), self.densities.classes), -torch.inf)
        scores[:, classifier.classes] = known
        return scores

    def synthesize(
        self, semantics: Float[Tensor, "classes semantic"], number: int, generator: torch.Generator
    ) -> Float[Tensor, "classes number visual"]:
        """Draws from the class densities."""
        return self.densities.synthesize(semantics, number, generator)

    def scores_module(self) -> nn.Module:
        """Features to the generalized classifier's logits."""
        classifier = self.generalized
        return nn.Sequential(
            WhitenedFeatures(self.densities.space.whitened), LinearScores(classifier.weight, classifier.bias)
        )

    def with_classes(
        self, semantics: Float[Tensor, "classes semantic"], unseen: Int[Tensor, " unseen"]
    ) -> SoftmaxModel:
        """The same densities over other described classes, whose rows of both classifiers are trained."""
        return self._over(self.densities.with_classes(semantics, unseen), learned=self.unseen)

    def with_photos(self, number: int, features: Float[Tensor, "images visual"]) -> SoftmaxModel:
        """The same densities, a described class moved by features of photos, its rows trained again."""
        densities = self.densities.with_photos(number, features)
        return self._over(densities, learned=self.unseen[self.unseen != number])

    @property
    def adaptation(self) -> Adaptation | None:
        """What the densities were adapted to; None: they were not."""
        return self.densities.adaptation

    def adapted(self, features: Float[Tensor, "images visual"]) -> SoftmaxModel:
        """The same densities, adapted to photos without labels; described classes train their rows again."""
        return self._over(self.densities.adapted(features), learned=self.unseen[:0])

    def _over(self, densities: ClosedFormModel, *, learned: Int[Tensor, " learned"]) -> SoftmaxModel:
        """With other densities; the rows of the seen classes and of `learned` ones stay as they are."""
        random, recipe = torch.Generator().manual_seed(densities.classes), self.recipe
        unseen = densities.unseen.sort().values

        def drawn(classes: Tensor, number: int) -> tuple[Tensor, Tensor]:
            made = densities.draw_whitened(classes, number, random)
            return made.flatten(0, 1), classes.repeat_interleave(number)

        described, seen = drawn(unseen, recipe.per_class), drawn(densities.seen, recipe.seen_per_class)

        order = torch.Generator(seen[0].device).manual_seed(densities.classes)

        def trained(
            before: LinearClassifier, features: Tensor, labels: Tensor, classes: Tensor
        ) -> LinearClassifier:
            kept = torch.isin(before.classes, torch.cat([densities.seen, learned]))
            if not bool(kept.any()):  # no row to begin with: all are trained, as they were at first
                *_, last = train_softmax(
                    features,
                    labels,
                    classes,
                    epochs=recipe.epochs,
                    batch_size=recipe.per_class,
                    learning_rate=recipe.learning_rate,
                    generator=order,
                )
                return last
            stays = LinearClassifier(before.weight[kept], before.bias[kept], before.classes[kept])
            return with_rows(stays, features, labels, classes, like=learned, recipe=recipe, generator=order)

        both = torch.cat([described[0], seen[0]]), torch.cat([described[1], seen[1]])
        return SoftmaxModel(
            densities,
            trained(self.generalized, *both, torch.cat([densities.seen, unseen]).sort().values),
            trained(self.conventional, *described, unseen),
            recipe,
        )

    def save(self) -> SavedModel:
        """The densities, and both classifiers."""
        inner = self.densities.save()
        tensors = dict(inner.tensors)
        for name in ("generalized", "conventional"):
            classifier: LinearClassifier = getattr(self, name)
            tensors |= {
                f"{name}.weight": classifier.weight,
                f"{name}.bias": classifier.bias,
                f"{name}.classes": classifier.classes,
            }
        return SavedModel("closed-form-softmax", tensors, {**inner.values, "recipe": self.recipe.to_json()})

    @classmethod
    def load(cls, saved: SavedModel) -> SoftmaxModel:
        """The model that `saved` was made from."""

        def classifier(name: str) -> LinearClassifier:
            parts: dict[str, Any] = {
                part: saved.tensors[f"{name}.{part}"] for part in ("weight", "bias", "classes")
            }
            return LinearClassifier(**parts)

        recipe = SoftmaxRecipe.from_json(saved.values["recipe"])
        return cls(ClosedFormModel.load(saved), classifier("generalized"), classifier("conventional"), recipe)


@runtime_checkable
class Densities(Protocol):
    """The method whose densities are chosen and drawn from: the part of `ClosedForm` that is used here."""

    seed: int

    def explore(self, task: Task, selector: Selector) -> None:
        """Show the selector a model for every setting."""
        ...

    def fit(self, task: Task, setting: Setting) -> ClosedFormModel:
        """Fit one setting."""
        ...


class ClosedFormSoftmax:
    """Choose constants by density, then train the softmax that is scored.

    Args:
        densities: the method that solves and chooses.
        config: of the classifier; what it leaves open takes this module's defaults.
    """

    name = "closed-form"

    def __init__(self, densities: Densities, config: SoftmaxConfig) -> None:
        self.densities, self.config = densities, config

    def explore(self, task: Task, selector: Selector) -> None:
        """One candidate: the softmax on features of the best densities."""
        evaluations: list[tuple[float, Setting]] = []

        def on_the_way(setting: Setting, model: Model, *, candidate: bool = True) -> float:
            score = selector(setting, model, candidate=False)
            if candidate:
                evaluations.append((score, setting))
            return score

        self.densities.explore(task, on_the_way)
        setting = max(evaluations, key=lambda one: one[0])[1]
        selector({**setting, "classifier": "softmax"}, self.fit(task, setting))  # an evaluation of its own

    def fit(self, task: Task, setting: Setting) -> SoftmaxModel:
        """Solve, synthesize unseen classes, train both classifiers."""
        densities = self.densities.fit(task, setting)
        per_class = self.config.per_class or PER_CLASS
        stream = torch.Generator().manual_seed(self.densities.seed)  # draws on the CPU, so that devices agree
        drawn = densities.synthesize_whitened(densities.semantics[densities.unseen], per_class, stream)
        order = torch.Generator(drawn.device).manual_seed(self.densities.seed)
        drawn_labels = densities.unseen.repeat_interleave(per_class)
        real = densities.space.whitened(task.features)
        labels = task.labels.to(drawn_labels.device)
        both = torch.cat([real, drawn.flatten(0, 1)]), torch.cat([labels, drawn_labels])
        return SoftmaxModel(
            densities,
            self._last(both, task.classes.to(drawn.device), order),
            self._last((drawn.flatten(0, 1), drawn_labels), densities.unseen, order),
            SoftmaxRecipe(
                per_class=per_class,
                seen_per_class=max(1, round(len(task.labels) / len(task.seen))),
                epochs=self.config.epochs or EPOCHS,
                learning_rate=self.config.learning_rate or LEARNING_RATE,
            ),
        )

    def _last(self, data: tuple[Tensor, Tensor], classes: Tensor, order: torch.Generator) -> LinearClassifier:
        passes = train_softmax(
            *data,
            classes,
            epochs=self.config.epochs or EPOCHS,
            batch_size=self.config.per_class or PER_CLASS,
            learning_rate=self.config.learning_rate or LEARNING_RATE,
            generator=order,
        )
        *_, last = passes
        return last
