"""`dkgzsl adapt`: described classes move to what unlabelled photos show, as a new version of a run."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dkgzsl.cli.next_step import command, next_line
from dkgzsl.display import percent
from dkgzsl.errors import DkgzslError

if TYPE_CHECKING:
    from dkgzsl.data.problem import Features
    from dkgzsl.inference.adaptation import Adapted, Pool
    from dkgzsl.inference.recognizer import Recognizer


@dataclass(frozen=True)
class Config:
    """Adapt a run to photos without labels: what they show corrects the classes that it knows by description.

    The photos may show described classes, seen ones, or both; you need not say which. The run gets a new version.
    predict and evaluate use it from then on; older versions stay. Training images among the photos are left out.

    Where the photos show no described class, or where adaptation does not help on validation classes, the run
    stays as it is: the reason is printed, and the exit code is 0. --force adapts it all the same.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    photos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PHOTOS_OR_STORE...")]
    """Photos, folders of photos (searched at any depth), one feature store, or one file of features
    (.npy, .npz, a table)."""
    force: bool = False
    """Adapt even where validation finds no gain."""
    version: int | None = None
    """Version of the run to start from (default: the newest)."""
    data_root: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder that holds the data sets, where it was moved, to find training images among the photos (default: the
    one of the training)."""
    weights: Path | None = None
    """The backbone's weights (default: those that the run records, by path and sha256)."""
    device: str | None = None
    """Where the backbone runs: cpu, cuda, ... (default: CUDA where there is one)."""
    json: bool = False
    """Print one JSON object on standard output."""


def run(config: Config) -> None:
    """Read the pool, adapt, save a version, print it."""
    from dkgzsl.inference.new_version import make_version

    adapting = _Adapting(config)
    made = make_version(Path(config.run), config.version, adapting)
    before, version, parent = made.before, made.version, made.parent
    pool, found, seconds = adapting.pool, adapting.found, adapting.seconds
    assert pool is not None, "it has run"
    assert found is not None, "likewise"
    content = _content(config, before, pool, found, version, seconds)
    if config.json:
        print(json_format.dumps(content, ensure_ascii=False))
    else:
        _print(config, content, parent)
    if found.refusal is not None:
        again = command("adapt", config.run, *config.photos, *_flags(config), "--force")
        print(f"not adapted: {found.refusal}\nto adapt all the same: {again}", file=sys.stderr)


class _Adapting:
    """The change of a recognizer that the command asks for; what came of it is kept for the print."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._features: Features | None = None
        self._trained_on: set[bytes] | None = None
        self.pool: Pool | None = None
        self.found: Adapted | None = None
        self.seconds = 0.0

    def __call__(self, before: Recognizer) -> tuple[Recognizer, dict[str, Any] | None]:
        from dkgzsl.inference.adaptation import adapt, checked_pool
        from dkgzsl.methods.base import Adaptable
        from dkgzsl.methods.registry import unable

        config = self._config
        if not isinstance(before.model, Adaptable):
            raise unable(before.model, "adaptable", where=config.run)
        if self._features is None or self._trained_on is None:  # they are read once
            self._features, self._trained_on = _features(config, before), _trained_on(config)
        where = " ".join(map(str, config.photos))
        pool = self.pool = checked_pool(before, self._features, trained_on=self._trained_on, where=where)
        started = perf_counter()
        found = self.found = adapt(before, pool, force=config.force)
        self.seconds = perf_counter() - started
        if found.refusal is not None:
            return before, None
        return found.recognizer, {
            "action": "adapt",
            "photos": len(pool.vectors),
            "pool_sha256": pool.sha256,
            "trained_on": pool.trained_on,
            "repeated": pool.repeated,
            "forced": config.force,
        }


def _flags(config: Config) -> list[str]:
    """The options that were given, to be given again."""
    given = {
        "version": config.version,
        "data-root": config.data_root,
        "weights": config.weights,
        "device": config.device,
    }
    return [word for key, value in given.items() if value is not None for word in (f"--{key}", str(value))]


def _features(config: Config, recognizer: Recognizer) -> Features:
    """Features of the pool, from photos or from a file of features."""
    import numpy as np

    from dkgzsl.data.formats.feature_files import is_arrays
    from dkgzsl.errors import DataError
    from dkgzsl.features.store import is_store
    from dkgzsl.inference.adaptation import read_pool
    from dkgzsl.inference.photos import list_photos, photo_reader

    files = [path for path in config.photos if is_arrays(path) or path.suffix == ".npy" or is_store(path)]
    if files:
        if len(config.photos) > 1:
            raise DataError(
                "photos and a file of features cannot be adapted to together",
                where=str(files[0]),
                fix="name the file of features alone",
            )
        return read_pool(files[0])
    paths = list_photos(config.photos)
    reader = photo_reader(recognizer.record, weights=config.weights, device=config.device)
    read = []
    for photos in reader.read(paths):
        for path, why in photos.unreadable:
            print(f"skipped: {path}: {why}", file=sys.stderr)
        read.append(photos.features)
    return np.concatenate(read)


def _trained_on(config: Config) -> set[bytes]:
    """Training images of the run, where its data is at hand; a note says where it is not."""
    from dataclasses import replace

    from dkgzsl.inference.adaptation import training_digests
    from dkgzsl.runs.places import recorded_config
    from dkgzsl.runs.plan import make_plan

    file = Path(config.run) / "config.yaml"
    try:
        if not file.is_file():  # a saved estimator does not say where its images lie
            raise DkgzslError("the folder does not say what data it was trained on")
        trained = recorded_config(file.parent)
        plan = make_plan(replace(trained, data_root=config.data_root or trained.data_root))
        return training_digests(plan.problem_for(plan.seeds[0]))
    except DkgzslError as error:
        print(f"note: training images among the photos are not looked for: {error.what}", file=sys.stderr)
        return set()


def _content(
    config: Config, before: Recognizer, pool: Pool, found: Adapted, version: int, seconds: float
) -> dict[str, Any]:
    from dkgzsl.inference.adaptation import FOUND_NONE

    names, shown = before.class_names, found.adaptation
    rows = sorted(
        zip(shown.classes, shown.taken, shown.moved, shown.evident, strict=True), key=lambda row: (-row[1], row[0])
    )
    return {
        "run": config.run,
        "adapted": found.refusal is None,
        "reason": found.refusal,
        "version": version,
        "photos": len(pool.vectors),
        "left_out": {"trained_on": pool.trained_on, "repeated": pool.repeated},
        "pool_sha256": pool.sha256,
        "evident_share": round(shown.evident_share, 4),
        "classes": [
            {"class": names[number], "photos": round(taken, 2), "moved": round(moved, 4), "evident": evident}
            for number, taken, moved, evident in rows
        ],
        "found_none": [names[number] for number, taken, _, _ in rows if taken < FOUND_NONE],
        "uncertain": [[names[one], names[other]] for one, other in shown.uncertain],
        "worth": None if before.record.adaptation is None else dict(before.record.adaptation),
        "seconds": round(seconds, 3),
    }


def _print(config: Config, content: Mapping[str, Any], parent: int) -> None:
    left = content["left_out"]
    out = [f"{left['trained_on']} training images"] if left["trained_on"] else []
    out += [f"{left['repeated']} that are there twice"] if left["repeated"] else []
    without = f", without {' and '.join(out)}" if out else ""
    print(f"pool       {content['photos']} photos{without} (sha256 {content['pool_sha256'][:12]})")
    width = max(len(row["class"]) for row in content["classes"])
    for row in content["classes"]:
        mark = "" if row["evident"] else "   not evident"
        print(f"  {row['class']:<{width}}  {row['photos']:7.1f} photos, moved {row['moved']:.2f}{mark}")
    if content["found_none"]:
        print(f"none       no photo found for {', '.join(content['found_none'])}")
    if content["uncertain"]:
        pairs = ", ".join(f"{one} / {other}" for one, other in content["uncertain"])
        print(f"uncertain  these classes may have each other's photos: {pairs}; check some of them")
    worth = content["worth"]
    if worth is None:
        print("worth      not measured on validation classes")
    else:
        change = f"AUSUC {percent(worth['ausuc_before'])} before, {percent(worth['ausuc_after'])} after"
        print(
            f"worth      on validation classes, adapted to half of their images and scored on the others: {change}"
        )
    if content["adapted"]:
        print(f"version    {content['version']} of {config.run}: {content['seconds']:.2f} s of work")
        print(f"undo       --version {parent} names the run without this change")
        files = [path for path in config.photos if path.suffix == ".npy" or path.joinpath("store.json").is_file()]
        tried = [*(["--features"] if files else []), *map(str, config.photos)]
        print(next_line(command("predict", config.run, *tried)))
    else:
        print(f"version    {content['version']} of {config.run} stays as it is")
