"""What a recognizer must know besides tensors: `recognizer.json`, in a run folder and in each of its versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from dkgzsl.data.numbers.features import feature_record
from dkgzsl.data.problem import Problem
from dkgzsl.display import counted
from dkgzsl.errors import RunError
from dkgzsl.evaluation.calibration import Calibration
from dkgzsl.reading import read_json, reading, reason_of
from dkgzsl.runs.schema import RecognizerValues

FILE: Final = "recognizer.json"

UNDESCRIBED: Final = "none"
"""Name of semantics that describe nothing: a number a class, so that only seen classes are recognised."""


@dataclass(frozen=True)
class SemanticsRecord:
    """How classes are described.

    Attributes:
        name: the source's name.
        size: numbers a description.
        columns: their names, where they are known.
        lowest: least value in the table of the run's classes.
        highest: greatest value in it.
        encoder: the sentence encoder that made the table, by name or folder; None where none is known.
        library: the encoder's library and its version.
    """

    name: str
    size: int
    columns: tuple[str, ...] | None = None
    lowest: float = float("-inf")
    highest: float = float("inf")
    encoder: str | None = None
    library: str | None = None


@dataclass(frozen=True)
class RecognitionRecord:
    """Names, calibration, and how an image becomes features.

    Attributes:
        class_names: names of all class numbers; a removed class's may come again.
        semantics: how they are described.
        calibration: of the scores; without validation one that changes nothing.
        removed: class numbers that are recognised no more.
        features: shape of one image's features: [C], or [1 + R, C] for region tokens.
        images: the features' record (backbone, weights, preprocessing), as a feature store has it; empty where
            nothing is known of how an image becomes features.
        dataset: what the run was trained on.
        adaptation: what adaptation to unlabelled photos was worth on validation classes
            (`evaluation.adaptation.mean_worth`); None: it was not measured.
        pools: sha256 of each pool of photos that the model was adapted to.
        photos: how many photos were added to a described class, by its number (as text, as JSON has keys).
        sparse: numbers of the classes of whose description most was missing.
    """

    class_names: tuple[str, ...]
    semantics: SemanticsRecord
    calibration: Calibration = field(default_factory=Calibration)
    removed: tuple[int, ...] = ()
    features: tuple[int, ...] = ()
    images: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = ""
    adaptation: Mapping[str, Any] | None = None
    pools: tuple[str, ...] = ()
    photos: Mapping[str, int] = field(default_factory=dict)
    sparse: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, problem: Problem, calibration: Calibration | None, adaptation: Mapping[str, Any] | None = None
    ) -> RecognitionRecord:
        """What a run on a problem records."""
        table, name = np.asarray(problem.semantics), problem.semantics_name
        origin = problem.provenance.get("computed_semantics", {}).get(name, {})
        columns = problem.attribute_names.get(name)
        return cls(
            class_names=problem.class_names,
            semantics=SemanticsRecord(
                name=name,
                size=table.shape[1],
                columns=None if columns is None else tuple(columns),
                lowest=float(table.min()),
                highest=float(table.max()),
                encoder=origin.get("encoder"),
                library=origin.get("library"),
            ),
            calibration=calibration or Calibration(),
            features=tuple(problem.features.shape[1:]),
            images=problem.provenance.get("store") or {},
            dataset=problem.name,
            adaptation=adaptation,
            sparse=tuple(problem.provenance.get("sparse", {}).get(name, ())),
        )

    @classmethod
    def read(cls, folder: Path) -> RecognitionRecord:
        """The record of a run, of a version, or of what was saved by itself.

        Raises:
            RunError: it is not there, or damaged.
        """
        try:
            if not (folder / FILE).exists():
                raise FileNotFoundError(FILE)
        except FileNotFoundError as error:
            what = (
                f"there is nothing here to predict with: no {FILE}"
                if folder.is_dir()
                else "there is no such folder"
            )
            raise RunError(
                what,
                where=str(folder),
                fix="name the folder of a finished run; if it is one, an older dkgzsl made it: train again",
            ) from error
        except (OSError, ValueError) as error:
            raise RunError(f"the folder cannot be reached: {reason_of(error)}", where=str(folder)) from error
        content = read_json(folder / FILE, RecognizerValues, f"{FILE} is damaged", error=RunError)
        with reading(f"{FILE} is damaged", folder, error=RunError):
            return cls.from_json(content)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RecognitionRecord:
        """The record that `content` was made from."""
        semantics = dict(content["semantics"])
        if semantics["columns"] is not None:
            semantics["columns"] = tuple(semantics["columns"])
        return cls(
            class_names=tuple(content["class_names"]),
            semantics=SemanticsRecord(**semantics),
            calibration=Calibration.of_record(content["calibration"]),
            removed=tuple(content["removed"]),
            features=tuple(content["features"]),
            images=_since_numbers_have_a_backbone(content["images"]),
            dataset=content["dataset"],
            adaptation=content.get("adaptation"),  # records of earlier versions lack this and the following
            pools=tuple(content.get("pools", ())),
            photos=dict(content.get("photos", {})),
            sparse=tuple(content.get("sparse", ())),
        )


def kind_of(seen: bool, photos: int) -> str:
    """What a class is known by, in words: `seen`, `unseen`, or `described + 3 photos`.

    Args:
        seen: whether it had training images.
        photos: how many photos were added to its description later.
    """
    if seen or not photos:
        return "seen" if seen else "unseen"
    return f"described + {counted(photos, 'photo')}"


def _since_numbers_have_a_backbone(images: Mapping[str, Any]) -> Mapping[str, Any]:
    """Runs made before say {"embedded": "numbers"} where now the record of the backbone is."""
    return feature_record() if images.get("embedded") == "numbers" else images
