"""What a run keeps of itself so that its page can be made again without the data: one small file a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from dkgzsl.data.numbers.dataset import numbers
from dkgzsl.data.problem import Problem
from dkgzsl.evaluation.metrics import Scored
from dkgzsl.features.images import png_text
from dkgzsl.files import read_checkpoint, write_checkpoint
from dkgzsl.methods.base import Generator, Model, SavedModel
from dkgzsl.methods.registry import load_model
from dkgzsl.report.record.attention import PHOTOS, AttendedPhotos, attended_photos
from dkgzsl.report.record.class_neighbours import Acquaintance, acquaintance
from dkgzsl.report.record.feature_map import (
    IMAGES_DRAWN,
    SYNTHESIZED,
    FeatureMap,
    VisualSpace,
    draw_map,
    evenly_taken,
)
from dkgzsl.report.record.predictions import Answers, confusions, first_of_each
from dkgzsl.representation.representation import Fitted

FORMAT = "dkgzsl report 1"
GALLERY = 24
CONFUSIONS = 8
_SAMPLE = 3000


@dataclass(frozen=True)
class Record:
    """What the page of one seed is drawn from.

    Attributes:
        class_names: names of all classes.
        answers: to the test images.
        constant: the calibration constant; None without validation.
        facts: how many images and classes there were, how long a description is.
        pictures: where the images shown come from: `{"files": {position: path}}`, or, where they lie in no files,
            themselves: `{"png": {position: base64 text}}`; or nothing.
        feature_map: real and synthesized features; None for a model that synthesizes nothing.
        acquaintance: nearest classes and attributes.
        attended: attention on photos; None without ARA.
    """

    class_names: tuple[str, ...]
    answers: Answers
    constant: float | None
    facts: Mapping[str, int] = field(default_factory=dict)
    pictures: Mapping[str, Any] = field(default_factory=dict)
    feature_map: FeatureMap | None = None
    acquaintance: Acquaintance | None = None
    attended: AttendedPhotos | None = None

    def write(self, path: Path) -> None:
        """Write the record as one safetensors file.

        Raises:
            RunError: it cannot be written.
        """
        tensors: dict[str, Tensor] = {f"answers.{k}": t for k, t in self.answers.tensors().items()}
        values: dict[str, Any] = {
            "format": FORMAT,
            "class_names": list(self.class_names),
            "constant": self.constant,
            "facts": dict(self.facts),
            "pictures": dict(self.pictures),
        }
        if self.feature_map is not None:
            tensors |= {f"map.{k}": t for k, t in self.feature_map.tensors().items()}
        if (known := self.acquaintance) is not None:
            tensors |= {f"acquaintance.{k}": t for k, t in known.tensors().items()}
            values["acquaintance"] = {"names": list(known.names), "source": known.source}
        if self.attended is not None:
            tensors |= {f"attended.{k}": t for k, t in self.attended.tensors().items()}
            values["attended"] = self.attended.values()
        write_checkpoint(path, tensors, values)

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """Read a record; None where there is none, or one of another format.

        Raises:
            RunError: the file is damaged.
        """
        content = read_checkpoint(path)
        if content is None or content[1].get("format") != FORMAT:
            return None
        tensors, values = content

        def part(name: str) -> dict[str, Tensor]:
            prefix = f"{name}."
            return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}

        record = cls(
            class_names=tuple(values["class_names"]),
            answers=Answers.from_tensors(part("answers")),
            constant=values["constant"],
            facts=values["facts"],
            pictures=values["pictures"],
            feature_map=FeatureMap.from_tensors(part("map")) if part("map") else None,
            acquaintance=(
                Acquaintance.from_tensors(part("acquaintance"), **values["acquaintance"])
                if "acquaintance" in values
                else None
            ),
            attended=(AttendedPhotos.load(part("attended"), values["attended"]) if "attended" in values else None),
        )
        return _with_kept_pictures(record)


def answers_record(problem: Problem, scored: Scored, constant: float | None) -> Record:
    """The answers alone: what a comparison needs of a seed or a baseline."""
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
    return Record(problem.class_names, Answers.of(scored, images), constant, facts)


@torch.no_grad()
def full_record(
    problem: Problem, scored: Scored, constant: float | None, *, model: Model, fitted: Fitted, seed: int
) -> Record:
    """Everything the page shows of a seed.

    Args:
        problem: the data.
        scored: the final model's scores of the test images, seen ones first.
        constant: calibration constant, where validation chose one.
        model: the final model.
        fitted: its representation.
        seed: draws the synthesized features.
    """
    plain = answers_record(problem, scored, constant)
    parts, answers = problem.parts, plain.answers
    sample = evenly_taken(problem.labels, parts.trainval, per_class=60, at_most=_SAMPLE)
    training, labels = fitted(problem.features, sample), torch.from_numpy(problem.labels[sample].astype(np.int64))
    drawn, prototypes = None, None
    if len(problem.seen_classes) > 1:
        space = VisualSpace.fit(training, labels)
        prototypes = torch.full((len(problem.class_names), space.basis.shape[1]), torch.nan)
        for label in problem.seen_classes.tolist():
            prototypes[label] = space(training[labels == label]).mean(0)
        if isinstance(model, Generator) and space.basis.shape[1] > 1 and len(problem.unseen_classes):
            unseen = torch.from_numpy(problem.unseen_classes.astype(np.int64))
            semantics = torch.from_numpy(np.ascontiguousarray(problem.semantics, dtype=np.float32))[unseen]
            made = _on_the_cpu(model).synthesize(semantics, SYNTHESIZED, torch.Generator().manual_seed(seed))
            prototypes[unseen] = space(made).mean(1)
            shown = evenly_taken(problem.labels, parts.test_unseen, per_class=IMAGES_DRAWN, at_most=_SAMPLE)
            drawn = draw_map(
                space,
                training=training,
                training_labels=labels,
                test=fitted(problem.features, shown),
                test_labels=torch.from_numpy(problem.labels[shown].astype(np.int64)),
                made=made,
                unseen=unseen,
            )
    photos = answers.images[photo_rows(answers)].tolist()
    return Record(
        class_names=plain.class_names,
        answers=answers,
        constant=constant,
        facts=plain.facts,
        pictures=_pictures(problem, answers, constant),
        feature_map=drawn,
        acquaintance=acquaintance(problem, prototypes),
        attended=attended_photos(problem, fitted, photos),
    )


def _on_the_cpu(model: Model) -> Generator:
    """The model where its draws are the same on every machine."""
    if model.unseen.device.type != "cpu":
        saved = model.save()
        tensors = {name: tensor.cpu() for name, tensor in saved.tensors.items()}
        model = load_model(SavedModel(saved.method, tensors, saved.values))
    assert isinstance(model, Generator), "told by the caller"
    return model


def gallery_rows(answers: Answers) -> list[int]:
    """Rows of the images shown as a first impression: the first test image of up to 24 unseen classes, evenly."""
    return _evenly(first_of_each(answers, unseen=True), GALLERY)


def photo_rows(answers: Answers) -> list[int]:
    """Rows of the images on which attention is shown."""
    return _evenly(first_of_each(answers, unseen=True), PHOTOS)


def _evenly(rows: list[int], number: int) -> list[int]:
    places = np.linspace(0, len(rows) - 1, min(number, len(rows))).astype(int).tolist()
    return [rows[place] for place in places]


def shown_images(answers: Answers, constant: float | None) -> list[int]:
    """Positions of every image that the page may show."""
    rows = gallery_rows(answers) + photo_rows(answers)
    found = {int(answers.images[row]) for row in rows}
    for confusion in confusions(answers, constant)[:CONFUSIONS]:
        found.add(confusion.images[0])
        example = example_of(answers, confusion.told)
        if example is not None:
            found.add(example)
    return sorted(found)


def example_of(answers: Answers, label: int) -> int | None:
    """Position of the first test image of a class; None where it has none."""
    rows = np.flatnonzero(answers.labels == label)
    return int(answers.images[rows[0]]) if len(rows) else None


def _pictures(problem: Problem, answers: Answers, constant: float | None) -> dict[str, Any]:
    shown = shown_images(answers, constant)
    if problem.pictures is not None:
        return _kept(problem.pictures, shown)
    if problem.image_files is None:
        return {}
    return {"files": {str(position): problem.image_files[position] for position in shown}}


def _kept(images: UInt8[np.ndarray, "images height width 3"], shown: list[int]) -> dict[str, Any]:
    return {"png": {str(position): png_text(images[position]) for position in shown}}


def _with_kept_pictures(record: Record) -> Record:
    """Records made before say {"embedded": unseen numbers} where now the pictures themselves are."""
    if "embedded" not in record.pictures:
        return record
    images = numbers(unseen=record.pictures["embedded"]).pictures
    assert images is not None, "numbers have pictures"
    return replace(record, pictures=_kept(images, shown_images(record.answers, record.constant)))
