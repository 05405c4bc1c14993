"""`dkgzsl add-class`: a new class from its description, at once, as a new version of a run."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dkgzsl.cli.next_step import after_version, next_line
from dkgzsl.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from dkgzsl.inference.new_classes import Described, Describer
    from dkgzsl.inference.recognizer import Recognizer


@dataclass(frozen=True)
class Config:
    """Add a class to a run by its description; no photo is needed.

    The run gets a new version, which predict and evaluate use from then on; older versions stay.

    Most methods compute the scores of the new class from its description, at once. Methods that end in a softmax
    (dkgzsl, f-clswgan, f-vaegan-d2, cada-vae) synthesize features of the class and train the softmax again;
    closed-form with its softmax trains the part of the new class alone. Methods that predict a mean for each class
    (closed-form, ridge, gfzsl) also take a few photos, which make the class more accurate.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    name: str | None = None
    """Name of the new class."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ATTRIBUTE=VALUE...")] = ()
    """Attributes by the names of the run's table; one that is not set is filled in from classes
    with similar descriptions."""
    attributes: Path | None = None
    """File with the description: a table with the columns attribute and value, a table of attributes with a row of
    that name (CSV, Excel or Parquet), or a .npy file."""
    text: Annotated[str | None, tyro.conf.arg(metavar="SENTENCE")] = None
    """The description as a sentence, for semantics that a sentence encoder made."""
    csv: Path | None = None
    """File with many classes, instead of --name: a table of attributes with one row per class, or the columns
    class and description."""
    photos: Path | None = None
    """Folder of a few photos of the class; with --csv a folder of class folders."""
    features: Path | None = None
    """Features of a few photos of the class, instead of --photos: a .npy or .npz file, a table, or a store."""
    version: int | None = None
    """Version of the run to start from (default: the newest)."""
    weights: Path | None = None
    """The backbone's weights (default: those that the run records, by path and sha256)."""
    device: str | None = None
    """Where the backbone runs: cpu, cuda, ... (default: CUDA where there is one)."""
    json: bool = False
    """Print one JSON object on standard output."""

    def __post_init__(self) -> None:
        ways = [way for way in ("set", "attributes", "text", "csv") if getattr(self, way)]
        if len(ways) != 1:
            said = " and ".join(f"--{way}" for way in ways)
            raise ConfigError(
                f"a class is described in one way, not by {said}" if ways else "the class is not described",
                fix="--set ATTRIBUTE=VALUE, --attributes FILE, --text SENTENCE, or --csv FILE for many",
            )
        if (self.csv is None) == (self.name is None):
            raise ConfigError(
                "the class has no name" if self.name is None else "--csv holds the names",
                fix="--name NAME for one class, or --csv FILE for many",
            )
        if self.features is not None and (self.photos is not None or self.csv is not None):
            raise ConfigError("--features are of one class's photos", fix="leave --photos and --csv out")


def run(config: Config) -> None:
    """Describe, add, save a version, print it."""
    from dkgzsl.inference.new_classes import nearest_classes
    from dkgzsl.inference.new_version import make_version

    adding = _Adding(config)
    made = make_version(Path(config.run), config.version, adding)
    before, after, version, parent = made.before, made.after, made.version, made.parent
    described, photos, seconds = adding.described, adding.photos or {}, adding.seconds
    near = {name: nearest_classes(before, one.vector) for name, one in described.items()}
    if config.json:
        _print_json(config.run, version, described, photos, near, after, seconds)
        return
    for name, one in described.items():
        if one.open:
            filled = f"{one.open} of {len(one.vector)} attributes of {name} are not given; they are filled in from"
            few = ". Name more attributes: they make the class easier to recognise" if one.sparse else ""
            print(
                f"{'warning' if one.sparse else 'note'}: {filled} classes with similar descriptions{few}",
                file=sys.stderr,
            )
        like = ", ".join(f"{other} {share:.2f}" for other, share in near[name])
        count = len(photos.get(name, ()))
        few = f", with {count} {'photo' if count == 1 else 'photos'}" if count else ""
        print(f"added      {name}{few}; described most like {like}")
    print(f"version    {version} of {config.run}: {len(after.known_names)} classes, {seconds:.3f} s of work")
    print(f"undo       --version {parent} names the run without this change")
    tried = () if config.photos is None else (str(config.photos),)
    print(next_line(after_version(config.run, after, tried)))


class _Adding:
    """The change of a recognizer that the command asks for; what came of it is kept for the print."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.described: dict[str, Described] = {}
        self.photos: dict[str, np.ndarray] | None = None
        self.seconds = 0.0

    def __call__(self, before: Recognizer) -> tuple[Recognizer, dict[str, Any]]:
        from dkgzsl.inference.new_classes import Describer

        described = self.described = _described(self._config, Describer.of(before))
        if self.photos is None:  # they are read once
            self.photos = _photos(self._config, before, list(described))
        started = perf_counter()
        sparse = [name for name, one in described.items() if one.sparse]
        vectors = {name: one.vector for name, one in described.items()}
        after = before.with_classes(vectors, self.photos, sparse=sparse)
        self.seconds = perf_counter() - started
        ways = ("set", "attributes", "text", "csv")
        return after, {
            "action": "add-class",
            "classes": list(described),
            "described_by": next(way for way in ways if getattr(self._config, way)),
            "photos": {name: len(features) for name, features in self.photos.items()},
        }


def _described(config: Config, describer: Describer) -> dict[str, Described]:
    from dkgzsl.inference.new_classes import checked_name, read_settings

    if config.csv is not None:
        return describer.from_table(config.csv)
    assert config.name is not None, "Config checks it"
    name = checked_name(config.name)
    if config.text is not None:
        return describer.from_texts({name: config.text})
    if config.attributes is not None:
        return {name: describer.from_file(config.attributes, name)}
    return {name: describer.from_values(read_settings(config.set))}


def _photos(config: Config, recognizer: Recognizer, names: list[str]) -> dict[str, np.ndarray]:
    """Features of photos by class, for the classes that have photos."""
    import numpy as np

    from dkgzsl.data.formats.feature_files import finite_rows, read_features
    from dkgzsl.errors import DataError
    from dkgzsl.inference.photos import list_photos, photo_reader

    if config.features is not None:
        rows = read_features(config.features, pooled=len(recognizer.record.features) == 1)
        good = finite_rows(np.asarray(rows))
        for row in np.flatnonzero(~good):
            print(f"skipped: row {row}: NaN or infinity among its features", file=sys.stderr)
        if not good.any():
            raise DataError("every row has NaN or infinity", where=str(config.features), fix="extract them again")
        return {names[0]: np.asarray(rows[good])}
    if config.photos is None:
        return {}
    if config.csv is None:
        folders = {names[0]: config.photos}
    else:
        folders = {name: config.photos / name for name in names if (config.photos / name).is_dir()}
        if not folders:
            raise DataError("no folder has the name of one of the classes", where=str(config.photos))
    paths = {name: list_photos([folder]) for name, folder in folders.items()}
    reader = photo_reader(recognizer.record, weights=config.weights, device=config.device)
    found: dict[str, np.ndarray] = {}
    for name, files in paths.items():
        read = []
        for photos in reader.read(files):
            for path, why in photos.unreadable:
                print(f"skipped: {path}: {why}", file=sys.stderr)
            read.append(photos.features)
        found[name] = np.concatenate(read)
        if not len(found[name]):
            raise DataError(f"no photo of {name} can be read", where=str(folders[name]))
    return found


def _print_json(
    run: str,
    version: int,
    described: Mapping[str, Described],
    photos: Mapping[str, Any],
    near: Mapping[str, list[tuple[str, float]]],
    recognizer: Recognizer,
    seconds: float,
) -> None:
    added = [
        {
            "class": name,
            "open_attributes": one.open,
            "photos": len(photos.get(name, ())),
            "nearest": [{"class": other, "likeness": round(share, 4)} for other, share in near[name]],
        }
        for name, one in described.items()
    ]
    content = {"run": run, "version": version, "added": added, "classes": len(recognizer.known_names)}
    print(json_format.dumps({**content, "seconds": round(seconds, 4)}, ensure_ascii=False))
