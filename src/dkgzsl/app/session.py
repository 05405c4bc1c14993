"""The session of one visitor of the page: a run's recognizer and the classes that the visitor has added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from dkgzsl.errors import DataError
from dkgzsl.inference.new_classes import Described, Describer, checked_name
from dkgzsl.inference.photos import PhotoReader, Photos
from dkgzsl.inference.prediction import ExplainedPrediction, explained_predictions
from dkgzsl.inference.recognizer import Recognizer, save_version
from dkgzsl.methods.base import Extendable
from dkgzsl.runs.folder import saving, version_of

TOP = 5
"""So many classes are shown for an image."""
LONGEST_NAME = 100
"""Characters of the name of a class that the page adds."""
LONGEST_TEXT = 2000
"""Characters of the description of a class that the page adds."""
MOST_ADDED = 50
"""So many classes a visitor may add before they are saved."""


class TriedImage(NamedTuple):
    """An image and the predictions for it.

    Attributes:
        biased: the prediction with the bias, and its evidence.
        unbiased: the prediction without the bias, and its evidence.
        pixels: the image as the backbone saw it, after cropping and scaling.
        grid: rows and columns of the regions.
    """

    biased: ExplainedPrediction
    unbiased: ExplainedPrediction
    pixels: UInt8[np.ndarray, "height width 3"]
    grid: tuple[int, int]


@dataclass(frozen=True)
class Session:
    """A session is never changed: each action gives a new one, so that visitors do not affect each other.

    Attributes:
        run: the run folder.
        parent: the version of the run that the recognizer was read from.
        recognizer: it includes the classes that the visitor has added.
        added: names of the added classes that are not saved in a version of the run.
        newest: the run's newest version when the session began or was saved last.
        note: what somebody else did to the run meanwhile; None: nothing.
    """

    run: Path
    parent: int
    recognizer: Recognizer
    added: tuple[str, ...] = ()
    newest: int | None = None
    note: str | None = None

    @classmethod
    def open(cls, run: Path, version: int | None = None) -> Session:
        """Open a version of a run (default: the newest).

        Raises:
            RunError: the folder holds no finished run, or no such version.
        """
        number = version_of(run, version)
        return cls(run, number, Recognizer.from_run(run, number), newest=version_of(run, None))

    @property
    def mean_description(self) -> Float[np.ndarray, " semantic"] | None:
        """Mean of the seen classes' descriptions; None where the model cannot add classes."""
        return Describer.of(self.recognizer).usual if isinstance(self.recognizer.model, Extendable) else None

    def description_of(self, name: str) -> Float[np.ndarray, " semantic"]:
        """The description of a class, as a start for a new one.

        Raises:
            DataError: there is no such class.
        """
        model = self.recognizer.model
        assert isinstance(model, Extendable), "the page offers it only where classes can be added"
        return np.asarray(model.semantics[self.recognizer.number_of(name)].double().cpu().numpy())

    def biased(self, bias: float) -> Recognizer:
        """The recognizer with a bias to unseen classes.

        Args:
            bias: added to the calibration constant, in temperatures: 1 multiplies the odds of each unseen class
                against each seen class by e.
        """
        record = self.recognizer.record
        old = record.calibration
        calibration = replace(old, constant=old.constant + bias * old.temperature)
        return replace(self.recognizer, record=replace(record, calibration=calibration))

    def predict(self, photos: Photos, grid: tuple[int, int], *, bias: float = 0.0) -> TriedImage:
        """Predictions for the one image in `photos`, with the bias and without.

        Args:
            photos: one image, as `read_one` returns it.
            grid: rows and columns of the regions.
            bias: see `biased`.
        """

        def of(recognizer: Recognizer) -> ExplainedPrediction:
            return explained_predictions(recognizer, photos.features, grid=grid, top=TOP)[0]

        unbiased = of(self.recognizer)
        biased = of(self.biased(bias)) if bias else unbiased
        return TriedImage(biased, unbiased, photos.pixels[0], grid)

    def attributes_of(self, name: str) -> list[tuple[str, float, float]]:
        """Attributes of a class: name, value, standard deviations above the mean of all classes, highest first.

        Empty where the attributes have no names, or the class has no attributes in its description.

        Raises:
            DataError: there is no such class.
        """
        known, number = self.recognizer.evidence, self.recognizer.number_of(name)
        if known is None:
            return []
        values, typical = known.table[number].double().numpy(), known.typical()[number]
        if np.isnan(values).any():
            return []
        order = np.argsort(-typical, kind="stable").tolist()
        return [(known.names[k], float(values[k]), float(typical[k])) for k in order]

    def with_values(self, name: str, values: Mapping[str, float]) -> Session:
        """Add a class by attributes; attributes that are not given are filled in from classes described alike.

        Raises:
            ConfigError: the name is empty.
            DataError: the name is taken or too long, an attribute is unknown or out of range, or too many
                classes were added.
            RunError: the model cannot add classes.
        """
        return self._with(name, Describer.of(self.recognizer).from_values(values))

    def with_text(self, name: str, text: str) -> Session:
        """Add a class by a sentence, where a sentence encoder made the descriptions of the run.

        Raises:
            ConfigError: the name is empty, or the run has no encoder.
            DataError: the text is empty or too long, the name is taken or too long, too many classes were added,
                or the encoder cannot be loaded.
            RunError: the model cannot add classes.
        """
        if not text.strip():
            raise DataError("the class is not described", fix="write a sentence about it")
        if len(text) > LONGEST_TEXT:
            raise DataError(
                f"the description has more than {LONGEST_TEXT:,} characters", fix="write a shorter one"
            )
        return self._with(name, Describer.of(self.recognizer).from_texts({name: text})[name])

    def _with(self, name: str, described: Described) -> Session:
        cleaned = checked_name(name)
        if len(cleaned) > LONGEST_NAME:
            raise DataError(f"the name has more than {LONGEST_NAME} characters", fix="take a shorter one")
        if len(self.added) >= MOST_ADDED:
            raise DataError(f"{MOST_ADDED} classes were added and not saved", fix="save them first")
        sparse = (cleaned,) if described.sparse else ()
        recognizer = self.recognizer.with_classes({cleaned: described.vector}, sparse=sparse)
        return replace(self, recognizer=recognizer, added=(*self.added, cleaned))

    def saved(self) -> Session:
        """Save the added classes in a new version of the run; the older versions stay.

        Where somebody else saved a version meanwhile, the classes are added to that one, so that the newest has
        both; where they cannot be (a class of that name is in it), `note` says what the newest has not.

        Raises:
            DataError: no class was added since the last time.
            RunError: it cannot be written.
        """
        if not self.added:
            raise DataError("no class was added", fix="describe one first")
        change = {"action": "add-class", "classes": list(self.added), "described_by": "app", "photos": {}}
        with saving(self.run):  # nobody else saves after the newest version was read
            merged = self._on_the_newest()
            version = save_version(self.run, merged.recognizer, parent=merged.parent, change=change)
        return replace(merged, parent=version, added=(), newest=version)

    def _on_the_newest(self) -> Session:
        """This session's classes on top of the newest version, where that is not the one it began with."""
        newest = version_of(self.run, None)
        if self.newest is None or newest == self.newest:
            return replace(self, note=None)
        there, model = Recognizer.from_run(self.run, newest), self.recognizer.model
        assert isinstance(model, Extendable), "classes were added to it"
        taken = [name for name in self.added if name in there.known_names]
        if taken:
            lost = [name for name in there.known_names if name not in self.recognizer.known_names]
            without = f"; it has not: {', '.join(lost)}" if lost else ""
            note = (
                f"version {newest} was saved meanwhile, and has a class {', '.join(taken)}, too: yours is saved "
            )
            note += f"as a version of its own, made from version {self.parent}{without}"
            return replace(self, note=note)
        described = {
            name: model.semantics[self.recognizer.number_of(name)].double().cpu().numpy() for name in self.added
        }
        sparse = [name for name in described if self.recognizer.number_of(name) in self.recognizer.record.sparse]
        note = f"version {newest} was saved meanwhile: this one has its classes, too"
        return replace(self, recognizer=there.with_classes(described, sparse=sparse), parent=newest, note=note)


def read_one(reader: PhotoReader, path: Path) -> Photos:
    """Read one image in the same way as `dkgzsl predict`.

    Raises:
        DataError: it cannot be read.
    """
    (photos,) = reader.read([path])
    if photos.unreadable:
        raise DataError(f"the image cannot be read: {photos.unreadable[0][1]}", where=path.name)
    return photos
