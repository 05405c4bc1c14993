"""What one visitor of the page has in hand: a run's recognizer, the classes added so far, and the bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from dkgzsl.errors import DataError
from dkgzsl.inference.new_classes import Describer, checked_name
from dkgzsl.inference.photos import PhotoReader, Photos
from dkgzsl.inference.prediction import ExplainedPrediction, explained_predictions
from dkgzsl.inference.recognizer import Recognizer, save_version
from dkgzsl.methods.base import Extendable
from dkgzsl.runs.folder import version_of

TOP = 5
"""Classes named of an image."""


class Tried(NamedTuple):
    """An image that was read, and what it is taken for.

    Attributes:
        answer: with the bias.
        unbiased: without it.
        pixels: what the model saw of it.
        grid: rows and columns of the regions.
    """

    answer: ExplainedPrediction
    unbiased: ExplainedPrediction
    pixels: UInt8[np.ndarray, "height width 3"]
    grid: tuple[int, int]


@dataclass(frozen=True)
class Session:
    """It is not changed: what a visitor does gives a new one, so that visitors do not meet.

    Attributes:
        run: the run folder.
        parent: the version that the recognizer came from.
        recognizer: with the classes added so far.
        added: names of those that no version of the run holds yet.
    """

    run: Path
    parent: int
    recognizer: Recognizer
    added: tuple[str, ...] = ()

    @classmethod
    def open(cls, run: Path, version: int | None = None) -> Session:
        """A run's version (default: the newest).

        Raises:
            RunError: the folder holds no finished run, or no such version.
        """
        number = version_of(run, version)
        return cls(run, number, Recognizer.from_run(run, number))

    @property
    def usual(self) -> Float[np.ndarray, " semantic"] | None:
        """Mean of the seen classes' descriptions; None where the model takes no new classes."""
        return Describer.of(self.recognizer).usual if isinstance(self.recognizer.model, Extendable) else None

    def description_of(self, name: str) -> Float[np.ndarray, " semantic"]:
        """A class's description, to start another from.

        Raises:
            DataError: there is no such class.
        """
        model = self.recognizer.model
        assert isinstance(model, Extendable), "it is asked where classes are added"
        return np.asarray(model.semantics[self.recognizer.number_of(name)].double().cpu().numpy())

    def biased(self, bias: float) -> Recognizer:
        """The recognizer with more, or less, for unseen classes.

        Args:
            bias: on top of the validated constant, in temperatures: 1 multiplies the odds of every unseen class
                against every seen one by e.
        """
        record = self.recognizer.record
        was = record.calibration
        calibration = replace(was, constant=was.constant + bias * was.temperature)
        return replace(self.recognizer, record=replace(record, calibration=calibration))

    def attempt(self, photos: Photos, grid: tuple[int, int], *, bias: float = 0.0) -> Tried:
        """What the one image in `photos` is, with the bias and without."""
        plain, changed = (
            explained_predictions(recognizer, photos.features, grid=grid, top=TOP)[0]
            for recognizer in (self.recognizer, self.biased(bias))
        )
        return Tried(changed, plain, photos.pixels[0], grid)

    def attributes_of(self, name: str) -> list[tuple[str, float, float]]:
        """A class's attributes: name, value, deviations above the mean of the classes; the most typical first.

        Empty where the attributes have no names, or the class was described otherwise.

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
        """One more class, by attributes; those not named have the mean of the seen classes.

        Raises:
            ConfigError: it has no name.
            DataError: the name is taken, or an attribute unknown or out of range.
            RunError: the model takes no new classes.
        """
        return self._with(name, Describer.of(self.recognizer).from_values(values).vector)

    def with_text(self, name: str, text: str) -> Session:
        """One more class, by a sentence, where a sentence encoder made the run's descriptions.

        Raises:
            ConfigError: it has no name, or no encoder is on record.
            DataError: nothing is said, the name is taken, or the encoder cannot be loaded.
            RunError: the model takes no new classes.
        """
        if not text.strip():
            raise DataError("the class is not described", fix="write a sentence about it")
        return self._with(name, Describer.of(self.recognizer).from_texts({name: text})[name].vector)

    def _with(self, name: str, vector: Float[np.ndarray, " semantic"]) -> Session:
        cleaned = checked_name(name)
        return replace(self, recognizer=self.recognizer.with_class(cleaned, vector), added=(*self.added, cleaned))

    def saved(self) -> Session:
        """The classes added so far, in a new version of the run; the older versions stay.

        Raises:
            DataError: nothing was added since the last time.
            RunError: it cannot be written.
        """
        if not self.added:
            raise DataError("no class was added", fix="describe one first")
        change = {"action": "add-class", "classes": list(self.added), "described_by": "app", "photos": {}}
        version = save_version(self.run, self.recognizer, parent=self.parent, change=change)
        return replace(self, parent=version, added=())


def read_one(reader: PhotoReader, path: Path) -> Photos:
    """One image, read as `predict` reads it.

    Raises:
        DataError: it cannot be read.
    """
    (photos,) = reader.read([path])
    if photos.unreadable:
        raise DataError(f"the image cannot be read: {photos.unreadable[0][1]}", where=path.name)
    return photos
