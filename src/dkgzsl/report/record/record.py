"""What a run saves for its report: one small file for each seed. The page is made from it, without the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dkgzsl.data.numbers.dataset import numbers
from dkgzsl.data.problem import Problem
from dkgzsl.errors import RunError
from dkgzsl.evaluation.metrics import Decisions
from dkgzsl.features.images import png_text
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.methods.base import Generator, Model, SavedModel
from dkgzsl.methods.registry import load_model
from dkgzsl.reading import reading
from dkgzsl.report.record.attention import PHOTOS, AttentionMaps, attention_maps
from dkgzsl.report.record.class_neighbours import ClassNeighbours, class_neighbours
from dkgzsl.report.record.feature_map import (
    IMAGES_DRAWN,
    SYNTHESIZED,
    FeatureMap,
    VisualSpace,
    balanced_sample,
    draw_map,
)
from dkgzsl.report.record.predictions import Predictions, confusions, first_of_each
from dkgzsl.representation.representation import Fitted

FORMAT: Final = "dkgzsl report 2"
GALLERY: Final = 24
CONFUSIONS: Final = 8
_SAMPLE: Final = 3000

_FORMAT_1: Final = "dkgzsl report 1"
# Names in files of format 1. The part that is not listed holds the class neighbours.
_PARTS_OF_FORMAT_1: Final = {"answers": "predictions", "map": "feature_map", "attended": "attention_maps"}
_TENSORS_OF_FORMAT_1: Final = {"made": "synthesized", "made_labels": "synthesized_labels"}
_VALUES: Final = ("format", "class_names", "constant", "facts", "pictures")


@dataclass(frozen=True)
class Record:
    """Everything that the report shows of one seed.

    Attributes:
        class_names: names of all classes.
        predictions: for the test images.
        constant: the calibration constant, in the units of the model's scores; None without validation.
        facts: numbers of images and classes, and the length of a description.
        pictures: the images: `{"files": {position: path}}`, or, where the data set has no files, the pictures
            themselves, `{"png": {position: base64 text}}`; or nothing.
        feature_map: real and synthesized features; None for a model that synthesizes none.
        class_neighbours: nearest classes and outstanding attributes of each class.
        attention_maps: where attributes lie on photos; None without attribute attention (ARA).
    """

    class_names: tuple[str, ...]
    predictions: Predictions
    constant: float | None
    facts: Mapping[str, int] = field(default_factory=dict)
    pictures: Mapping[str, Any] = field(default_factory=dict)
    feature_map: FeatureMap | None = None
    class_neighbours: ClassNeighbours | None = None
    attention_maps: AttentionMaps | None = None

    def write(self, path: Path) -> None:
        """Write the record as one safetensors file.

        Raises:
            RunError: it cannot be written.
        """
        tensors: dict[str, Tensor] = {f"predictions.{k}": t for k, t in self.predictions.tensors().items()}
        values: dict[str, Any] = {
            "format": FORMAT,
            "class_names": list(self.class_names),
            "constant": self.constant,
            "facts": dict(self.facts),
            "pictures": dict(self.pictures),
        }
        if self.feature_map is not None:
            tensors |= {f"feature_map.{k}": t for k, t in self.feature_map.tensors().items()}
        if (near := self.class_neighbours) is not None:
            tensors |= {f"class_neighbours.{k}": t for k, t in near.tensors().items()}
            values["class_neighbours"] = {"names": list(near.names), "source": near.source}
        if self.attention_maps is not None:
            tensors |= {f"attention_maps.{k}": t for k, t in self.attention_maps.tensors().items()}
            values["attention_maps"] = self.attention_maps.values()
        write_checkpoint(path, tensors, values)

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """Read a record, of this format or of format 1.

        Returns:
            None where there is no file, or the file has another format.

        Raises:
            RunError: the file is damaged.
        """
        content = read_checkpoint(path)
        if content is None or content[1].get("format") not in (FORMAT, _FORMAT_1):
            return None
        with reading("the record for the report is damaged", path, error=RunError, fix="train again"):
            return cls._of(*content)

    @classmethod
    def _of(cls, tensors: dict[str, Tensor], values: dict[str, Any]) -> Record:
        """What a file held."""
        if values["format"] == _FORMAT_1:
            tensors, values = _renamed(tensors), _renamed(values)

        def part(name: str) -> dict[str, Tensor]:
            prefix = f"{name}."
            return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}

        near, maps = values.get("class_neighbours"), values.get("attention_maps")
        record = cls(
            class_names=tuple(values["class_names"]),
            predictions=Predictions.from_tensors(part("predictions")),
            constant=values["constant"],
            facts=values["facts"],
            pictures=values["pictures"],
            feature_map=FeatureMap.from_tensors(part("feature_map")) if part("feature_map") else None,
            class_neighbours=ClassNeighbours.from_tensors(part("class_neighbours"), **near) if near else None,
            attention_maps=AttentionMaps.load(part("attention_maps"), maps) if maps else None,
        )
        return _with_kept_pictures(record)


def _renamed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file of format 1 under the names of today."""

    def today(name: str) -> str:
        part, dot, tensor = name.partition(".")
        part = part if part in _VALUES else _PARTS_OF_FORMAT_1.get(part, "class_neighbours")
        return part + dot + _TENSORS_OF_FORMAT_1.get(tensor, tensor)

    return {today(name): value for name, value in content.items()}


def predictions_record(problem: Problem, scored: Decisions, constant: float | None) -> Record:
    """A record with predictions only: enough to compare a further seed or a baseline.

    Args:
        problem: the data.
        scored: what was decided for the test images, seen ones first.
        constant: the calibration constant; None without validation.
    """
    parts = problem.parts
    images = np.concatenate([parts.test_seen, parts.test_unseen])
    facts = {
        "training_images": len(parts.trainval),
        "test_seen": len(parts.test_seen),
        "test_unseen": len(parts.test_unseen),
        "seen_classes": len(problem.seen_classes),
        "unseen_classes": len(problem.unseen_classes),
        "semantic_size": problem.semantics.shape[1],
    }
    return Record(problem.class_names, Predictions.of(scored, images), constant, facts)


@torch.no_grad()
def full_record(
    problem: Problem, scored: Decisions, constant: float | None, *, model: Model, fitted: Fitted, seed: int
) -> Record:
    """Everything that the page shows of a seed.

    Args:
        problem: the data.
        scored: what the final model decides for the test images, seen ones first.
        constant: the calibration constant; None without validation.
        model: the final model.
        fitted: its representation.
        seed: of the synthesized features.
    """
    plain = predictions_record(problem, scored, constant)
    predictions = plain.predictions
    feature_map, prototypes = _features_shown(problem, model, fitted, seed)
    photos = predictions.images[photo_rows(predictions)].tolist()
    return Record(
        class_names=plain.class_names,
        predictions=predictions,
        constant=constant,
        facts=plain.facts,
        pictures=_pictures(problem, predictions, constant),
        feature_map=feature_map,
        class_neighbours=class_neighbours(problem, prototypes),
        attention_maps=attention_maps(problem, fitted, photos),
    )


def _features_shown(
    problem: Problem, model: Model, fitted: Fitted, seed: int
) -> tuple[FeatureMap | None, Float[Tensor, "classes axes"] | None]:
    """The map of the features, where the model synthesizes some, and the mean of each class's features.

    Both are None where there is only one seen class.
    """
    if len(problem.seen_classes) < 2:
        return None, None
    parts = problem.parts
    sample = balanced_sample(problem.labels, parts.trainval, per_class=60, at_most=_SAMPLE)
    training, labels = fitted(problem.features, sample), _classes(problem.labels[sample])
    space = VisualSpace.fit(training, labels)
    prototypes = torch.full((len(problem.class_names), space.basis.shape[1]), torch.nan)
    for label in problem.seen_classes.tolist():
        prototypes[label] = space(training[labels == label]).mean(0)
    if not isinstance(model, Generator) or space.basis.shape[1] < 2 or not len(problem.unseen_classes):
        return None, prototypes
    unseen = _classes(problem.unseen_classes)
    semantics = torch.from_numpy(np.ascontiguousarray(problem.semantics, dtype=np.float32))[unseen]
    synthesized = _on_the_cpu(model).synthesize(semantics, SYNTHESIZED, torch.Generator().manual_seed(seed))
    prototypes[unseen] = space(synthesized).mean(1)
    shown = balanced_sample(problem.labels, parts.test_unseen, per_class=IMAGES_DRAWN, at_most=_SAMPLE)
    feature_map = draw_map(
        space,
        training=training,
        training_labels=labels,
        test=fitted(problem.features, shown),
        test_labels=_classes(problem.labels[shown]),
        synthesized=synthesized,
        unseen=unseen,
    )
    return feature_map, prototypes


def _classes(numbers: np.ndarray) -> Int[Tensor, " _"]:
    return torch.from_numpy(numbers.astype(np.int64))


def _on_the_cpu(model: Model) -> Generator:
    """The model on the CPU, where random draws are the same on every machine."""
    if model.unseen.device.type != "cpu":
        saved = model.save()
        tensors = {name: tensor.cpu() for name, tensor in saved.tensors.items()}
        model = load_model(SavedModel(saved.kind, tensors, saved.values))
    assert isinstance(model, Generator), "the caller checks it"
    return model


def gallery_rows(predictions: Predictions) -> list[int]:
    """Rows of the gallery: the first test image of up to 24 unseen classes, evenly spaced over the classes."""
    return _evenly(first_of_each(predictions, unseen=True), GALLERY)


def photo_rows(predictions: Predictions) -> list[int]:
    """Rows of the images for which attention maps are shown."""
    return _evenly(first_of_each(predictions, unseen=True), PHOTOS)


def _evenly(rows: list[int], number: int) -> list[int]:
    places = np.linspace(0, len(rows) - 1, min(number, len(rows))).astype(int).tolist()
    return [rows[place] for place in places]


def shown_images(predictions: Predictions, constant: float | None) -> list[int]:
    """Positions of all images that the page may show."""
    rows = gallery_rows(predictions) + photo_rows(predictions)
    found = {int(predictions.images[row]) for row in rows}
    for confusion in confusions(predictions, constant)[:CONFUSIONS]:
        found.add(confusion.images[0])
        example = example_of(predictions, confusion.predicted)
        if example is not None:
            found.add(example)
    return sorted(found)


def example_of(predictions: Predictions, label: int) -> int | None:
    """Position of the first test image of a class; None for a class without test images."""
    rows = np.flatnonzero(predictions.labels == label)
    return int(predictions.images[rows[0]]) if len(rows) else None


def _pictures(problem: Problem, predictions: Predictions, constant: float | None) -> dict[str, Any]:
    shown = shown_images(predictions, constant)
    if problem.pictures is not None:
        return _kept(problem.pictures, shown)
    if problem.image_files is None:
        return {}
    return {"files": {str(position): problem.image_files[position] for position in shown}}


def _kept(images: UInt8[np.ndarray, "images height width 3"], shown: list[int]) -> dict[str, Any]:
    return {"png": {str(position): png_text(images[position]) for position in shown}}


def _with_kept_pictures(record: Record) -> Record:
    """Older records name the unseen numbers, {"embedded": names}, in place of the pictures."""
    if "embedded" not in record.pictures:
        return record
    images = numbers(unseen=record.pictures["embedded"]).pictures
    assert images is not None, "numbers have pictures"
    return replace(record, pictures=_kept(images, shown_images(record.predictions, record.constant)))
