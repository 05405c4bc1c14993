"""`dkgzsl predict`: what photos show, by a run folder alone."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import tyro

from dkgzsl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from dkgzsl.inference.prediction import Answer
    from dkgzsl.inference.recognizer import Recognizer


@dataclass(frozen=True)
class Config:
    """Print what photos show: class, probability, seen or unseen, and the attributes that speak for it.

    Probabilities are calibrated on validation images, and so is the answer "none of these". An image that cannot
    be read is reported and skipped; the exit code is 0 as long as one could be read, and 2 where none could.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE_OR_FOLDER...")] = ()
    """Photos, and folders of photos (searched at any depth)."""
    features: Path | None = None
    """Features instead of photos: a .npy file [images, ...] or a feature store."""
    top: int = 3
    """Classes to name."""
    attributes: int = 4
    """Attributes to name as evidence, at most; 0 names none."""
    version: int | None = None
    """Version of the run's classes: 0 as trained, higher ones by add-class and remove-class (default: newest)."""
    weights: Path | None = None
    """The backbone's weights, where the run's features were extracted with --weights."""
    device: str | None = None
    """Where the backbone runs: cpu, cuda, ... (default: CUDA where there is one)."""
    batch_size: int = 16
    """Photos that go through the backbone together."""
    overlay: Path | None = None
    """Folder for pictures of where the attributes lie, one a photo."""
    out: Path | None = None
    """File for JSON Lines, one object an image; it is replaced when all is done."""
    json: bool = False
    """Print JSON Lines on standard output."""

    def __post_init__(self) -> None:
        for name, least in (("top", 1), ("attributes", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.images and self.features is None:
            raise ConfigError("no photo is named", fix="dkgzsl predict RUN IMAGE_OR_FOLDER..., or --features FILE")
        if self.images and self.features is not None:
            raise ConfigError("photos and --features are named", fix="name one of them")
        if self.overlay is not None and (self.features is not None or not self.attributes):
            raise ConfigError("--overlay draws attributes on photos", fix="name photos, and no --attributes 0")


def run(config: Config) -> None:
    """Predict, print, report what could not be read."""
    from dkgzsl.inference.recognizer import Recognizer

    recognizer = Recognizer.from_run(Path(config.run), config.version)
    found = _of_photos if config.features is None else _of_features
    with _kept(config.out) as file:
        for content, words in found(config, recognizer):
            line = json_format.dumps(content, ensure_ascii=False)
            if file is not None:
                file.write(line + "\n")
            if config.json:
                print(line, flush=True)
            elif words:
                print("\n".join(words), flush=True)


Found = Iterator[tuple[dict[str, Any], list[str]]]  # an image's object and its lines of text


def _of_photos(config: Config, recognizer: Recognizer) -> Found:
    from dkgzsl.inference.photos import list_photos, photo_reader
    from dkgzsl.inference.prediction import answers, evidence_picture

    paths = list_photos(config.images)
    reader = photo_reader(recognizer.record, weights=config.weights, device=config.device)
    if config.overlay is not None:
        _check_overlay(recognizer, config.overlay)
    read = done = 0
    for photos in reader.read(paths, batch_size=config.batch_size):
        for path, why in photos.unreadable:
            print(f"skipped: {path}: {why}", file=sys.stderr)
            yield {"image": str(path), "error": why}, []
        given = answers(
            recognizer, photos.features, grid=reader.grid, top=config.top, attributes=config.attributes
        )
        for path, pixels, answer in zip(photos.paths, photos.pixels, given, strict=True):
            content, words = _shown({"image": str(path)}, str(path), answer)
            if config.overlay is not None:
                file = config.overlay / f"{done:03d}-{path.stem}.png"
                _save(evidence_picture(answer, pixels, reader.grid), file)
                content["picture"] = str(file)
                words.append(f"  {file}")
            done += 1
            yield content, words
        read += len(photos.paths)
    if not read:
        raise DataError(f"none of the {len(paths)} images could be read", fix="see the reasons above")


def _of_features(config: Config, recognizer: Recognizer) -> Found:
    from dkgzsl.inference.photos import read_features
    from dkgzsl.inference.prediction import answers

    assert config.features is not None, "the other way is by photos"
    rows = read_features(config.features)
    for start in range(0, len(rows), config.batch_size):
        batch = rows[start : start + config.batch_size]
        given = answers(recognizer, batch, top=config.top, attributes=config.attributes)
        for row, answer in enumerate(given, start):
            yield _shown({"row": row}, f"row {row}", answer)


def _shown(which: dict[str, Any], name: str, answer: Answer) -> tuple[dict[str, Any], list[str]]:
    from dkgzsl.inference.prediction import in_words

    first, *others = in_words(answer)
    return {**which, **answer.to_json()}, [f"{name}: {first}", *others]


def _check_overlay(recognizer: Recognizer, folder: Path) -> None:
    if recognizer.evidence is None or recognizer.evidence.usual is None:
        raise DataError(
            "nothing in this run attends to regions, so that there is nothing to draw",
            fix="train on region features with --representation refined, or pooled+scores",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write the pictures: {error.strerror}", where=str(folder)) from error


def _save(picture: Any, file: Path) -> None:
    try:
        picture.save(file)
    except OSError as error:
        raise ConfigError(f"cannot write the picture: {error}", where=str(file)) from error


@contextmanager
def _kept(path: Path | None) -> Iterator[TextIO | None]:
    """A file that is there whole, or as it was before."""
    if path is None:
        yield None
        return
    draft = path.with_name(f".{path.name}.partial")
    try:
        file = draft.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", where=str(path)) from error
    try:
        with file:
            yield file
        draft.replace(path)
    except BrokenPipeError:  # standard output's, not the file's
        raise
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", where=str(path)) from error
    finally:
        draft.unlink(missing_ok=True)
