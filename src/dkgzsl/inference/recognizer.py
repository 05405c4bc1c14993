"""A trained model in use: from features of any image to classes with probabilities; classes can be added."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dkgzsl.checksums import Checksums, check_files
from dkgzsl.device import fast_products
from dkgzsl.errors import DataError, RunError, nearest
from dkgzsl.evaluation.calibration import Calibration
from dkgzsl.evaluation.in_distribution import FILE as IN_DISTRIBUTION
from dkgzsl.evaluation.in_distribution import InDistribution, clearness
from dkgzsl.files import whole_folder, write_whole
from dkgzsl.inference.first_use import check_whole, example_of
from dkgzsl.inference.handicap import handicaps
from dkgzsl.inference.ranked import Prediction as Prediction
from dkgzsl.inference.ranked import Ranked as Ranked
from dkgzsl.methods.base import Competing, Extendable, FewShot, Model
from dkgzsl.methods.registry import load_model, read_model, unable, write_model
from dkgzsl.reading import reading
from dkgzsl.representation.attribute_attention import AttentionOutput
from dkgzsl.representation.blocks import VisualFeatures
from dkgzsl.representation.evidence import AttributeEvidence
from dkgzsl.representation.sovr import Refiner
from dkgzsl.runs.folder import HISTORY, VERSIONS, saving, version_folder, version_of, versions_of
from dkgzsl.runs.later import refresh_card
from dkgzsl.runs.model_record import FILE, UNDESCRIBED, RecognitionRecord, kind_of

MODEL: Final = "model.safetensors"
REPRESENTATION: Final = "representation.safetensors"
EVIDENCE: Final = "evidence.safetensors"
_DAMAGED: Final = "a file is damaged or of another run: pull or copy the run again, or train again"


@dataclass(frozen=True, eq=False)
class Recognizer:
    """A fitted model with all that using it takes. It never changes: adding or removing a class gives a new one.

    Attributes:
        model: scores vectors over all class numbers.
        visual: features -> vectors; None takes pooled features as they are, and of region tokens the global one.
        record: names, calibration, how an image becomes features.
        evidence: named attributes of the classes, where there are any.
        in_distribution: what an image needs to be one of the classes; None in runs of earlier versions.
    """

    model: Model
    visual: VisualFeatures | None
    record: RecognitionRecord
    evidence: AttributeEvidence | None = None
    in_distribution: InDistribution | None = None

    @classmethod
    def from_run(cls, folder: Path, version: int | None = None) -> Recognizer:
        """The model of a run's first seed.

        Args:
            folder: the run.
            version: 0 is the model as trained, higher ones are what `add-class`, `adapt` and `remove-class` made
                (default: the newest).

        Raises:
            RunError: the folder holds no finished run, or no such version.
        """
        return cls.load(version_folder(folder, version_of(folder, version)))

    @classmethod
    def load(cls, folder: Path) -> Recognizer:
        """What `save`, or a training, left in a folder; on the CPU.

        Raises:
            RunError: it is not there, or damaged.
        """
        sealed = check_files(folder, (FILE, MODEL, REPRESENTATION, EVIDENCE, IN_DISTRIBUTION))
        record = RecognitionRecord.read(folder)
        model = load_model(read_model(folder / MODEL))
        damaged, verified = "the files of the model do not fit together", sealed is not None
        with reading(damaged, folder, error=RunError, fix=_DAMAGED, verified=verified):
            visual, evidence = (
                VisualFeatures.read(folder / REPRESENTATION),
                AttributeEvidence.read(folder / EVIDENCE),
            )
            loaded = cls(model, visual, record, evidence, InDistribution.read(folder / IN_DISTRIBUTION))
            check_whole(model, record)
            if record.features:
                loaded.predict(example_of(record))
        return loaded

    def save(self, folder: Path, *, further: Mapping[str, str] | None = None) -> None:
        """Write everything into a new folder, with checksums: all of it, or nothing.

        Args:
            folder: new, or empty.
            further: content of further text files by name, for callers that keep more than a recognizer.

        Raises:
            RunError: the folder exists and is not empty, or cannot be written.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError("there is something already", where=str(folder), fix="name a new folder")
        try:
            with whole_folder(folder) as draft:
                write_model(draft / MODEL, self.model.save())
                if self.visual is not None:
                    self.visual.write(draft / REPRESENTATION)
                if self.evidence is not None:
                    self.evidence.write(draft / EVIDENCE)
                if self.in_distribution is not None:
                    self.in_distribution.write(draft / IN_DISTRIBUTION)
                for name, content in {**(further or {}), FILE: _json(self.record.to_json())}.items():
                    write_whole(draft / name, content)
                Checksums.of(draft).write(draft)
        except OSError as error:
            raise RunError(f"cannot be saved: {error.strerror or error}", where=str(folder)) from error

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all class numbers, those of removed classes included (see `number_of`)."""
        return self.record.class_names

    @property
    def refiner(self) -> Refiner | None:
        """SOVR, where the representation uses it."""
        return None if self.visual is None else self.visual.refiner

    @property
    def calibration(self) -> Calibration:
        """How scores become decisions and probabilities."""
        return self.record.calibration

    @property
    def is_seen(self) -> Bool[np.ndarray, " classes"]:
        """Which class numbers had training images."""
        return self._mask(self.model.seen)

    @property
    def is_known(self) -> Bool[np.ndarray, " classes"]:
        """Which class numbers are recognised: all but those removed, and those outside the model's task."""
        known = self._mask(torch.cat([self.model.seen, self.model.unseen]))
        known[list(self.record.removed)] = False
        return known

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names of the classes that are recognised, in the order of their numbers."""
        return tuple(np.array(self.class_names, dtype=object)[self.is_known])

    @property
    def offsets(self) -> Float[np.ndarray, " classes"]:
        """What is added to each class's score: the constant for described classes, less their handicaps."""
        constants = self.calibration.constant * self._mask(self.model.unseen).astype(np.float64)
        return np.asarray(constants - self._handicaps)

    @cached_property
    def _handicaps(self) -> Float[np.ndarray, " classes"]:
        """Those of sparsely described classes without photos."""
        sparse = [k for k in self.record.sparse if not self.photos_of(k)]
        constants = self.calibration.constant * self._mask(self.model.unseen).astype(np.float64)
        return handicaps(self.model, sparse, self.is_known, self.is_seen, constants)

    def _mask(self, numbers: Tensor) -> Bool[np.ndarray, " classes"]:
        mask = np.zeros(len(self.class_names), dtype=bool)
        mask[numbers.cpu().numpy()] = True
        return mask

    def photos_of(self, number: int) -> int:
        """How many photos were added to the description of a class, after the training."""
        return self.record.photos.get(str(number), 0)

    def kind_of(self, name: str) -> str:
        """What a class is known by: `seen`, `unseen`, or `described + 3 photos`.

        Raises:
            DataError: there is no such class.
        """
        number = self.number_of(name)
        return kind_of(bool(self.is_seen[number]), self.photos_of(number))

    def number_of(self, name: str) -> int:
        """Number of a class that is recognised.

        Raises:
            DataError: there is no such class.
        """
        if name not in self.known_names:
            raise DataError(f"there is no class {name!r}", fix=nearest(name, self.known_names, of="classes"))
        return next(k for k in np.flatnonzero(self.is_known).tolist() if self.class_names[k] == name)

    def with_attention(
        self, features: np.ndarray | Tensor
    ) -> tuple[Float[Tensor, "images visual"], AttentionOutput | None]:
        """What `vectors` gives for features, and ARA's attention maps where there is ARA, from one pass."""
        if self.visual is None:
            return self.vectors(features), None
        return self.visual.with_attention(self._checked(features))

    @fast_products()
    def vectors(self, features: np.ndarray | Tensor) -> Float[Tensor, "images visual"]:
        """The one vector an image that the model takes.

        Args:
            features: of one backbone's images, unscaled: pooled [N, C], or tokens [N, 1 + R, C].

        Raises:
            DataError: their shape is not that of the features trained on.
        """
        given = self._checked(features)
        pooled = given if given.ndim == 2 else given[:, 0]
        return pooled if self.visual is None else self.visual(given)

    def _checked(self, features: np.ndarray | Tensor) -> Tensor:
        copied = features if isinstance(features, Tensor) else torch.from_numpy(np.array(features, np.float32))
        given = copied.float()
        expected = self.record.features
        pooled_of_tokens = self.visual is None and expected[-1:] == given.shape[1:]
        if given.ndim < 2 or not (tuple(given.shape[1:]) == expected or pooled_of_tokens):
            raise DataError(
                f"features of shape {list(given.shape)} do not fit: the model takes [images, "
                f"{', '.join(map(str, expected))}]",
                fix="give features of the backbone that the model was trained with",
            )
        return given

    def scores(self, features: np.ndarray | Tensor) -> Float[np.ndarray, "images classes"]:
        """Calibrated scores, the constant included, a column a class number; -inf for what is not recognised."""
        return self._scores(self.vectors(features))

    @fast_products()
    def _scores(self, vectors: Tensor) -> Float[np.ndarray, "images classes"]:
        raw = self.model.scores(vectors).double().cpu().numpy()
        return np.where(self.is_known, raw + self.offsets, -np.inf)

    def probabilities(self, features: np.ndarray | Tensor) -> Float[np.ndarray, "images classes"]:
        """Probability of each class number; rows sum to 1, and the largest is the calibrated decision."""
        return self.calibration.probabilities(self.scores(features))

    def predict(self, features: np.ndarray | Tensor, *, top: int = 1) -> list[Prediction]:
        """What each image is.

        Args:
            features: as `vectors` takes them.
            top: how many classes to name, at least 1.
        """
        return self.predictions(self.vectors(features), top=top)

    def predictions(self, vectors: Float[Tensor, "images visual"], *, top: int = 1) -> list[Prediction]:
        """What each image is, from what `vectors` gave."""
        if not len(vectors):
            return []
        scores, seen = self._scores(vectors), self.is_seen
        probabilities, fit = self.calibration.probabilities(scores), self._fit(scores, vectors)
        accepted = self.calibration.accepts(fit)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : min(top, int(self.is_known.sum()))]
        found = []
        for row, best in enumerate(order):
            ranked = tuple(
                Ranked(self.class_names[k], float(probabilities[row, k]), bool(seen[k]), self.photos_of(k))
                for k in best.tolist()
            )
            found.append(Prediction(ranked[0].name if accepted[row] else None, ranked, float(fit[row])))
        return found

    def fit(self, features: np.ndarray | Tensor) -> Float[np.ndarray, " images"]:
        """In-distribution score of each image."""
        vectors = self.vectors(features)
        return self._fit(self._scores(vectors), vectors)

    def _fit(self, scores: np.ndarray, vectors: Tensor) -> Float[np.ndarray, " images"]:
        found = self.in_distribution
        return clearness(scores) if found is None else found.score(scores, self._mask(self.model.unseen), vectors)

    def with_class(
        self, name: str, vector: Float[np.ndarray, " semantic"], features: np.ndarray | Tensor | None = None
    ) -> Recognizer:
        """A recognizer with one more class, known by its description.

        Args:
            name: of the new class.
            vector: its description, on the scale of the other classes'.
            features: of a few photos of the class, where there are some, as `vectors` takes them.

        Raises:
            DataError: the name is taken, the vector does not fit, or the model takes no photos.
            RunError: the model takes no new classes.
        """
        photos = {} if features is None else {name: features}
        return self.with_classes({name: vector}, photos)

    def with_classes(
        self,
        described: Mapping[str, Float[np.ndarray, " semantic"]],
        photos: Mapping[str, np.ndarray | Tensor] | None = None,
        sparse: Collection[str] = (),
    ) -> Recognizer:
        """The same for several classes at once; they get the next numbers, in the order of `described`.

        Args:
            described: description by name.
            photos: features of a few photos, of those classes that have some.
            sparse: those of which most of the description was missing.
        """
        if not isinstance(self.model, Extendable):
            raise unable(self.model, "extendable")
        if self.record.semantics.name == UNDESCRIBED:
            raise RunError(
                "no class is described here, so that none can join by its description",
                fix="train with a description of every class",
            )
        for name, vector in described.items():
            if name in self.known_names:
                raise DataError(f"there is a class {name!r} already", fix="take another name, or remove it first")
            self._check_vector(name, vector)
        if photos and not isinstance(self.model, FewShot):
            raise unable(self.model, "few-shot")
        before = self.model.semantics
        rows = np.stack([np.asarray(vector, dtype=np.float32) for vector in described.values()])
        numbers = range(len(before), len(before) + len(rows))
        # A removed class keeps its number, but does not compete with the new ones.
        described_before = [k for k in self.model.unseen.tolist() if k not in self.record.removed]
        model = self.model.with_classes(
            torch.cat([before, torch.from_numpy(rows).to(before)]),
            torch.tensor([*described_before, *numbers]).to(self.model.unseen),
        )
        for name, features in (photos or {}).items():
            assert isinstance(model, FewShot), "the same kind of model as the one checked above"
            model = model.with_photos(numbers[list(described).index(name)], self.vectors(features))
        evidence = self.evidence
        if evidence is not None:
            same = evidence.source == self.record.semantics.name
            evidence = evidence.with_classes(rows if same else None, len(rows))
        added = {str(numbers[list(described).index(name)]): len(found) for name, found in (photos or {}).items()}
        few = (number for number, name in zip(numbers, described, strict=True) if name in sparse)
        record = replace(
            self.record,
            class_names=(*self.class_names, *described),
            photos={**self.record.photos, **added},
            sparse=(*self.record.sparse, *few),
        )
        return replace(self, model=model, record=record, evidence=evidence)

    def _check_vector(self, name: str, vector: np.ndarray) -> None:
        size = self.record.semantics.size
        if np.shape(vector) != (size,):
            raise DataError(
                f"the description of {name!r} has shape {np.shape(vector)}, the others have {size} numbers"
            )
        if not np.isfinite(vector).all() or not np.any(vector):
            raise DataError(f"the description of {name!r} is all zero, or holds NaN or infinity")

    def without_class(self, name: str) -> Recognizer:
        """A recognizer that does not recognise a class any more; what was learned from its images stays.

        Raises:
            DataError: there is no such class, or it is the last but one.
        """
        number = self.number_of(name)
        if self.is_known.sum() < 3:
            raise DataError("two classes at least must stay")
        model = self.model
        if isinstance(model, Competing) and number in model.unseen.tolist():
            model = model.without_class(number)
        return replace(self, model=model, record=replace(self.record, removed=(*self.record.removed, number)))


def save_version(run: Path, recognizer: Recognizer, *, parent: int, change: Mapping[str, Any]) -> int:
    """Save a recognizer as the run's next version: all of it, or nothing. Older versions stay.

    Args:
        run: the run folder.
        recognizer: what the version is.
        parent: the version that it was made from.
        change: what was changed, JSON values.

    Returns:
        The version's number.

    Raises:
        RunError: it cannot be written.
    """
    with saving(run):  # who saves at the same moment waits, and gets the number after it
        number, made = max(versions_of(run), default=0) + 1, datetime.now(UTC).isoformat(timespec="seconds")
        history = {"version": number, "parent": parent, "made": made, **change}
        recognizer.save(run / VERSIONS / str(number), further={HISTORY: _json(history)})
        refresh_card(run)
    return number


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
