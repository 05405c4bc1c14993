"""Settings by method: each method has one section in YAML and on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, fields, is_dataclass, make_dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Final, TypeVar

import numpy as np

from dkgzsl.compatibility import check_format, is_old_config, upgraded_config
from dkgzsl.config import TrainConfig, from_mapping, read_yaml
from dkgzsl.errors import ConfigError
from dkgzsl.methods.registry import DEFAULT, PUBLISHED, method_info, method_names

C = TypeVar("C")

SCHEDULE = ("epochs", "batch_size")
"""Settings of methods that train by epochs, which every configuration may set at the top level."""

NAME_ONE: Final = "write it as method: closed-form"


def selected_method(method: object, schedule: Mapping[str, Any]) -> str:
    """The method that a configuration asks for: whoever types the published command wants the published method.

    Args:
        method: by name, or None; what a file gives may be anything.
        schedule: `epochs` and `batch_size`, None where they are not set.

    Raises:
        ConfigError: the method is no name.
    """
    if method is not None:
        if not isinstance(method, str):
            raise ConfigError(f"method must be the name of one method, not {method!r:.60}", fix=NAME_ONE)
        return method
    return PUBLISHED if any(schedule.get(name) is not None for name in SCHEDULE) else DEFAULT


def with_sections(config: type[C], methods: Iterable[str]) -> type[C]:
    """The configuration's class with one more field for each method: its section.

    Args:
        config: a dataclass with a hidden field `settings`.
        methods: by name.

    Raises:
        ConfigError: a method is unknown.
    """
    infos = [method_info(name) for name in dict.fromkeys(methods)]
    added = [(info.section, info.settings, field(default_factory=info.settings)) for info in infos]
    made = make_dataclass(
        config.__name__, added, bases=(config,), frozen=True, namespace={"__doc__": config.__doc__}
    )
    made.__module__ = config.__module__
    return made


def section_of(parsed: Any, method: str) -> Any:
    """The section of a method, of a configuration whose class `with_sections` made."""
    return getattr(parsed, method_info(method).section)


def without_sections(config: type[C], parsed: Any, settings: Any) -> C:
    """The plain configuration, with the sections' content as its `settings`."""
    values = {one.name: getattr(parsed, one.name) for one in fields(config) if one.init}  # type: ignore[arg-type]
    return config(**{**values, "settings": settings})


def sections_in(content: Mapping[str, Any]) -> list[str]:
    """Methods that have a section in a mapping read from YAML."""
    return [name for name in method_names() if name.replace("-", "_") in content]


def read_settings_file(path: Path) -> dict[str, Any]:
    """The content of a YAML file of settings, in today's names, without its format number.

    Raises:
        ConfigError: the file cannot be read, or sets an option that there is no more.
        RunError: a later version wrote it.
    """
    content = _underscored(read_yaml(path))
    if not isinstance(content, dict):
        raise ConfigError(f"the file must hold names and values, not {content!r}", where=str(path))
    if check_format(content, where=str(path)) == 1 and is_old_config(content):
        content = upgraded_config(content, where=str(path))
    return {key: value for key, value in content.items() if key != "format"}


def _underscored(content: Any) -> Any:
    """The same with underscores in names, which may be written with hyphens, as on the command line."""
    if not isinstance(content, dict):
        return content
    return {
        name.replace("-", "_") if isinstance(name, str) else name: _underscored(value)
        for name, value in content.items()
    }


def read_train_config(path: Path) -> TrainConfig:
    """The configuration that `config.yaml` of a run, or a YAML file of a user, holds.

    Raises:
        ConfigError: the file cannot be read, or has a key or a value that does not fit.
        RunError: a later version wrote it.
    """
    content = read_settings_file(path)
    method = selected_method(content.get("method"), content)
    parsed = from_mapping(with_sections(TrainConfig, [method, *sections_in(content)]), content, where=str(path))
    return without_sections(TrainConfig, parsed, section_of(parsed, method))


def settings_from(method: str, given: Any) -> Any:
    """Settings of a method, as an instance of its settings class.

    Args:
        method: by name.
        given: an instance, a mapping {name: value}, or None for the defaults. In a mapping one value may stand
            where several are tried, and arrays may stand for lists.

    Raises:
        ConfigError: the method or a setting is unknown, a value does not fit, or an instance is of another class.
    """
    info = method_info(method)
    if given is None:
        return info.settings()
    if isinstance(given, info.settings):
        return given
    if is_dataclass(given) and not isinstance(given, type):
        raise ConfigError(
            f"settings of the class {type(given).__name__} are not those of the method {method}",
            fix=f"give a {info.settings.__name__}, or leave settings out",
        )
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"settings cannot be a {type(given).__name__}",
            fix=f"give {{name: value}}, or a {info.settings.__name__}",
        )
    return from_mapping(info.settings, json_value(given), where=f"settings of {method}")


def settings_by_method(given: Any) -> dict[str, Any]:
    """Settings of several methods, each as an instance of its settings class.

    Args:
        given: {method: its settings}, each as `settings_from` takes them; None, or None for a method: not set.

    Raises:
        ConfigError: a method or a setting is unknown, or a value does not fit.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(
            f"settings of several methods cannot be a {type(given).__name__}", fix="give {method: its settings}"
        )
    return {name: settings_from(name, one) for name, one in (given or {}).items() if one is not None}


def json_value(value: Any) -> Any:
    """A parameter in JSON's own types; what JSON does not know stays as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [json_value(one) for one in value]
    if isinstance(value, Mapping):
        return {name: json_value(one) for name, one in value.items()}
    return value


def with_schedule(method: str, settings: Any, schedule: Mapping[str, Any]) -> Any:
    """The method's settings with the `epochs` and `batch_size` that were given at the top level.

    Args:
        method: by name.
        settings: of its settings class, or a mapping as `settings_from` takes it; None: its defaults.
        schedule: `epochs` and `batch_size`, None where they are not set.

    Raises:
        ConfigError: the method does not train by epochs, or the settings do not fit.
    """
    chosen = settings_from(method, settings)
    known = {one.name for one in fields(chosen)}
    given = {name: schedule[name] for name in SCHEDULE if schedule.get(name) is not None}
    for name in given:
        if name not in known:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{method} does not train by epochs, so {flag} has no meaning for it",
                fix=f"leave {flag} out, or name a method that does, such as --method {PUBLISHED}",
            )
    return replace(chosen, **given)
