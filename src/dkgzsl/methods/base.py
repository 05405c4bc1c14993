"""What a zero-shot method is to the rest of the package: an interface of two nouns, `Method` and `Model`.

A *method* knows how to fit a *task*; what it fits is a *model*, which scores features over all classes of the
task and may synthesize features of any described class. A method that has settings to choose offers fitted models
to a *selector*, who alone knows the held-out labels; whether the selector looks at validation images or, under the
published protocol, at test images is the protocol's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Setting = Mapping[str, Any]
"""What a method chose among: JSON values by name, enough to fit the same model again."""


@dataclass(frozen=True)
class Task:
    """All that a method may see of a problem: training images of seen classes, and every class's description.

    Classes are numbered 0 to K - 1 over seen and unseen ones alike. Test (or validation) images are not here.

    Attributes:
        features: unscaled training features, one vector an image.
        labels: class of each training image, each a seen class.
        semantics: description of every class.
        seen: classes that have training images, ascending.
        unseen: classes to be recognised without, ascending. Classes in neither are no part of the task.
        class_names: names of all K classes.
    """

    features: Float[Tensor, "images visual"]
    labels: Int[Tensor, " images"]
    semantics: Float[Tensor, "classes semantic"]
    seen: Int[Tensor, " seen"]
    unseen: Int[Tensor, " unseen"]
    class_names: tuple[str, ...] = field(default=())

    @property
    def classes(self) -> Int[Tensor, " classes"]:
        """Seen and unseen classes together, ascending."""
        return torch.cat([self.seen, self.unseen]).sort().values


@dataclass(frozen=True)
class SavedModel:
    """A model as it lies in a run folder: tensors and JSON values, nothing that can run code."""

    method: str
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


@runtime_checkable
class Model(Protocol):
    """A fitted classifier over the classes of a task.

    Scores are comparable between classes, seen and unseen, up to one constant on the unseen ones, which is the
    protocol's to choose (calibrated stacking).
    """

    @property
    def seen(self) -> Int[Tensor, " seen"]:
        """Numbers of the seen classes."""
        ...

    @property
    def unseen(self) -> Int[Tensor, " unseen"]:
        """Numbers of the unseen classes."""
        ...

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Generalized scores of unscaled features over all K classes; -inf for a class outside the task."""
        ...

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Scores for telling unseen classes from each other (CZSL); -inf for every other class."""
        ...

    def save(self) -> SavedModel:
        """The model as tensors and JSON values, from which `load` makes it again."""
        ...

    @classmethod
    def load(cls, saved: SavedModel) -> Model:
        """The model that `saved` was made from, on the CPU."""
        ...


@runtime_checkable
class Generator(Protocol):
    """A model that can synthesize features, too."""

    @property
    def semantics(self) -> Float[Tensor, "classes semantic"]:
        """Description of every class, as the task gave it."""
        ...

    def synthesize(
        self,
        semantics: Float[Tensor, "classes semantic"],
        number: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "classes number visual"]:
        """`number` features for each description, on the scale of the unscaled features."""
        ...


@runtime_checkable
class Extendable(Protocol):
    """A model whose classes may change after training."""

    @property
    def semantics(self) -> Float[Tensor, "classes semantic"]:
        """Description of every class, as the task gave it."""
        ...

    def with_classes(self, semantics: Float[Tensor, "classes semantic"], unseen: Int[Tensor, " unseen"]) -> Model:
        """The same model over other described classes; what was learned of the seen ones' images stays.

        Args:
            semantics: of all classes; class numbers that the model knows already keep their description.
            unseen: the described classes.
        """
        ...


@runtime_checkable
class FewShot(Protocol):
    """A model that takes a few photos of a class besides its description."""

    def with_photos(self, number: int, features: Float[Tensor, "images visual"]) -> Model:
        """The same model, a described class sharpened by the features of its photos."""
        ...


@runtime_checkable
class Selector(Protocol):
    """Who alone knows the labels of held-out images."""

    def __call__(self, setting: Setting, model: Model, *, candidate: bool = True) -> float:
        """Score of a model on held-out images, higher is better.

        Args:
            setting: what the model was fitted with.
            model: fitted on the explored task.
            candidate: whether this model may be the choice; otherwise it is a step on the way to one.
        """
        ...


@runtime_checkable
class Method(Protocol):
    """A way to fit tasks."""

    name: str

    def explore(self, task: Task, selector: Selector) -> None:
        """Show the selector a model for every setting worth trying, sharing the work that settings share.

        The selector remembers them all; the protocol takes the best. What the selector answers may steer the order.
        """
        ...

    def fit(self, task: Task, setting: Setting) -> Model:
        """Fit the task with a setting that `explore` has shown."""
        ...


def columns_of(
    scores: Float[Tensor, "images classes"], kept: Int[Tensor, " kept"]
) -> Float[Tensor, "images classes"]:
    """The scores with -inf in every column but the kept ones."""
    masked = torch.full_like(scores, -torch.inf)
    masked[:, kept] = scores[:, kept]
    return masked
