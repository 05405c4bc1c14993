"""Annotations of the package are checked while tests run: types, and the shapes of arrays, at each call.

jaxtyping's own decorator binds the arguments and checks them twice; that took 40 % of the time of the whole suite.
This one lets beartype check them once, within jaxtyping's scope, in which an axis has one size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import is_dataclass
from inspect import isgeneratorfunction
from types import FunctionType
from typing import Any, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

SCOPE = jaxtyping.jaxtyped("context")
"""Axes have sizes of their own within it; it may be entered again."""
_BY_BEARTYPE = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))
_BY_JAXTYPING = jaxtyping.jaxtyped(typechecker=beartype)


def install(package: str) -> None:
    """Check every annotated function and dataclass of a package that is imported from now on."""
    jaxtyping.jaxtyped = lambda **_: checked  # what the import hook puts above each of them
    jaxtyping.install_import_hook(package, "beartype.beartype")


def checked(what: Any) -> Any:
    """A function, or a dataclass by its `__init__`, that checks what it gets and what it gives back."""
    if not isinstance(what, type):
        return _checked_function(what) if isinstance(what, FunctionType) else what
    if is_dataclass(what) and not hasattr(what.__init__, "__wrapped__"):
        what.__init__ = _checked_function(what.__init__)
    return what


def _checked_function(function: Any) -> Any:
    if isgeneratorfunction(
        function
    ):  # beartype would check its arguments at the first value, outside of the scope
        return _BY_JAXTYPING(function)
    hints = {name: _resolved(hint, function.__globals__) for name, hint in function.__annotations__.items()}
    if all(hint in (Any, None) for hint in hints.values()):
        return function
    check = _copy(function, hints)

    @functools.wraps(function)
    def within_scope(*arguments: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        if hasattr(within_scope, "__no_type_check__"):  # a decorator above this one has set it
            return function(*arguments, **named)
        with SCOPE:
            return check(*arguments, **named)

    return within_scope


def _copy(function: FunctionType, hints: dict[str, Any]) -> Callable[..., Any]:
    """The same function with annotations that are no text, checked by beartype."""
    names = function.__globals__
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__, copy.__qualname__, copy.__module__ = (
        function.__kwdefaults__,
        function.__qualname__,
        function.__module__,
    )
    copy.__annotations__ = hints
    return _BY_BEARTYPE(copy)


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """The type that an annotation names; anything where it is imported for the type checker alone."""

    def holder() -> None: ...

    holder.__annotations__ = {"value": hint}
    try:
        return get_type_hints(holder, names, include_extras=True)["value"]
    except NameError:
        return Any
