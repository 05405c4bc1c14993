"""A verb's help: one line or two an option, from the fields and docstrings of its configuration class."""

from __future__ import annotations

import ast
import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from dkgzsl.cli.parse import has_sections, takes_one, value_of
from dkgzsl.methods.registry import method_names

HELP_FLAGS = ("-h", "--help")
HELP_ALL = "--help-all"
_WIDTH, _COLUMN = 100, 26
_METHODS = "{methods}"
"""Stands in a docstring for the names of all methods."""


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether the words ask for help instead of work."""
    return any(word in (*HELP_FLAGS, HELP_ALL) for word in words)


def help_of(
    verb: str, config: type[Any], words: Sequence[str], *, short: Sequence[str] = (), examples: Sequence[str] = ()
) -> str:
    """The help that the words ask for.

    Args:
        verb: as it is typed.
        config: its configuration class.
        words: `--help-all` shows every option; `--method NAME` adds the section of that method.
        short: names of the fields that most people need; the others are shown by `--help-all`. Empty: all.
        examples: command lines, shown at the end.

    Raises:
        ConfigError: the method is unknown.
    """
    everything, method = HELP_ALL in words, value_of("--method", words)
    shown = None if everything or not short else set(short)
    positional = [one for one in fields(config) if _is_positional(config, one)]
    usage = " ".join(_metavar(config, one) for one in positional)
    lines = [f"usage: dkgzsl {verb} [OPTIONS] {usage}".rstrip(), "", *_paragraph(inspect.getdoc(config) or ""), ""]
    lines += _options(config, "", shown)
    lines += _entry("-h, --help", "show this help")
    if has_sections(config):
        lines += _sections(config, everything, method)
    lines += _footer(config, everything, examples)
    return "\n".join(lines)


def _sections(config: type[Any], everything: bool, method: str | None) -> Iterator[str]:
    if not (everything or method):
        return
    from dkgzsl.methods.registry import method_info, working_methods  # method_info imports torch

    for name in working_methods() if everything else ([method] if method else []):
        info = method_info(name)
        yield ""
        yield from textwrap.wrap(f"Settings of {_naming(config)} {name} ({info.paper}):", _width())
        yield from _section_about(info.settings)
        yield from _options(info.settings, f"{name}.", None) or ["  This method has no settings."]


def _section_about(settings: type[Any]) -> list[str]:
    """What the class of settings says of its method; a dataclass without a docstring has its signature there."""
    text = inspect.getdoc(settings) or ""
    return [] if text.startswith(f"{settings.__name__}(") else _paragraph(text)


def _naming(config: type[Any]) -> str:
    """The option that names what runs: one method, or several."""
    return "--method" if takes_one(config) else "--methods"


def _footer(config: type[Any], everything: bool, examples: Sequence[str]) -> Iterator[str]:
    if has_sections(config) and not everything:
        yield ""
        yield from _entry(
            "--NAME.SETTING VALUE",
            "a setting of a method (--eszsl.powers -1); in YAML, a method has a section",
        )
        yield from _entry(HELP_ALL, "show every option and the settings of every method")
        yield from _entry("--method NAME --help", "show the settings of one method, too")
    if examples:
        yield ""
        yield from ("Examples:", *(f"  {one}" for one in examples))


def _options(config: type[Any], prefix: str, shown: set[str] | None) -> list[str]:
    docs = {name: text.replace(_METHODS, ", ".join(method_names())) for name, text in _docs_of(config).items()}
    lines: list[str] = []
    for one in fields(config):
        if one.metadata.get("hidden") or (shown is not None and one.name not in shown):
            continue
        section = one.default_factory
        if is_dataclass(section) and isinstance(section, type):
            lines += _options(section, f"{prefix}{_flag(config, one)}.", None)
            continue
        value = _metavar(config, one)
        name = value if _is_positional(config, one) else f"--{prefix}{_flag(config, one)} {value}".rstrip()
        lines += _entry(name, docs.get(one.name, "") + _default(one, docs.get(one.name, "")))
    return lines


def _entry(name: str, text: str) -> list[str]:
    width = _width()
    wrapped = textwrap.wrap(text, width - _COLUMN, break_on_hyphens=False) or [""]
    first = f"  {name:<{_COLUMN - 3}} "
    if len(name) > _COLUMN - 3:
        return [f"  {name}", *(" " * _COLUMN + line for line in wrapped)]
    return [first + wrapped[0], *(" " * _COLUMN + line for line in wrapped[1:])]


def _width() -> int:
    return min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns) if sys.stdout.isatty() else _WIDTH


def _paragraph(text: str) -> list[str]:
    kept = text.split("\n\nRaises:")[0].split("\n\nArgs:")[0]
    return [
        line for part in kept.split("\n\n") for line in [*textwrap.wrap(" ".join(part.split()), _width()), ""]
    ][:-1]


def _docs_of(config: type[Any]) -> dict[str, str]:
    """The docstring under each field, of the class and its bases; they are in no attribute, only in the source."""
    found: dict[str, str] = {}
    for one in reversed(config.__mro__):
        if not is_dataclass(one):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
        except (OSError, TypeError):  # a class that was made at run time has no source
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for field, doc in pairwise(body):
            if not isinstance(doc, ast.Expr) or not isinstance(doc.value, ast.Constant):
                continue
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found[field.target.id] = " ".join(str(doc.value.value).split())
    return found


def _argument(config: type[Any], one: Field[Any]) -> tuple[Any, list[Any]]:
    """A field's type and what annotates it."""
    hint = get_type_hints(config, include_extras=True)[one.name]
    if get_origin(hint) is Annotated:
        kind, *notes = get_args(hint)
        return kind, notes
    return hint, []


def _is_positional(config: type[Any], one: Field[Any]) -> bool:
    return any("POSITIONAL" in str(note).upper() for note in _argument(config, one)[1])


def _flag(config: type[Any], one: Field[Any]) -> str:
    named = [note.name for note in _argument(config, one)[1] if hasattr(note, "metavar") and note.name]
    return str(named[0]) if named else one.name.replace("_", "-")


def _metavar(config: type[Any], one: Field[Any]) -> str:
    kind, notes = _argument(config, one)
    given = [note.metavar for note in notes if getattr(note, "metavar", None)]
    return given[0] if given else _spoken(kind)


def _spoken(kind: Any) -> str:
    """A type as one says it on the command line."""
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"{_spoken(get_args(kind)[0])}..."
    parts = [part for part in get_args(kind) if part is not NoneType]
    if parts:
        return _spoken(parts[0])
    return {bool: "", int: "N", float: "X", Path: "PATH"}.get(kind, "NAME")


def _default(one: Field[Any], doc: str) -> str:
    value = one.default
    if "default" in doc or isinstance(value, bool) or value in (MISSING, None, (), ""):
        return ""
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f" (default: {text})"
