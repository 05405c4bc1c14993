"""Where a run's data lies, also after run and data were moved together; and the settings of a run that goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from dkgzsl.config import TrainConfig
from dkgzsl.data.problem import Problem
from dkgzsl.errors import ConfigError, RunError
from dkgzsl.methods.sections import read_train_config
from dkgzsl.reading import read_json
from dkgzsl.runs.states import settle

PLACES: Final = ("name", "data_root", "features", "extra_features")
"""Settings that may be paths; `config.yaml` has them absolute."""
ENVIRONMENT: Final = "environment.json"


def places_of(recorded: Mapping[str, Any], problem: Problem, run: Path) -> dict[str, Any]:
    """What `environment.json` keeps of places: paths relative to the run folder, and one photo to try the run on.

    Args:
        recorded: the settings as `config.yaml` has them.
        problem: the data.
        run: the run folder.
    """
    places = {key: _each(recorded.get(key), lambda path: _relative(path, run)) for key in PLACES}
    photo = _photo(problem)
    return {
        "places": {key: value for key, value in places.items() if value},
        **({"photo": str(photo), "photo_from_here": _relative(str(photo), run)} if photo else {}),
    }


def recorded_config(run: Path) -> TrainConfig:
    """The settings of a run, with its data where it lies now.

    Raises:
        ConfigError: `config.yaml` cannot be read.
        RunError: a later version wrote it.
    """
    config = read_train_config(run / "config.yaml")
    found = found_again({key: getattr(config, key) for key in PLACES}, run)
    return replace(
        config,
        name=found["name"],
        data_root=found["data_root"],
        features=found["features"],
        extra_features=tuple(found["extra_features"]),
    )


def found_again(recorded: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Settings whose paths lead nowhere any more, with the paths that the run's own place gives.

    Args:
        recorded: settings by name; only those in `PLACES` change.
        run: the run folder.
    """
    places = _environment(run).get("places", {})
    result = dict(recorded)
    for key in PLACES:
        value, relative = recorded.get(key), places.get(key)
        if isinstance(value, str) and isinstance(relative, str):
            result[key] = _there(value, relative, run)
        elif isinstance(value, list | tuple) and isinstance(relative, list) and len(value) == len(relative):
            result[key] = [_there(one, other, run) for one, other in zip(value, relative, strict=True)]
    return result


def check_places(config: TrainConfig, run: Path, *, verb: str) -> None:
    """That data and features of a run are where it says.

    Args:
        config: the run's settings.
        run: its folder.
        verb: the command that takes other places, for the message.

    Raises:
        RunError: they are not; the message names the option that says where they are.
    """
    given = ((config.name, "data", "--data FOLDER"), (config.features, "features", "--features STORE"))
    for value, what, option in given:
        if value is not None and Path(value).is_absolute() and not Path(value).exists():
            raise RunError(
                f"the run's {what} are not at {value} any more",
                where=str(run),
                fix=f"say where they are: dkgzsl {verb} {run} {option}",
            )


def resumed(config: TrainConfig) -> TrainConfig:
    """The settings of the run that `--resume` goes on with, where nothing but its folder is named.

    What is given besides stays, so that a setting that differs from the run's is refused as ever.

    Args:
        config: as the user gave it.

    Raises:
        RunError: there is no run to resume.
    """
    if not config.resume or config.out is None or config.name or config.dataset or config.config:
        return config
    run = Path(config.out)
    if not (run / "config.yaml").is_file():
        settle(run)
    if not (run / "config.yaml").is_file():
        fix = "leave --resume out, and name a data set to start one"
        raise RunError("there is no run to resume", where=str(run), fix=fix)
    recorded, plain = recorded_config(run), TrainConfig()
    given = {one.name: getattr(config, one.name) for one in fields(TrainConfig)}
    given = {name: value for name, value in given.items() if value != getattr(plain, name)}
    settings = given.pop("settings", None)
    if settings is not None and settings != type(settings)():  # the defaults of a section are nobody's wish
        if type(settings) is not type(recorded.settings):
            raise ConfigError(
                f"the run is one of --method {recorded.method}, and the settings are of another method",
                where=str(run),
                fix="leave them out",
            )
        given["settings"] = settings
    return replace(recorded, **given)


def example_photo(run: Path) -> Path | None:
    """A photo to try the run on: a test image of its own; None where none is known, or it is gone."""
    content = _environment(run)
    photo, relative = content.get("photo"), content.get("photo_from_here")
    candidates = [Path(photo)] if isinstance(photo, str) else []
    candidates += [Path(os.path.normpath(run / relative))] if isinstance(relative, str) else []
    return next((path for path in candidates if path.is_absolute() and path.is_file()), None)


def _photo(problem: Problem) -> Path | None:
    """A test image of an unseen class, or else of a seen one, where an image can become features again."""
    if problem.image_files is None or not (problem.provenance.get("store") or {}).get("preprocessing"):
        return None
    for part in (problem.parts.test_unseen, problem.parts.test_seen):
        if len(part) and Path(problem.image_files[int(part[0])]).is_file():
            return Path(problem.image_files[int(part[0])]).absolute()
    return None


def _environment(run: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = read_json(run / ENVIRONMENT, dict[str, Any], "", error=RunError)
    except RunError:
        return {}
    return content if isinstance(content.get("places", {}), dict) else {}


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, list | tuple):
        return [change(one) for one in value]
    return change(value) if isinstance(value, str) else None


def _relative(path: str, run: Path) -> str | None:
    """The path from a run folder; None for what is no absolute path, or lies on another drive."""
    if not Path(path).is_absolute():
        return None
    try:
        return Path(os.path.relpath(path, run.resolve())).as_posix()
    except ValueError:
        return None


def _there(path: str, relative: str | None, run: Path) -> str:
    """The path, or, where nothing is there any more, the one that the run's place gives, where something is."""
    if relative is None or not Path(path).is_absolute() or Path(path).exists():
        return path
    moved = Path(os.path.normpath(run.resolve() / relative))
    return str(moved) if moved.exists() else path
