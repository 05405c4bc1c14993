"""The session of one visitor of the page: a run's recognizer and the classes that the visitor has added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from dkgzsl.app.describing import described, description_of
from dkgzsl.errors import DataError
from dkgzsl.inference.adaptation import Adapted, adapt, checked_pool
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
        adaptations: what the history says of adaptations that are not saved.
        newest: the run's newest version when the session began or was saved last.
        note: what somebody else did to the run meanwhile; None: nothing.
    """

    run: Path
    parent: int
    recognizer: Recognizer
    added: tuple[str, ...] = ()
    adaptations: tuple[Mapping[str, Any], ...] = ()
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

    def with_class(
        self,
        name: str,
        *,
        values: Mapping[str, float] | None = None,
        like: str | None = None,
        text: str | None = None,
        features: np.ndarray | None = None,
    ) -> Session:
        """Add a class.

        Args:
            name: of the class.
            values: see `describing.described`, as the next ones.
            like: a similar class.
            text: a sentence.
            features: of a few photos of the class.

        Raises:
            ConfigError: the name is empty.
            DataError: the name is taken or too long, the description does not fit, or too many classes were added.
            RunError: the model cannot add classes, or takes no photos.
        """
        one = described(self.recognizer, values=values, like=like, text=text, features=features)
        return self._with(name, one, features)

    def _with(self, name: str, one: Described, features: np.ndarray | None = None) -> Session:
        cleaned = checked_name(name)
        if len(cleaned) > LONGEST_NAME:
            raise DataError(f"the name has more than {LONGEST_NAME} characters", fix="take a shorter one")
        if len(self.added) >= MOST_ADDED:
            raise DataError(f"{MOST_ADDED} classes were added and not saved", fix="save them first")
        photos = None if features is None else {cleaned: features}
        sparse = (cleaned,) if one.sparse else ()
        recognizer = self.recognizer.with_classes({cleaned: one.vector}, photos, sparse=sparse)
        return replace(self, recognizer=recognizer, added=(*self.added, cleaned))

    def adapted_to(self, features: np.ndarray, *, trained_on: set[bytes] | None = None) -> tuple[Session, Adapted]:
        """Move the described classes to where unlabelled photos lie.

        Args:
            features: of the photos, as `Recognizer.vectors` takes them.
            trained_on: `digests` of the run's training images, where they are at hand.

        Returns:
            The adapted session, and what the photos showed; the session as it was where adaptation was refused.

        Raises:
            DataError: no photo is left, or the model was adapted to these already.
            RunError: the model cannot adapt.
        """
        pool = checked_pool(self.recognizer, features, trained_on=trained_on)
        found = adapt(self.recognizer, pool)
        if found.refusal is not None:
            return self, found
        change = {
            "photos": len(pool.vectors),
            "pool_sha256": pool.sha256,
            "trained_on": pool.trained_on,
            "repeated": pool.repeated,
            "forced": False,
        }
        return replace(self, recognizer=found.recognizer, adaptations=(*self.adaptations, change)), found

    @property
    def unsaved(self) -> bool:
        """Whether something was added or adapted since the last time it was saved."""
        return bool(self.added or self.adaptations)

    def saved(self) -> Session:
        """Save the changes in a new version of the run; the older versions stay.

        Where somebody else saved a version meanwhile, the classes are added to that one, so that the newest has
        both; where they cannot be (a class of that name is in it, or the session is adapted), `note` says what the
        newest has not.

        Raises:
            DataError: nothing was changed since the last time.
            RunError: it cannot be written.
        """
        if not self.unsaved:
            raise DataError("there is nothing to save", fix="describe a class first")
        with saving(self.run):  # nobody else saves after the newest version was read
            merged = self._on_the_newest()
            version = save_version(self.run, merged.recognizer, parent=merged.parent, change=self._change())
        return replace(merged, parent=version, added=(), adaptations=(), newest=version)

    def _change(self) -> dict[str, Any]:
        """What the history says of the changes."""
        if self.adaptations:
            last = self.adaptations[-1]
            return {"action": "adapt", **last, **({"classes": list(self.added)} if self.added else {})}
        numbers = {name: self.recognizer.number_of(name) for name in self.added}
        photos = {name: self.recognizer.photos_of(number) for name, number in numbers.items()}
        given = {name: count for name, count in photos.items() if count}
        return {"action": "add-class", "classes": list(self.added), "described_by": "app", "photos": given}

    def _on_the_newest(self) -> Session:
        """This session's classes on top of the newest version, where that is not the one it began with."""
        newest = version_of(self.run, None)
        if self.newest is None or newest == self.newest:
            return replace(self, note=None)
        there, model = Recognizer.from_run(self.run, newest), self.recognizer.model
        assert self.adaptations or isinstance(model, Extendable), "classes were added to it"
        taken = [name for name in self.added if name in there.known_names]
        with_photos = [name for name in self.added if self.recognizer.photos_of(self.recognizer.number_of(name))]
        if taken or with_photos or self.adaptations:
            lost = [name for name in there.known_names if name not in self.recognizer.known_names]
            without = f"; it has not: {', '.join(lost)}" if lost else ""
            why = f"version {newest} was saved meanwhile"
            if taken:
                why += f" and has a class {', '.join(taken)}, too"
            note = f"{why}: yours is saved as a version of its own, made from version {self.parent}{without}"
            return replace(self, note=note)
        vectors = {name: description_of(self.recognizer, name) for name in self.added}
        sparse = [name for name in vectors if self.recognizer.number_of(name) in self.recognizer.record.sparse]
        note = f"version {newest} was saved meanwhile: this one has its classes, too"
        return replace(self, recognizer=there.with_classes(vectors, sparse=sparse), parent=newest, note=note)


def read_one(reader: PhotoReader, path: Path) -> Photos:
    """Read one image in the same way as `dkgzsl predict`.

    Raises:
        DataError: it cannot be read.
    """
    (photos,) = reader.read([path])
    if photos.unreadable:
        raise DataError(f"the image cannot be read: {photos.unreadable[0][1]}", where=path.name)
    return photos
