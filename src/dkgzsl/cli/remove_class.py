"""`dkgzsl remove-class`: a new version of a run that does not recognise a class any more."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from dkgzsl.cli.next_step import after_version, next_line


@dataclass(frozen=True)
class Config:
    """Remove a class: a new version of the run does not recognise it any more; older versions stay.

    What was learned from the images of a seen class stays in the model.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    name: tuple[str, ...]
    """Names of the classes to remove."""
    version: int | None = None
    """Version of the run to start from (default: the newest)."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Remove, save a version, print it."""
    from dkgzsl.data.names import clean_name
    from dkgzsl.inference.new_version import make_version
    from dkgzsl.inference.recognizer import Recognizer

    names = [clean_name(name) for name in config.name]

    def remove(recognizer: Recognizer) -> tuple[Recognizer, dict[str, Any]]:
        for name in names:
            recognizer = recognizer.without_class(name)
        return recognizer, {"action": "remove-class", "classes": names}

    made = make_version(Path(config.run), config.version, remove)
    recognizer, version, parent = made.after, made.version, made.parent
    if config.json:
        content = {"run": config.run, "version": version, "removed": names, "classes": len(recognizer.known_names)}
        print(json_format.dumps(content, ensure_ascii=False))
        return
    print(f"removed    {', '.join(names)}")
    print(f"version    {version} of {config.run}: {len(recognizer.known_names)} classes")
    print(f"undo       --version {parent} names the run without this change")
    print(next_line(after_version(config.run, recognizer)))
