"""Images of a run for the page: one of each class, and a few to try; found in the background."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np

from dkgzsl.data.problem import Problem
from dkgzsl.errors import DkgzslError
from dkgzsl.features.images import UnreadableImageError, open_image, read_image
from dkgzsl.inference.adaptation import training_digests
from dkgzsl.report.record.record import Record
from dkgzsl.runs.places import recorded_config
from dkgzsl.runs.plan import make_plan

EXAMPLES: Final = 8
"""Images to try: half of them of unseen classes, where there are enough."""
_SIDE: Final = 320
_SMALL: Final = 64
"""Pictures whose longer side has fewer pixels are enlarged pixel by pixel."""


@dataclass(frozen=True)
class Example:
    """A test image to try.

    Attributes:
        name: its class.
        seen: whether the class had training images.
        image: a file, or the content of a PNG file.
    """

    name: str
    seen: bool
    image: Path | bytes


class RunPictures:
    """Images that a run knows; a thread looks for them, since a large data set takes seconds to open.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._ready = threading.Event()
        self.examples: list[Example] = []
        self._classes: dict[str, Path | bytes] = {}
        self._problem: Problem | None = None
        threading.Thread(target=self._find, name="pictures", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether the images are found, after so many seconds at most."""
        return self._ready.wait(seconds)

    @property
    def class_names(self) -> list[str]:
        """Classes that have a picture."""
        return list(self._classes)

    def of_class(self, name: str) -> tuple[bytes, str] | None:
        """Content and media type of a small picture of a class; None where there is none, or it cannot be read."""
        image = self._classes.get(name)
        return None if image is None else thumbnail(image)

    def example(self, number: int) -> tuple[bytes, str] | None:
        """The same of an image to try."""
        return thumbnail(self.examples[number].image) if 0 <= number < len(self.examples) else None

    def training_digests(self) -> set[bytes]:
        """By what the training images are known again; empty where the data is not on this machine."""
        self.wait(30.0)
        return set() if self._problem is None else training_digests(self._problem)

    def _find(self) -> None:
        try:
            self._problem = problem = _problem(self._run)
            if problem is not None and (problem.pictures is not None or problem.image_files is not None):
                self._take(problem)
            else:
                self._take_from_report()
        except DkgzslError:
            pass  # the page works without pictures
        finally:
            self._ready.set()

    def _take(self, problem: Problem) -> None:
        parts = problem.parts
        first: dict[int, int] = {}
        for position in np.concatenate([parts.test_seen, parts.test_unseen, parts.trainval]).tolist():
            first.setdefault(int(problem.labels[position]), int(position))
        self._classes = {problem.class_names[label]: _image(problem, first[label]) for label in sorted(first)}
        kinds = [(parts.test_unseen, False), (parts.test_seen, True)]
        for positions, seen in kinds:
            for position in _one_each(problem, positions, EXAMPLES // 2):
                name = problem.class_names[int(problem.labels[position])]
                self.examples.append(Example(name, seen, _image(problem, position)))

    def _take_from_report(self) -> None:
        """The few images that the report keeps, where the data set is not on this machine."""
        record = Record.read(self._run / "report.safetensors")
        if record is None:
            return
        found = _of_record(record.pictures)
        predictions = record.predictions
        for position, label in zip(predictions.images.tolist(), predictions.labels.tolist(), strict=True):
            name, image = record.class_names[label], found.get(str(position))
            if image is None or name in self._classes:
                continue
            self._classes[name] = image
            self.examples.append(Example(name, not bool(predictions.is_unseen[label]), image))
        unseen = [one for one in self.examples if not one.seen][: EXAMPLES // 2]
        self.examples = [*unseen, *[one for one in self.examples if one.seen][: EXAMPLES - len(unseen)]]


def _problem(run: Path) -> Problem | None:
    """The data that the run was trained on; None where it is not on this machine."""
    if not (run / "config.yaml").is_file():  # a saved estimator does not say where its images lie
        return None
    try:
        config = recorded_config(run)
        plan = make_plan(config)
        return plan.problem_for(plan.seeds[0])
    except DkgzslError:
        return None


def _of_record(pictures: Mapping[str, Mapping[str, str]]) -> dict[str, Path | bytes]:
    kept: dict[str, Path | bytes] = {key: base64.b64decode(text) for key, text in pictures.get("png", {}).items()}
    return kept | {key: Path(path) for key, path in pictures.get("files", {}).items() if Path(path).is_file()}


def _one_each(problem: Problem, positions: np.ndarray, number: int) -> list[int]:
    """Test images of so many classes, evenly spaced over the classes; not always the class's first image."""
    labels = np.unique(problem.labels[positions])
    chosen = labels[np.unique(np.linspace(0, len(labels) - 1, min(number, len(labels))).astype(int))]
    found = []
    for turn, label in enumerate(chosen.tolist()):
        own = positions[problem.labels[positions] == label]
        found.append(int(own[(3 * turn + 1) % len(own)]))
    return found


def _image(problem: Problem, position: int) -> Path | bytes:
    if problem.pictures is not None:
        from PIL import Image

        return png(Image.fromarray(problem.pictures[position]))
    assert problem.image_files is not None, "the caller checks it"
    return Path(problem.image_files[position])


def png(picture: object) -> bytes:
    """A picture as the content of a PNG file."""
    content = BytesIO()
    picture.save(content, "PNG")  # type: ignore[attr-defined]
    return content.getvalue()


@lru_cache(maxsize=512)
def thumbnail(image: Path | bytes) -> tuple[bytes, str] | None:
    """A small picture and its media type; None where it cannot be read. Tiny ones stay as they are."""
    try:
        found = open_image(image).convert("RGB") if isinstance(image, bytes) else read_image(image)[0]
    except (UnreadableImageError, OSError):
        return None
    if max(found.size) <= _SMALL:
        return png(found), "image/png"
    found.thumbnail((_SIDE, _SIDE))
    content = BytesIO()
    found.save(content, "JPEG", quality=82)
    return content.getvalue(), "image/jpeg"
