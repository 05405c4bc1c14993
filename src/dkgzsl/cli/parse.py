"""From words and YAML to a configuration dataclass, with the sections of the methods that are named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from io import StringIO
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import tyro

from dkgzsl.compatibility import flag_of_today
from dkgzsl.config import from_mapping
from dkgzsl.errors import ConfigError

C = TypeVar("C")

_SCHEDULE_FLAGS = ("--epochs", "--batch-size", "--batch_size")


def parse(config: type[C], words: Sequence[str], *, verb: str) -> C:
    """Parse command-line words into `config`; a `--config FILE` (YAML) lies under every flag.

    Where `config` has a field `settings`, the methods that words or file name have a section each. The sections of
    a file may be of any methods, so that one file serves several commands; those of methods that do not run are
    checked and left.

    Raises:
        ConfigError: the YAML file is missing, malformed, or has a key or value that does not fit; or a flag is
            of a method that does not run; or the words do not fit, the nearest option named.
    """
    if not has_sections(config):
        return _parsed(config, words, verb)
    from dkgzsl.methods.registry import methods_by_default
    from dkgzsl.methods.sections import (
        read_settings_file,
        section_of,
        sections_in,
        selected_method,
        with_sections,
        without_sections,
    )

    file = value_of("--config", words)
    content = {} if file is None else read_settings_file(Path(file))
    if takes_one(config):
        method = selected_method(*_asked(words, content))
        _check_sections(words, [method], fix="add --method {}")
        methods = [method, *sections_in(content)]
    else:
        methods = [*_sections_named(words), *sections_in(content)]
    extended = with_sections(config, methods)
    default = tyro.MISSING_NONPROP if file is None else from_mapping(extended, content, where=file)
    parsed: Any = _parsed(extended, words, verb, default=default)
    if takes_one(config):
        return without_sections(config, parsed, section_of(parsed, method))
    running = parsed.methods or methods_by_default()
    _check_sections(words, running, fix="add {} to --methods")
    settings = {name: section_of(parsed, name) for name in methods if name in running}
    return without_sections(config, parsed, settings or None)


def has_sections(config: type[Any]) -> bool:
    """Whether a configuration has sections of methods."""
    return "settings" in {one.name for one in fields(config)}


def takes_one(config: type[Any]) -> bool:
    """Whether a configuration runs one method, rather than several."""
    return "method" in {one.name for one in fields(config)}


def _parsed(config: type[C], words: Sequence[str], verb: str, *, default: Any = None) -> C:
    check_flags(config, words, verb)
    said = StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(said):
            parsed: C = tyro.cli(
                config,
                args=list(words),
                prog=f"dkgzsl {verb}",
                default=tyro.MISSING_NONPROP if default is None else default,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:  # the parser prints a box of its own types and exits
        raise ConfigError(_in_words(said.getvalue()), fix=f"dkgzsl help {verb} lists the options") from stop
    return parsed


def check_flags(config: type[Any], words: Sequence[str], verb: str) -> None:
    """That every flag among words is one of the configuration's.

    Raises:
        ConfigError: one is not; the message names the nearest.
    """
    known = dict.fromkeys(flags_of(config))
    for word in words:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag.replace("_", "-") not in known:
            raise ConfigError(f"dkgzsl {verb} has no option {flag}", fix=_flag_instead(flag, known, verb))


def _flag_instead(flag: str, known: Iterable[str], verb: str) -> str:
    old = flag_of_today(flag.replace("_", "-"))
    if old is not None:
        return old
    close = get_close_matches(flag, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"dkgzsl help {verb} lists the options"


def flags_of(config: type[Any], prefix: str = "--") -> Iterator[str]:
    """The flags of a configuration and of its sections."""
    for one, hint in zip(fields(config), _hints(config), strict=True):
        if one.metadata.get("hidden"):
            continue
        names = [note.name for note in get_args(hint)[1:] if hasattr(note, "metavar") and note.name]
        name = names[0] if names else one.name.replace("_", "-")
        if is_dataclass(one.default_factory) and isinstance(one.default_factory, type):
            yield from flags_of(one.default_factory, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _hints(config: type[Any]) -> list[Any]:
    hints = get_type_hints(config, include_extras=True)
    return [hints[one.name] for one in fields(config)]


_FRAME = str.maketrans("", "", "╭╮╰╯─│")
_NOT_OF_TYPE = re.compile(
    r"Error parsing (--[\w.-]+): (?:(?:no type matching .* from|.* for arguments:) \['(.*?)'\]|.*: '(.*?)')"
)
_NO_CHOICE = re.compile(r"invalid choice '(.*?)' for argument '(.*?)'. Expected one of \((.*?)\)")
_NO_VALUE = re.compile(r"Missing value for argument '(.*?)'")


def _in_words(box: str) -> str:
    """The parser's complaint in one sentence."""
    lines = [line.translate(_FRAME).strip() for line in box.splitlines()]
    text = " ".join(line for line in lines if line.strip("- "))
    text = text.split("Argument helptext:")[0].split("For full helptext")[0].split("Got errors:")[0].strip()
    if found := _NOT_OF_TYPE.search(text):
        return f"{found.group(1)} cannot be {(found.group(2) or found.group(3))!r}"
    if found := _NO_CHOICE.search(text):
        choices = found.group(3).replace("'", "").strip(", ")
        return f"{found.group(2)} cannot be {found.group(1)!r} (choices: {choices})"
    if found := _NO_VALUE.search(text):
        return f"{found.group(1)} needs a value"
    if text.startswith("Unrecognized options"):
        return f"unexpected: {text.rpartition(': ')[2]}"
    if text.startswith("Required options"):
        return f"these are needed: {', '.join(_missing(box))}"
    for title in ("Value error", "Invalid choice", "Missing argument", "Parsing error"):
        text = text.removeprefix(title).strip()
    return text or "the words do not fit the options"


def _missing(box: str) -> list[str]:
    """What the parser misses: each name begins a line, and its help is indented below it."""
    lines = [line.translate(_FRAME).rstrip() for line in box.splitlines()]
    start = next(k for k, line in enumerate(lines) if "Missing from" in line) + 1
    listed = list(takewhile(lambda line: line.strip("- "), lines[start:]))
    indent = min(len(line) - len(line.lstrip()) for line in listed)
    return list(dict.fromkeys(line.split()[0] for line in listed if not line[indent:].startswith(" ")))


def _asked(words: Sequence[str], content: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The method that words, or else the file, name (a file may give anything); and whether a schedule is set."""
    named = value_of("--method", words)
    by_flag = any(word.partition("=")[0] in _SCHEDULE_FLAGS for word in words)
    schedule = {"epochs": True if by_flag else content.get("epochs"), "batch_size": content.get("batch_size")}
    return named or content.get("method"), schedule


def _sections_named(words: Sequence[str]) -> list[str]:
    """Methods whose section a flag sets, such as `--closed-form.ridge`."""
    from dkgzsl.methods.registry import method_names

    flags = {
        word[2:].partition(".")[0].replace("_", "-") for word in words if word.startswith("--") and "." in word
    }
    return [name for name in method_names() if name in flags]


def _check_sections(words: Sequence[str], running: Sequence[str], *, fix: str) -> None:
    """That no flag sets a method that does not run: it would do nothing, and nobody would know."""
    for name in _sections_named(words):
        if name not in running:
            raise ConfigError(
                f"the flags --{name}. ... set the method {name}, and this runs {', '.join(running)}",
                fix=f"{fix.format(name)}, or leave the flags out",
            )


def value_of(flag: str, words: Sequence[str]) -> str | None:
    """The value of a flag among words, written apart or with an equals sign; None where it is not there."""
    for word, following in zip_longest(words, words[1:]):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None
