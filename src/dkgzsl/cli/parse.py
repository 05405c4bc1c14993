"""From words and YAML to a configuration dataclass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import tyro

from dkgzsl.config import read_yaml

C = TypeVar("C")


def parse(config: type[C], words: Sequence[str], *, verb: str) -> C:
    """Parse command-line words into `config`; a `--config FILE` (YAML) lies under every flag.

    Raises:
        ConfigError: the YAML file is missing, malformed, or has a key or value that does not fit.
        SystemExit: the words do not fit (code 2, the nearest option named) or ask for help (code 0).
    """
    default: Any = tyro.MISSING_NONPROP
    file = _config_file(words) if "config" in {f.name for f in fields(config)} else None  # type: ignore[arg-type]
    if file is not None:
        default = read_yaml(config, Path(file))
    parsed: C = tyro.cli(
        config,
        args=list(words),
        prog=f"dkgzsl {verb}",
        default=default,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return parsed


def _config_file(words: Sequence[str]) -> str | None:
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == "--config":
            return following
        if word.startswith("--config="):
            return word.partition("=")[2]
    return None
