"""Which methods there are: by name to a factory, a citation, and how a saved model finds the one that made it.

Nothing heavy is imported until a method is made. A method from outside the package joins by an entry point of the
group `dkgzsl.methods`: its name is the method's name, its value a `MethodInfo`.

    [project.entry-points."dkgzsl.methods"]
    my-method = "my_package.methods:INFO"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from dkgzsl.errors import ConfigError, RunError, nearest
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.methods.base import Method, Model, SavedModel


def write_model(path: Path, saved: SavedModel) -> None:
    """Write atomically: the file is there whole, or not at all.

    Raises:
        RunError: it cannot be written.
    """
    tensors = {name: tensor.cpu() for name, tensor in saved.tensors.items()}
    write_checkpoint(path, tensors, {"method": saved.method, "values": dict(saved.values)})


def read_model(path: Path) -> SavedModel:
    """Read what `write_model` wrote.

    Raises:
        RunError: the file is missing, or is no model of this package.
    """
    content = read_checkpoint(path)
    if content is None:
        raise RunError("the run has no model", where=str(path), fix="train it, or name another run folder")
    tensors, values = content
    if not {"method", "values"} <= values.keys():
        raise RunError("the file holds no model of this package", where=str(path))
    return SavedModel(values["method"], tensors, values["values"])


GROUP = "dkgzsl.methods"
"""Entry points of this group are methods from outside."""


@dataclass(frozen=True)
class MethodInfo:
    """What is known of a method without importing it.

    Attributes:
        title: its name as a table prints it.
        factory: "module:callable", which takes `seed`, `device` and `minutes` (the wall-clock cap of one explore,
            None: none) by keyword and returns the method.
        models: name in a model file -> "module:class" of the model, whose `load` makes it again.
        authors: who published it.
        venue: where.
        year: when.
        iterative: whether its fit goes by epochs, and so by a budget of time; closed forms do not.
        by_dataset: whether the factory also takes `dataset`, the name of a data set or None: its settings are
            published data set by data set.
        on_request: whether a benchmark runs it only where it is named: it does not fit every kind of description.
    """

    title: str
    factory: str
    models: Mapping[str, str]
    authors: str
    venue: str
    year: int
    iterative: bool = False
    by_dataset: bool = field(default=False, kw_only=True)
    on_request: bool = field(default=False, kw_only=True)

    @property
    def citation(self) -> str:
        """Authors, venue and year in one line."""
        return f"{self.authors}, {self.venue} {self.year}"


_PEERS = "dkgzsl.methods.peers"
_SYNTHESIS = f"{_PEERS}.synthesized_softmax:SynthesisModel"
_LINEAR = f"{_PEERS}.linear_model:LinearModel"
_OWN = {
    "dkgzsl": MethodInfo(
        title="DKGZSL (closed form)",
        factory="dkgzsl.methods.closed_form.method:knowledge",
        models={
            "dkgzsl": "dkgzsl.methods.closed_form.model:ClosedFormModel",
            "dkgzsl-softmax": "dkgzsl.methods.closed_form.softmax:SoftmaxModel",
        },
        authors="the default form of this package",
        venue="after GFZSL, ECML",
        year=2017,
    ),
    "paper": MethodInfo(
        title="DKGZSL as published",
        factory="dkgzsl.methods.dkgzsl.method:paper",
        models={"paper": "dkgzsl.methods.dkgzsl.method:DKGZSLModel"},
        authors="DKGZSL",
        venue="IEEE TCSVT",
        year=2025,
        iterative=True,
        by_dataset=True,
    ),
    "eszsl": MethodInfo(
        title="ESZSL",
        factory=f"{_PEERS}.eszsl:ESZSL",
        models={"eszsl": _LINEAR},
        authors="Romera-Paredes and Torr",
        venue="ICML",
        year=2015,
    ),
    "sae": MethodInfo(
        title="SAE",
        factory=f"{_PEERS}.sae:SAE",
        models={"sae": _LINEAR},
        authors="Kodirov, Xiang and Gong",
        venue="CVPR",
        year=2017,
    ),
    "ridge": MethodInfo(
        title="Ridge to prototypes",
        factory=f"{_PEERS}.ridge_prototype:RidgePrototype",
        models={"ridge": _LINEAR},
        authors="after Changpinyo, Chao and Sha",
        venue="ICCV",
        year=2017,
    ),
    "gfzsl": MethodInfo(
        title="GFZSL",
        factory=f"{_PEERS}.gfzsl:GFZSL",
        models={"gfzsl": f"{_PEERS}.gfzsl:GaussianModel"},
        authors="Verma and Rai",
        venue="ECML",
        year=2017,
    ),
    "ale": MethodInfo(
        title="ALE",
        factory=f"{_PEERS}.ale:ALE",
        models={"ale": _LINEAR},
        authors="Akata, Perronnin, Harchaoui and Schmid",
        venue="TPAMI",
        year=2016,
        iterative=True,
    ),
    "class-norm": MethodInfo(
        title="Class-Norm",
        factory=f"{_PEERS}.class_norm:ClassNorm",
        models={"class-norm": _LINEAR},
        authors="Skorokhodov and Elhoseiny",
        venue="ICLR",
        year=2021,
        iterative=True,
    ),
    "f-clswgan": MethodInfo(
        title="f-CLSWGAN",
        factory=f"{_PEERS}.f_clswgan:within_minutes",
        models={"f-clswgan": _SYNTHESIS},
        authors="Xian, Lorenz, Schiele and Akata",
        venue="CVPR",
        year=2018,
        iterative=True,
    ),
    "f-vaegan": MethodInfo(
        title="f-VAEGAN-D2",
        factory=f"{_PEERS}.f_vaegan:within_minutes",
        models={"f-vaegan": _SYNTHESIS},
        authors="Xian, Sharma, Schiele and Akata",
        venue="CVPR",
        year=2019,
        iterative=True,
    ),
    "cada-vae": MethodInfo(
        title="CADA-VAE",
        factory=f"{_PEERS}.cada_vae:CADAVAE",
        models={"cada-vae": f"{_PEERS}.cada_vae:AlignedModel"},
        authors="Schönfeld, Ebrahimi, Sinha, Darrell and Akata",
        venue="CVPR",
        year=2019,
        iterative=True,
    ),
    "clip": MethodInfo(
        title="CLIP, nothing learned",
        factory=f"{_PEERS}.clip:CLIP",
        models={"clip": _LINEAR},
        authors="Radford and others",
        venue="ICML",
        year=2021,
        on_request=True,
    ),
}


def method_names() -> tuple[str, ...]:
    """All methods: ours, the peers, then those from outside in alphabetical order."""
    return (*_OWN, *_outside())


def method_info(name: str) -> MethodInfo:
    """What is known of a method.

    Raises:
        ConfigError: no method of that name is known, or what its entry point names is no `MethodInfo`.
    """
    if name in _OWN:
        return _OWN[name]
    outside = _outside()
    if name not in outside:
        raise ConfigError(f"unknown method {name!r}", fix=nearest(name, method_names(), of="methods"))
    info = _load(outside[name], f"method {name!r} from outside the package")
    if not isinstance(info, MethodInfo):
        raise ConfigError(
            f"the entry point of method {name!r} gives a {type(info).__name__}, not a MethodInfo",
            where=outside[name],
            fix="let it name a dkgzsl.methods.registry.MethodInfo",
        )
    return info


def make_method(
    name: str, *, seed: int = 0, device: str = "cpu", minutes: float | None = None, dataset: str | None = None
) -> Method:
    """Make a method with its own defaults.

    Args:
        name: one of `method_names`.
        seed: decides all that it draws.
        device: where it computes.
        minutes: wall-clock cap of one explore; None: none.
        dataset: name of the data set, for methods whose settings are published by data set.

    Raises:
        ConfigError: the method is unknown, or cannot be imported.
    """
    info = method_info(name)
    options: dict[str, Any] = {"seed": seed, "device": device, "minutes": minutes}
    if info.by_dataset:
        options["dataset"] = dataset
    method: Method = _load(info.factory, f"method {name!r}")(**options)
    return method


def load_model(saved: SavedModel) -> Model:
    """The model that was saved.

    Raises:
        RunError: no model of that name is known, or the file lacks what the model needs.
    """
    known = _models(_OWN)
    if saved.method not in known:  # only now: a broken method from outside must not spoil ours
        known |= _models(_outside())
    if saved.method not in known:
        raise RunError(f"unknown method {saved.method!r}", fix=nearest(saved.method, known, of="methods"))
    kind = _load(known[saved.method], f"model {saved.method!r}")
    try:
        model: Model = kind.load(saved)
    except (KeyError, RuntimeError) as error:  # RuntimeError: torch misses weights, or they have other shapes
        why = f"lacks {error}" if isinstance(error, KeyError) else f"does not fit: {error}"
        raise RunError(
            f"the file of the model {saved.method!r} {why}",
            fix="another version of dkgzsl made it, or it is damaged: train again",
        ) from error
    return model


def model_classes() -> dict[str, str]:
    """Name in a model file -> "module:class" of every known model."""
    return _models(method_names())


def _models(methods: Iterable[str]) -> dict[str, str]:
    return {name: at for method in methods for name, at in method_info(method).models.items()}


@cache
def _outside() -> dict[str, str]:
    """Entry points by name; a name of our own is not given away."""
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    return {entry.name: entry.value for entry in found if entry.name not in _OWN}


def _load(reference: str, what: str) -> Any:
    module, _, attribute = reference.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{what} cannot be imported: {error}", where=reference) from error
