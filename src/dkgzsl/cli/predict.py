"""`dkgzsl predict`: what photos show, from a run folder alone."""

from __future__ import annotations

import json as json_format
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import tyro

from dkgzsl.cli.next_step import after_prediction, next_line
from dkgzsl.cluster.shares import check_place
from dkgzsl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from dkgzsl.inference.photos import Photos
    from dkgzsl.inference.prediction import ExplainedPrediction
    from dkgzsl.inference.recognizer import Recognizer


@dataclass(frozen=True)
class Config:
    """Predict what photos show: class, probability, seen or unseen, and the attributes that support it.

    Probabilities are calibrated on validation images, and so is the decision "none of these". An image that cannot
    be read is reported and skipped; the exit code is 0 if at least one was read, and 2 if none was.

    Attributes are read from the photo itself: those that it shows and the class has, those that speak against the
    class, and those of the second class. Behind each stands how often it is read correctly, in percent: of two
    photos of held-out classes, one with the attribute and one without, it says which is which (50 is chance).
    Attributes that cannot be read better than by chance are not named.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE_OR_FOLDER...")] = ()
    """Photos, and folders of photos (searched at any depth)."""
    features: Path | None = None
    """Features instead of photos: a .npy or .npz file [images, ...], a table of numbers, or a feature store."""
    top: int = 3
    """Classes to name."""
    attributes: int = 4
    """Attributes to name as evidence, at most; 0 names none."""
    version: int | None = None
    """Version of the run's classes: 0 as trained, higher ones by add-class, adapt, ... (default: newest)."""
    weights: Path | None = None
    """The backbone's weights (default: those that the run records, by path and sha256)."""
    device: str | None = None
    """Where the backbone runs: cpu, cuda, ... (default: CUDA where there is one)."""
    batch_size: int = 16
    """Photos that go through the backbone together."""
    on: str | None = None
    """ray: a worker for each core of this machine, or the cluster at RAY_ADDRESS; ray://HOST:PORT: a cluster. Its
    machines have the photos under the same paths."""
    overlay: Path | None = None
    """Folder for pictures: for each photo one that shows which parts decide and where the attributes lie, and, if
    the run has FDE, one of its saliency before and after training."""
    out: Path | None = None
    """File for JSON Lines, one object per image; an existing file is replaced at the end."""
    json: bool = False
    """Print JSON Lines on standard output."""

    def __post_init__(self) -> None:
        for name, least in (("top", 1), ("attributes", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.images and self.features is None:
            raise ConfigError("no photo is named", fix="dkgzsl predict RUN IMAGE_OR_FOLDER..., or --features FILE")
        if self.images and self.features is not None:
            raise ConfigError("photos and --features are both given", fix="give one of them")
        check_place(self.on)
        if self.on is not None and (self.overlay is not None or self.features is not None):
            raise ConfigError("--on is for photos, without --overlay", fix="leave --on out")
        if self.overlay is not None and (self.features is not None or not self.attributes):
            raise ConfigError("--overlay draws attributes on photos", fix="name photos, and at least 1 attribute")


def run(config: Config) -> None:
    """Predict, print, report what could not be read."""
    from dkgzsl.device import fast_products
    from dkgzsl.inference.recognizer import Recognizer

    recognizer = Recognizer.from_run(Path(config.run), config.version)
    if config.features is not None:
        found = _of_features(config, recognizer)
    else:
        found = _of_photos(config, recognizer) if config.on is None else _on_workers(config, recognizer)
    with fast_products():
        if config.out is None:
            _print(config, found)
        else:
            _print_and_keep(config, found, config.out)
    step = None if config.json else after_prediction(config.run, recognizer)
    if step is not None:  # not among the predictions, which may go into a file
        print(next_line(step), file=sys.stderr)


def _print(config: Config, found: Found, file: TextIO | None = None) -> None:
    """Print what is found; a file gets all of it, also where nobody reads the output any more."""
    gone: Exception | None = None
    for content, words in found:
        line = json_format.dumps(_as_json(content), ensure_ascii=False, allow_nan=False)
        if file is not None:
            file.write(line + "\n")
        shown = line if config.json else "\n".join(words)
        if not shown or gone is not None:
            continue
        try:
            print(shown, flush=True)
        except (OSError, ValueError) as error:  # a broken pipe, or an output that is closed
            if file is None:
                raise
            gone = error
    if gone is not None:
        raise _WholeButUnreadError from gone


class _WholeButUnreadError(Exception):
    """Everything is found and written, and the reader of standard output has gone."""


def _as_json(value: Any) -> Any:
    """The value with null for what JSON has no number for: NaN and infinity."""
    if isinstance(value, dict):
        return {key: _as_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_and_keep(config: Config, found: Found, out: Path) -> None:
    from dkgzsl.files import output_file

    unread = False
    try:
        with output_file(out) as draft, draft.open("w", encoding="utf-8") as file:
            try:
                _print(config, found, file)
            except _WholeButUnreadError:
                unread = True
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", where=str(out)) from error
    if unread:
        raise BrokenPipeError


Found = Iterator[tuple[dict[str, Any], list[str]]]  # an image's object and its lines of text


def _of_photos(config: Config, recognizer: Recognizer) -> Found:
    from dkgzsl.features.photo_files import printable
    from dkgzsl.inference.photos import list_photos, photo_reader
    from dkgzsl.inference.prediction import explained_predictions

    paths = list_photos(config.images)
    reader = photo_reader(recognizer.record, weights=config.weights, device=config.device)
    if config.overlay is not None:
        _check_overlay(recognizer, config.overlay)
    read = 0
    for photos in reader.read(paths, batch_size=config.batch_size):
        for path, why in photos.unreadable:
            print(f"skipped: {printable(path)}: {why}", file=sys.stderr)
            yield {"image": printable(path), "error": why}, []
        given = explained_predictions(
            recognizer, photos.features, grid=reader.grid, top=config.top, attributes=config.attributes
        )
        for row, (path, explained) in enumerate(zip(photos.paths, given, strict=True)):
            content, words = _shown(printable(path), explained)
            if config.overlay is not None:
                stem = config.overlay / f"{read:03d}-{printable(path.stem)}"
                files = _draw(recognizer, explained, photos, row, reader.grid, stem)
                content |= files
                words += [f"  {file}" for file in files.values()]
            read += 1
            yield content, words
    if not read:
        raise DataError("no image could be read", fix="see the reasons above")


def _on_workers(config: Config, recognizer: Recognizer) -> Found:
    """The same by the workers of a cluster, a batch a share, in the order of the photos."""
    from dkgzsl.cluster.shares import map_shares
    from dkgzsl.features.photo_files import printable
    from dkgzsl.inference.photos import list_photos, photo_reader, refuse_unseen
    from dkgzsl.inference.shares import PhotoWork, predictions_of_share

    given = list_photos(config.images)
    paths = [path.absolute() for path in given]  # workers are in other folders
    shown = {path: printable(one) for path, one in zip(paths, given, strict=True)}
    reader = photo_reader(recognizer.record, weights=config.weights, device=config.device)
    work = PhotoWork(recognizer, reader, config.top, config.attributes)
    shares = [paths[start : start + config.batch_size] for start in range(0, len(paths), config.batch_size)]
    read = 0
    for _, found in map_shares(predictions_of_share, work, shares, on=config.on, gpu=reader.device == "cuda"):
        refuse_unseen(found.unreadable)
        for path, why in found.unreadable:
            print(f"skipped: {shown[path]}: {why}", file=sys.stderr)
            yield {"image": shown[path], "error": why}, []
        for path, explained in found.predictions:
            read += 1
            yield _shown(shown[path], explained)
    if not read:
        raise DataError("no image could be read", fix="see the reasons above")


def _of_features(config: Config, recognizer: Recognizer) -> Found:
    import numpy as np

    from dkgzsl.data.formats.feature_files import finite_rows, read_features, unreadable_rows
    from dkgzsl.inference.prediction import explained_predictions

    assert config.features is not None, "there are no photos"
    rows = read_features(config.features, pooled=len(recognizer.record.features) == 1)
    whys = unreadable_rows(config.features)
    read = 0
    for start in range(0, len(rows), config.batch_size):
        batch = np.asarray(rows[start : start + config.batch_size])
        good = finite_rows(batch)
        for row in range(start, start + len(batch)):
            if not good[row - start]:
                whys[row] = "NaN or infinity among its features"
            good[row - start] &= row not in whys
        given = explained_predictions(recognizer, batch[good], top=config.top, attributes=config.attributes)
        explained = iter(given)
        for row in range(start, start + len(batch)):
            if row in whys:
                print(f"skipped: row {row}: {whys[row]}", file=sys.stderr)
                yield {"image": f"row {row}", "error": whys[row]}, []
            else:
                read += 1
                yield _shown(f"row {row}", next(explained))
    if not read:
        raise DataError(
            "no row has features that can be used", where=str(config.features), fix="see the reasons above"
        )


def _shown(image: str, explained: ExplainedPrediction) -> tuple[dict[str, Any], list[str]]:
    from dkgzsl.inference.prediction import in_words

    first, *others = in_words(explained)
    return {"image": image, **explained.to_json()}, [f"{image}: {first}", *others]


def _check_overlay(recognizer: Recognizer, folder: Path) -> None:
    known = recognizer.evidence
    if len(recognizer.record.features) < 2 or (known is None and recognizer.refiner is None):
        raise DataError(
            "this run has no regions, or its attributes have no names, so there is nothing to draw",
            fix="train on region features (dkgzsl extract), with a table of named attributes",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write the pictures: {error.strerror}", where=str(folder)) from error


def _draw(
    recognizer: Recognizer,
    explained: ExplainedPrediction,
    photos: Photos,
    row: int,
    grid: tuple[int, int],
    stem: Path,
) -> dict[str, str]:
    """Draw a photo's pictures; returns their files by name in the photo's JSON object."""
    from dkgzsl.files import output_file
    from dkgzsl.inference.prediction import evidence_picture, saliency_picture

    pixels, files = photos.pixels[row], {}
    pictures = {
        "picture": evidence_picture(explained, pixels, grid),
        "saliency_picture": saliency_picture(recognizer, photos.features[row], pixels, grid),
    }
    for name, picture in pictures.items():
        if picture is None:
            continue
        file = stem.with_name(f"{stem.name}{'' if name == 'picture' else '-saliency'}.png")
        try:
            with output_file(file) as draft:
                picture.save(draft, format="PNG")
        except OSError as error:
            raise ConfigError(f"cannot write the picture: {error.strerror or error}", where=str(file)) from error
        files[name] = str(file)
    return files
