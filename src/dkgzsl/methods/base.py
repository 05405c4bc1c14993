"""What a zero-shot method is to the rest of the package: an interface of two nouns, `Method` and `Model`.

A *method* fits a *task*; what it fits is a *model*, which scores features over all classes of the task. A method
that has settings to choose offers fitted models to a *selector*, which holds the held-out labels: a method never
sees them. Whether the selector scores validation images or, under the protocol `oracle`, test images, is the
protocol's decision.

What a model can do besides scoring is a *capability*: `Generator`, `Extendable`, `FewShot`, `Exportable`,
`Adaptable`. A model has a capability when it has its methods; nobody asks for a class by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dkgzsl.methods.adaptation import Adaptation

if TYPE_CHECKING:
    from dkgzsl.methods.search import Space

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
    """A model as it lies in a run folder: tensors and JSON values, nothing that can run code.

    Attributes:
        kind: name of the kind of model, as `MethodInfo.models` has it.
        tensors: by name.
        values: JSON values by name.
    """

    kind: str
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


@runtime_checkable
class Model(Protocol):
    """A fitted classifier over the classes of a task.

    Scores are comparable between classes, seen and unseen, up to one constant on the unseen ones, which the
    protocol chooses (calibrated stacking).
    """

    @property
    def seen(self) -> Int[Tensor, " seen"]:
        """Numbers of the seen classes."""
        ...

    @property
    def unseen(self) -> Int[Tensor, " unseen"]:
        """Numbers of the unseen classes."""
        ...

    @property
    def semantics(self) -> Float[Tensor, "classes semantic"]:
        """Description of every class, as the task gave it."""
        ...

    def scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Generalized scores of unscaled features over all K classes; -inf for a class outside the task."""
        ...

    def conventional_scores(self, features: Float[Tensor, "images visual"]) -> Float[Tensor, "images classes"]:
        """Scores among the unseen classes (CZSL); -inf for every other class."""
        ...

    def save(self) -> SavedModel:
        """The model as tensors and JSON values, from which `load` makes it again."""
        ...

    @classmethod
    def load(cls, saved: SavedModel) -> Model:
        """The model that `saved` was made from, on the CPU.

        Raises:
            RunError: a version of this package made the file that this one does not read.
        """
        ...


@runtime_checkable
class Generator(Protocol):
    """Capability: the model synthesizes features of a described class."""

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
    """Capability: the model's classes may change after training."""

    def with_classes(self, semantics: Float[Tensor, "classes semantic"], unseen: Int[Tensor, " unseen"]) -> Model:
        """The same model over other described classes; what was learned of the seen ones' images stays.

        Args:
            semantics: of all classes; class numbers that the model knows already keep their description.
            unseen: the described classes.
        """
        ...


@runtime_checkable
class Competing(Protocol):
    """A model in which the score of a class depends on the others: a removed class must leave the model."""

    def without_class(self, number: int) -> Model:
        """The same model without one of its described classes.

        Args:
            number: of the class.
        """
        ...


@runtime_checkable
class FewShot(Protocol):
    """Capability: a few photos of a class improve what its description says."""

    def with_photos(self, number: int, features: Float[Tensor, "images visual"]) -> Model:
        """The same model, the mean of a described class moved towards the features of its photos.

        Args:
            number: of the described class; photos that it had before are replaced.
            features: of the photos, unscaled.
        """
        ...


@runtime_checkable
class Exportable(Protocol):
    """Capability: the model can be written as a graph of tensor operations, as ONNX takes it."""

    def scores_module(self) -> nn.Module:
        """Unscaled features [batch, visual] -> scores over the task's classes in ascending order [batch, classes].

        Scores may differ from `scores` by one constant an image. The module has no branches and keeps no state.
        """
        ...


@runtime_checkable
class Adaptable(Protocol):
    """Capability: unlabelled photos move the described classes to where they lie."""

    @property
    def adaptation(self) -> Adaptation | None:
        """What the model was adapted to; None: it was not."""
        ...

    def adapted(self, features: Float[Tensor, "images visual"]) -> Model:
        """The same model after a pool of photos without labels, of any classes; a further pool adds to it.

        Args:
            features: of the photos, unscaled; at least one.
        """
        ...


class Capability(NamedTuple):
    """What a model can do besides scoring.

    Attributes:
        protocol: what the model has to fit.
        function: the one function of the protocol.
        lacking: what an error says of a model without it.
    """

    protocol: type
    function: str
    lacking: str


CAPABILITIES: Final[Mapping[str, Capability]] = {
    "generator": Capability(Generator, "synthesize", "synthesizes no features"),
    "extendable": Capability(Extendable, "with_classes", "cannot add classes"),
    "few-shot": Capability(FewShot, "with_photos", "cannot learn a new class from photos"),
    "exportable": Capability(Exportable, "scores_module", "cannot be exported"),
    "adaptable": Capability(Adaptable, "adapted", "cannot adapt to unlabelled photos"),
}
"""Capabilities by name."""


def capabilities_of(model: type | Model) -> tuple[str, ...]:
    """Names of the capabilities that a model, or a class of models, has."""
    return tuple(name for name, one in CAPABILITIES.items() if callable(getattr(model, one.function, None)))


@runtime_checkable
class Selector(Protocol):
    """Scores models on held-out images, whose labels it alone holds."""

    def __call__(self, setting: Setting, model: Model, *, candidate: bool = True) -> float:
        """Score of a model on held-out images, higher is better.

        Args:
            setting: what the model was fitted with.
            model: fitted on the explored task.
            candidate: whether this model may be chosen; otherwise it is a step on the way to one.
        """
        ...


@runtime_checkable
class Method(Protocol):
    """A way to fit tasks."""

    name: str

    def explore(self, task: Task, selector: Selector) -> None:
        """Show the selector a model for every setting worth trying, sharing the work that settings share.

        The selector remembers the best; the protocol takes it. A score that the selector returns may steer what is
        tried next.
        """
        ...

    def fit(self, task: Task, setting: Setting) -> Model:
        """Fit the task with a setting that `explore` has shown."""
        ...


OnEpoch = Callable[[int, Mapping[str, float]], None]
"""Called with the number of epochs done and the last epoch's figures."""


Clock = Literal["processor", "wall"]
"""What a budget of minutes counts."""


@dataclass(frozen=True)
class Setup:
    """What a method is made with, besides its settings.

    Attributes:
        seed: decides all that is drawn, 0 or more.
        device: where to compute.
        minutes: cap of one exploration; None: none. Closed forms need none.
        clock: what the minutes count: `wall`, or `processor`: processor time of all threads together, which other
            work on the machine does not use up. On another device than the CPU, `processor` counts as `wall` does.
        checkpoints: folder to keep a training's state in, and to continue from; None keeps none.
        on_epoch: called after every epoch, where there are epochs.
        shared: results that several methods made for one task may share, by key; None shares nothing.
    """

    seed: int = 0
    device: str = "cpu"
    minutes: float | None = None
    clock: Clock = "wall"
    checkpoints: Path | None = None
    on_epoch: OnEpoch | None = None
    shared: dict[Any, Any] | None = None


@dataclass(frozen=True)
class Published:
    """What a method's authors published for a data set, and what stands in where a configuration is open.

    Attributes:
        settings: the method's settings with nothing left open.
        semantics: class descriptions; None: the data set's own default.
        seed: of the training.
        refinement_steps: steps of SOVR's training.
    """

    settings: Any
    semantics: str | None = None
    seed: int | None = None
    refinement_steps: int | None = None


@dataclass(frozen=True)
class MethodInfo:
    """A method as the registry knows it; a method's module calls it `INFO`.

    Attributes:
        name: on the command line, in YAML, in Python.
        title: as a table prints it.
        paper: authors, title, venue and year.
        settings: dataclass of the method's settings; every field has a default and a docstring.
        make: (settings, setup) -> the method.
        models: class of the fitted model, by the kind that its model file names.
        iterative: whether the method trains by epochs, and so within a budget of minutes.
        on_request: whether a benchmark runs it only when it is named: it does not fit every kind of description.
        published: (settings, data set, whether minutes cap the training) -> what is published for the data set;
            None: nothing is published by data set.
        search: (settings, training images) -> what `tune` tries; None: one value of each setting that lists
            several.
        keeps_features: (chosen setting) -> what the model file holds of single training images, as the model
            card says it; None: nothing.
        representation: the one representation of region features that it is published with; None: it takes those
            of the default, of which validation chooses.
        fewest_seen: the fewest seen classes that it can learn from.
        balance: (chosen setting) -> whether the method itself balances seen and unseen classes; None: it does not,
            and raw U, S and H show how its training happens to lean.
    """

    name: str
    title: str
    paper: str
    settings: type[Any]
    make: Callable[[Any, Setup], Method]
    models: Mapping[str, type[Any]]
    iterative: bool = False
    on_request: bool = False
    published: Callable[[Any, str | None, bool], Published] | None = None
    search: Callable[[Any, int], Space] | None = None
    keeps_features: Callable[[Setting], str | None] | None = None
    representation: str | None = None
    fewest_seen: int = 1
    balance: Callable[[Setting], bool] | None = None

    @property
    def section(self) -> str:
        """The name of the method's section in YAML."""
        return self.name.replace("-", "_")

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What every model of the method can do besides scoring."""
        each = [set(capabilities_of(model)) for model in self.models.values()]
        return tuple(name for name in CAPABILITIES if all(name in one for one in each))


def columns_of(
    scores: Float[Tensor, "images classes"], kept: Int[Tensor, " kept"]
) -> Float[Tensor, "images classes"]:
    """The scores with -inf in every column but the kept ones."""
    masked = torch.full_like(scores, -torch.inf)
    masked[:, kept] = scores[:, kept]
    return masked
