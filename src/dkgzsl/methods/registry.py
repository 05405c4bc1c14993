"""Which methods there are, by name; and how a saved model finds the method that made it.

A method is one line of `BUILT_IN`: its name, and where its `MethodInfo` lies. Nothing is imported until it is
asked for. A method from outside the package joins by an entry point of the group `dkgzsl.methods`: the entry
point's name is the method's name, its value a `MethodInfo`.

    [project.entry-points."dkgzsl.methods"]
    my-method = "my_package.my_method:INFO"
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dkgzsl.compatibility import FORMAT, model_kind, name_of_method
from dkgzsl.errors import ConfigError, DkgzslError, RunError, nearest
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.reading import reading

if TYPE_CHECKING:  # importing torch takes seconds, and names do without it
    from dkgzsl.methods.base import Method, MethodInfo, Model, SavedModel, Setup

GROUP: Final = "dkgzsl.methods"
"""Entry points of this group are methods from outside."""
DEFAULT: Final = "closed-form"
PUBLISHED: Final = "dkgzsl"
"""The method of the paper, which the published command line asks for."""

BUILT_IN: Final[dict[str, str]] = {
    "closed-form": "dkgzsl.methods.closed_form.method:INFO",
    "dkgzsl": "dkgzsl.methods.dkgzsl.method:INFO",
    "eszsl": "dkgzsl.methods.peers.eszsl:INFO",
    "sae": "dkgzsl.methods.peers.sae:INFO",
    "ridge": "dkgzsl.methods.peers.ridge_prototype:INFO",
    "exem": "dkgzsl.methods.peers.exem:INFO",
    "gfzsl": "dkgzsl.methods.peers.gfzsl:INFO",
    "ale": "dkgzsl.methods.peers.ale:INFO",
    "class-norm": "dkgzsl.methods.peers.class_norm:INFO",
    "f-clswgan": "dkgzsl.methods.peers.f_clswgan:INFO",
    "f-vaegan-d2": "dkgzsl.methods.peers.f_vaegan:INFO",
    "cada-vae": "dkgzsl.methods.peers.cada_vae:INFO",
    "clip": "dkgzsl.methods.peers.clip:INFO",
}


def method_names() -> tuple[str, ...]:
    """All methods: ours, the peers, then those from outside in alphabetical order."""
    return (*BUILT_IN, *_outside())


def working_methods() -> tuple[str, ...]:
    """All methods that can be imported: a broken one from outside is left out, so that it spoils no other."""
    return (*BUILT_IN, *filter(_is_working, _outside()))


def methods_by_default() -> tuple[str, ...]:
    """The methods of a benchmark that names none: those that fit every kind of description."""
    return tuple(name for name in working_methods() if not method_info(name).on_request)


def _is_working(name: str) -> bool:
    try:
        method_info(name)
    except ConfigError:
        return False
    return True


def check_name(name: str) -> str:
    """The name, where a method has it.

    Raises:
        ConfigError: no method is called so; the message names the nearest, or the new name of an old one.
    """
    if name not in method_names():
        today = name_of_method(name)
        fix = f"it is called {today!r} now" if today != name else nearest(name, method_names(), of="methods")
        raise ConfigError(f"unknown method {name!r}", fix=fix)
    return name


def method_info(name: str) -> MethodInfo:
    """What is known of a method.

    Raises:
        ConfigError: no method of that name is known, or what its entry point names is no `MethodInfo`.
    """
    check_name(name)
    if name in BUILT_IN:
        info: MethodInfo = _load(BUILT_IN[name], f"method {name!r}")
        return info
    place = _outside()[name]
    from dkgzsl.methods.base import MethodInfo

    found = _load(place, f"method {name!r} from outside the package")
    if not isinstance(found, MethodInfo):
        raise ConfigError(
            f"the entry point of method {name!r} gives a {type(found).__name__}, not a MethodInfo",
            where=place,
            fix="let it name a dkgzsl.methods.base.MethodInfo",
        )
    if found.name != name:
        raise ConfigError(
            f"the entry point {name!r} names a method that calls itself {found.name!r}",
            where=place,
            fix="give both the same name",
        )
    return found


def method_title(name: str) -> str:
    """The name as a table prints it; the plain name where the method is not installed here."""
    try:
        return method_info(name).title
    except ConfigError:
        return name


def make_method(name: str, settings: Any = None, setup: Setup | None = None) -> Method:
    """Make a method.

    Args:
        name: one of `method_names`.
        settings: of the method's own settings class; None: its defaults.
        setup: seed, device and the like; None: seed 0 on the CPU.

    Raises:
        ConfigError: the method is unknown, cannot be imported, or a setting is out of range.
    """
    from dkgzsl.methods.base import Setup

    info = method_info(name)
    return info.make(info.settings() if settings is None else settings, setup or Setup())


def methods_with(capability: str) -> tuple[str, ...]:
    """Names of the built-in methods whose models have a capability.

    Args:
        capability: one of `CAPABILITIES`.
    """
    from dkgzsl.methods.base import CAPABILITIES

    assert capability in CAPABILITIES, "a capability has a name"
    return tuple(name for name in BUILT_IN if capability in method_info(name).capabilities)


def unable(model: Model, capability: str, *, where: str | None = None) -> RunError:
    """The error of a verb that a model cannot serve: it names the methods that can.

    Args:
        model: without the capability.
        capability: one of `CAPABILITIES`.
        where: the run, for the message.
    """
    from dkgzsl.methods.base import CAPABILITIES

    return RunError(
        f"this model ({model.save().kind}) {CAPABILITIES[capability].lacking}",
        where=where,
        fix=f"train with --method {', '.join(methods_with(capability))}",
    )


def write_model(path: Path, saved: SavedModel) -> None:
    """Write atomically: the file is there whole, or not at all.

    Raises:
        RunError: it cannot be written, or no method has models of its kind, so that nobody could read it again.
    """
    if saved.kind not in BUILT_IN and saved.kind not in model_kinds():
        raise RunError(
            f"no method has models of the kind {saved.kind!r}, so that nobody could read this one again",
            fix="let save give a kind that the method's MethodInfo.models has",
        )
    tensors = {name: tensor.cpu() for name, tensor in saved.tensors.items()}
    write_checkpoint(path, tensors, {"format": FORMAT, "kind": saved.kind, "values": dict(saved.values)})


def read_model(path: Path) -> SavedModel:
    """Read what `write_model` wrote, or what a version before format 2 did.

    Raises:
        RunError: the file is missing, or is no model of this package.
    """
    from dkgzsl.methods.base import SavedModel

    content = read_checkpoint(path)
    if content is None:
        raise RunError("the run has no model", where=str(path), fix="train it, or name another run folder")
    tensors, values = content
    if not ({"kind", "values"} <= values.keys() or {"method", "values"} <= values.keys()):
        raise RunError("the file holds no model of this package", where=str(path))
    with reading("the file holds no model of this package", path, error=RunError):
        return SavedModel(model_kind(values, where=str(path)), tensors, dict(values["values"]))


def load_model(saved: SavedModel) -> Model:
    """The model that was saved.

    Raises:
        RunError: no model of that kind is known, or the file lacks what the model needs.
    """
    kind = _class_of(saved.kind)
    try:
        model: Model = kind.load(saved)
    except DkgzslError:
        raise
    except Exception as error:  # torch misses weights, or a class misses a field
        why = f"lacks {error}" if isinstance(error, KeyError) else f"does not fit: {error}"
        raise RunError(
            f"the file of the model {saved.kind!r} {why}",
            fix="another version of dkgzsl made it, or it is damaged: train again",
        ) from error
    return model


def _class_of(kind: str) -> type[Any]:
    """The class of a kind of model. Methods from outside are imported only where no method of ours has the kind.

    Raises:
        ConfigError: the method of that name comes from outside and cannot be imported.
        RunError: no method has models of that kind.
    """
    known = _models((kind,) if kind in BUILT_IN else BUILT_IN)
    if kind not in known:
        known |= _models((kind,) if kind in _outside() else working_methods())
    if kind not in known:
        hint = nearest(kind, known, of="kinds")
        raise RunError(
            f"unknown kind of model {kind!r}", fix=f"install the package whose method made the model; {hint}"
        )
    return known[kind]


def model_kinds() -> tuple[str, ...]:
    """The kinds of all known models, as model files name them."""
    return tuple(_models(working_methods()))


def _models(methods: Iterable[str]) -> dict[str, type[Any]]:
    return {kind: model for method in methods for kind, model in method_info(method).models.items()}


@cache
def _outside() -> dict[str, str]:
    """Entry points by name; a name of our own is not given away."""
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    return {entry.name: entry.value for entry in found if entry.name not in BUILT_IN}


def _load(reference: str, what: str) -> Any:
    module, _, attribute = reference.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # of any kind: code from outside runs here
        raise ConfigError(f"{what} cannot be imported: {error}", where=reference) from error
