"""From YAML to a configuration dataclass, every key and value checked."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from dkgzsl.errors import ConfigError, nearest

C = TypeVar("C")


def read_yaml(config: type[C], path: Path) -> C:
    """Read a YAML file into the dataclass `config`.

    Raises:
        ConfigError: the file cannot be read, or has a key or a value that does not fit.
    """
    import yaml

    try:
        content = _load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration: {error.strerror}", where=str(path)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a YAML file: {error}", where=str(path)) from error
    return from_mapping(config, {} if content is None else content, where=str(path))


def _load(text: str) -> Any:
    """YAML whose `on` and `off` are the words that settings take; true and false alone are switches, as in 1.2."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain values only, as its base."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in found if first in "tTfF" or not tag.endswith(":bool")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    loader = Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def from_mapping(config: type[C], content: Any, *, where: str) -> C:
    """Build the dataclass `config` from nested mappings, checking every key and value.

    One value may stand where several are taken, as on the command line.

    Raises:
        ConfigError: a key or a value does not fit; the message names the nearest key.
    """
    import pydantic

    _check_keys(config, content, where)
    try:
        return pydantic.TypeAdapter(config).validate_python(_listed(config, content))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        if isinstance(cause := first.get("ctx", {}).get("error"), ConfigError):
            raise cause from error
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{key}: {first['msg'].lower()}, not {first['input']!r}", where=where) from error


def _listed(config: Any, content: dict[str, Any]) -> dict[str, Any]:
    """The same with a list of one value for a single value, where the setting is a list."""
    kinds, sections = get_type_hints(config), {f.name: f.default_factory for f in fields(config)}
    listed = dict(content)
    for key, value in content.items():
        if is_dataclass(sections[key]):
            listed[key] = _listed(sections[key], value)
        elif isinstance(value, str | int | float) and not isinstance(value, bool) and _takes_several(kinds[key]):
            listed[key] = [value]
    return listed


def _takes_several(kind: Any) -> bool:
    return get_origin(kind) is tuple or any(get_origin(one) is tuple for one in get_args(kind))


def _check_keys(config: Any, content: Any, where: str, prefix: str = "") -> None:
    if not isinstance(content, dict):
        raise ConfigError(f"{prefix or 'the file'} must hold names and values, not {content!r}", where=where)
    known = {f.name: f for f in fields(config)}
    for key, value in content.items():
        if key not in known:
            raise ConfigError(
                f"unknown setting {prefix}{key}",
                where=where,
                fix=nearest(str(key), known, of="settings here"),
            )
        section = known[key].default_factory
        if is_dataclass(section):
            _check_keys(section, value, where, f"{prefix}{key}.")
