"""From words and YAML to a configuration dataclass, with the sections of the methods that are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import tyro

from dkgzsl.config import from_mapping
from dkgzsl.errors import ConfigError

C = TypeVar("C")

_SCHEDULE_FLAGS = ("--epochs", "--batch-size", "--batch_size")


def parse(config: type[C], words: Sequence[str], *, verb: str) -> C:
    """Parse command-line words into `config`; a `--config FILE` (YAML) lies under every flag.

    Where `config` has a field `settings`, the methods that words or file name have a section each.

    Raises:
        ConfigError: the YAML file is missing, malformed, or has a key or value that does not fit; or a setting
            belongs to another method than the one that runs.
        SystemExit: the words do not fit (code 2, the nearest option named).
    """
    if not has_sections(config):
        return _parsed(config, words, verb, file=None)
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
    if _takes_one(config):
        method = selected_method(*_asked(words, content))
        _check_sections(words, method)
        methods = [method, *sections_in(content)]
    else:
        methods = [*_sections_named(words), *sections_in(content)]
    extended = with_sections(config, methods)
    default = tyro.MISSING_NONPROP if file is None else from_mapping(extended, content, where=file)
    parsed = _parsed(extended, words, verb, file=file, default=default)
    if _takes_one(config):
        return without_sections(config, parsed, section_of(parsed, method))
    return without_sections(config, parsed, {name: section_of(parsed, name) for name in methods} or None)


def has_sections(config: type[Any]) -> bool:
    """Whether a configuration has sections of methods."""
    return "settings" in {one.name for one in fields(config)}


def _takes_one(config: type[Any]) -> bool:
    return "method" in {one.name for one in fields(config)}


def _parsed(config: type[C], words: Sequence[str], verb: str, *, file: str | None, default: Any = None) -> C:
    del file
    parsed: C = tyro.cli(
        config,
        args=list(words),
        prog=f"dkgzsl {verb}",
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return parsed


def _asked(words: Sequence[str], content: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The method that words, or else the file, name; and whether a schedule is set."""
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


def _check_sections(words: Sequence[str], method: str) -> None:
    for name in _sections_named(words):
        if name != method:
            raise ConfigError(
                f"the flags --{name}. ... set the method {name}, and this runs {method}",
                fix=f"add --method {name}, or leave the flags out",
            )


def value_of(flag: str, words: Sequence[str]) -> str | None:
    """The value of a flag among words, written apart or with an equals sign; None where it is not there."""
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None
