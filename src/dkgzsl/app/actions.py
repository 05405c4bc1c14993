"""What the page's buttons do: from a visitor and a request to JSON values, or to a refusal in the page's words."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from dkgzsl.app.describing import LONGEST_TEXT, attributes_of, description_of, mentioned, most_alike
from dkgzsl.app.limits import Limits, Line, Refusal
from dkgzsl.app.results import bar, class_cards, class_page, prediction_result
from dkgzsl.app.run_pictures import RunPictures
from dkgzsl.app.session import LONGEST_NAME, MOST_ADDED, Session, read_one
from dkgzsl.app.visitors import Visitor, Visitors
from dkgzsl.data.names import clean_name, name_key, spoken_attribute
from dkgzsl.errors import DataError, DkgzslError
from dkgzsl.inference.adaptation import Adapted
from dkgzsl.inference.new_classes import Describer, nearest_classes
from dkgzsl.inference.photos import PhotoReader, Photos
from dkgzsl.methods.base import Adaptable, Extendable, FewShot

BIAS: Final = 10.0
"""The bias goes from minus this to plus this, in temperatures."""


class Page:
    """The page of one run.

    Args:
        session: that each visitor starts with.
        reader: reads images in the same way as the run's features were made.
        limits: what the page takes at once.
    """

    def __init__(self, session: Session, reader: PhotoReader, limits: Limits) -> None:
        self._reader, self.limits = reader, limits
        self.visitors, self.line = Visitors(session, limits), Line(limits)
        self.first = json.dumps(self._described(session), ensure_ascii=False).encode()
        self.pictures = RunPictures(session.run)

    def opened(self, visitor: Visitor) -> dict[str, Any]:
        """What the page shows before anything is done; `first` is the same for those who have changed nothing."""
        return self._described(visitor.session)

    def _described(self, session: Session) -> dict[str, Any]:
        recognizer = session.recognizer
        semantics, model = recognizer.record.semantics, recognizer.model
        columns = attributes_of(semantics) if isinstance(model, Extendable) else ()
        return {
            "title": recognizer.record.dataset or session.run.name,
            **_state(session),
            "can": {
                "describe": isinstance(model, Extendable),
                "text": semantics.encoder is not None,
                "photos": isinstance(model, FewShot),
                "adapt": isinstance(model, Adaptable) and bool(len(model.unseen)),
            },
            "attributes": _attributes(session, columns),
            "lowest": semantics.lowest,
            "highest": semantics.highest,
            "bias": BIAS,
            "photo_megabytes": self.limits.photo_megabytes,
            "kept_photos": self.limits.kept_photos,
        }

    def picture(self, find: Callable[[str], tuple[bytes, str] | None], what: str) -> tuple[bytes, str] | None:
        """Content and media type of a picture, once the run's images are found."""
        self.pictures.wait(30.0)
        return find(what)

    def shown(self) -> dict[str, Any]:
        """Which classes have a picture, and the images to try."""
        self.pictures.wait(30.0)
        examples = [{"name": one.name, "seen": one.seen} for one in self.pictures.examples]
        return {"classes": self.pictures.class_names, "examples": examples}

    def recognise(self, visitor: Visitor, photo: bytes, bias: float) -> dict[str, Any]:
        """A prediction for a photo."""
        return self._result(visitor, self._read(photo), bias)

    def recognise_example(self, visitor: Visitor, number: int, bias: float) -> dict[str, Any]:
        """A prediction for one of the images to try, and its true class."""
        if not 0 <= number < len(self.pictures.examples):
            raise Refusal("This example is not here any more. Please load the page again.", field="photo")
        example = self.pictures.examples[number]
        photos = self._read(example.image)
        return {**self._result(visitor, photos, bias), "truth": example.name}

    def _result(self, visitor: Visitor, photos: Photos, bias: float) -> dict[str, Any]:
        if not abs(bias) <= BIAS:
            raise Refusal(f"The weight lies between -{BIAS:g} and {BIAS:g}.", field="photo")
        session = visitor.session
        return prediction_result(session.predict(photos, self._reader.grid, bias=bias), session.recognizer, bias)

    def _read(self, photo: bytes | Path, field: str = "photo") -> Photos:
        if isinstance(photo, Path):
            return read_one(self._reader, photo)
        if not photo:
            raise Refusal("This file is empty. Please choose a photo.", field=field)
        with tempfile.TemporaryDirectory(prefix="dkgzsl-page-") as folder:
            path = Path(folder) / "photo"
            path.write_bytes(photo)
            try:
                return read_one(self._reader, path)
            except DataError as error:
                why = error.what.removeprefix("the image cannot be read: ")
                text = f"This file cannot be read as a photo ({why}). Choose a JPEG, PNG or WebP file."
                raise Refusal(text, field=field) from error

    def class_of(self, visitor: Visitor, name: str) -> dict[str, Any]:
        """A class, and the values of its attributes as a start for another one."""
        session = visitor.session
        try:
            found = class_page(session, name)
        except DataError as error:
            raise Refusal(f"There is no class {name}.", field="classes") from error
        columns = attributes_of(session.recognizer.record.semantics)
        if columns and isinstance(session.recognizer.model, Extendable):
            found["values"] = [float(f"{one:.3g}") for one in description_of(session.recognizer, name).tolist()]
        return found

    def mentioned(self, visitor: Visitor, text: str) -> dict[str, Any]:
        """The attributes that a text mentions."""
        if len(text) > LONGEST_TEXT:
            raise Refusal(f"The text has more than {LONGEST_TEXT:,} characters. Shorten it.", field="text")
        found = mentioned(text, attributes_of(visitor.session.recognizer.record.semantics))
        if not found:
            text = "The text names no attribute of this model. Use the words of the list below."
            raise Refusal(text, field="text")
        return {"found": [{"name": name, "has": has} for name, has in found.items()]}

    def keep_photo(self, visitor: Visitor, photo: bytes) -> dict[str, Any]:
        """Keep the features of a photo, and say what it is taken for."""
        features = self._read(photo, "photos").features
        best = visitor.session.recognizer.predict(features)[0]
        number = self.visitors.keep(visitor, features[0])
        return {"number": number, **bar(best.ranked[0]), "none": best.name is None}

    def drop_photos(self, visitor: Visitor, numbers: list[int]) -> dict[str, Any]:
        """Forget photos."""
        for number in numbers:
            visitor.photos.pop(number, None)
        return {}

    def add_class(self, visitor: Visitor, given: Mapping[str, Any]) -> dict[str, Any]:
        """Add the class that a visitor has described."""
        name, text, numbers = given["name"], given.get("text"), given.get("photos") or []
        features = visitor.features(numbers) if numbers else None
        with visitor.lock:
            before = visitor.session
            self._check_name(before, name)
            if text is not None and not text.strip():
                raise Refusal("Describe the class in a sentence or two.", field="text")
            if text is not None and len(text) > LONGEST_TEXT:
                raise Refusal(f"The text has more than {LONGEST_TEXT:,} characters. Shorten it.", field="text")
            values, like = given.get("values"), given.get("like")
            if not (values or like or text or numbers):
                raise Refusal(
                    "Describe the class: choose attributes, a similar class, or photos.", field="attributes"
                )
            visitor.session = before.with_class(name, values=values, like=like, text=text, features=features)
            self.drop_photos(visitor, numbers)
        after = visitor.session
        near = nearest_classes(before.recognizer, description_of(after.recognizer, after.added[-1]))
        return {"name": after.added[-1], "near": [one for one, _ in near], **_state(visitor.session)}

    def _check_name(self, session: Session, name: str) -> None:
        cleaned = clean_name(name)
        if not cleaned:
            raise Refusal("Give the class a name.", field="name")
        if len(cleaned) > LONGEST_NAME:
            raise Refusal(f"The name has more than {LONGEST_NAME} characters. Shorten it.", field="name")
        if name_key(cleaned) in {name_key(one) for one in session.recognizer.known_names}:
            raise Refusal(f"There is a class {cleaned} already. Choose another name.", field="name")
        if len(session.added) >= MOST_ADDED:
            raise Refusal(f"You have added {MOST_ADDED} classes. Save them first.", field="save")

    def alike(self, visitor: Visitor, numbers: list[int]) -> dict[str, Any]:
        """The class that photos resemble most."""
        return {"name": most_alike(visitor.session.recognizer, visitor.features(numbers))}

    def adapt(self, visitor: Visitor, numbers: list[int]) -> dict[str, Any]:
        """Move the described classes to where photos lie, and predict these again."""
        features = visitor.features(numbers)
        with visitor.lock:
            try:
                session, found = visitor.session.adapted_to(features, trained_on=self._trained_on)
            except DataError as error:
                if "already" in error.what:
                    text = "The model is adapted to these photos already. Choose other photos."
                    raise Refusal(text, field="photos") from error
                text = "All of these are photos that the model was trained with. Choose other photos."
                raise Refusal(text, field="photos") from error
            visitor.session = session
        predictions = session.recognizer.predict(features)
        rows = [{**bar(one.ranked[0]), "none": one.name is None} for one in predictions]
        return {"rows": rows, **self._adapted(session, found), **_state(visitor.session)}

    def _adapted(self, session: Session, found: Adapted) -> dict[str, Any]:
        shown, names = found.adaptation, session.recognizer.class_names
        if found.refusal is not None:
            little = (
                "These photos show too few of the described classes clearly. Add photos of them."
                if "pool" in found.refusal
                else "For this model adaptation did not help on the validation classes."
            )
            return {"adapted": False, "text": f"The model stays as it was. {little}"}
        moved: list[dict[str, Any]] = [
            {"name": names[number], "photos": round(taken, 1), "moved": round(moved, 2)}
            for number, taken, moved in zip(shown.classes, shown.taken, shown.moved, strict=True)
            if taken >= 1
        ]
        moved.sort(key=lambda one: (-one["photos"], one["name"]))
        far = sum(one["moved"] >= 0.01 for one in moved)
        classes = "1 class has" if far == 1 else f"{far} classes have"
        text = f"The model is adapted to {shown.photos} photos: {classes} moved noticeably."
        return {"adapted": True, "text": text, "moved": moved}

    @cached_property
    def _trained_on(self) -> set[bytes]:
        """By what the run's training images are known again, where they are at hand."""
        return self.pictures.training_digests()

    def save(self, visitor: Visitor) -> dict[str, Any]:
        """Save the changes as a new version of the run."""
        with visitor.lock:
            if not visitor.session.unsaved:
                raise Refusal("There is nothing to save yet.", field="save")
            visitor.session = visitor.session.saved()
        session = visitor.session
        text = f"Saved as version {session.parent} of the run."
        note = f" {session.note[0].upper()}{session.note[1:]}." if session.note else ""
        return {"text": text + note, **_state(visitor.session)}


def _state(session: Session) -> dict[str, Any]:
    """The classes, and what is not saved."""
    seen = int(session.recognizer.is_seen[session.recognizer.is_known].sum())
    cards = class_cards(session)
    counted = f"{seen} seen in training, {len(cards) - seen} described only (unseen)"
    return {
        "classes": cards,
        "count": f"{len(cards)} classes: {counted}.",
        "version": session.parent,
        "unsaved": [*session.added, *(["the adaptation to your photos"] if session.adaptations else [])],
    }


def _attributes(session: Session, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """The attributes that people can set, each with the least and the most that a class has of it."""
    if not columns:
        return []
    table = Describer.of(session.recognizer).others
    ends = zip(table.min(0).tolist(), table.max(0).tolist(), strict=True)
    return [
        {
            "name": name,
            "label": spoken_attribute(name),
            "least": float(f"{least:.3g}"),
            "most": float(f"{most:.3g}"),
        }
        for name, (least, most) in zip(columns, ends, strict=True)
    ]


def in_page_words(error: DkgzslError) -> Refusal:
    """An error of the package as the page says it: without options of the command line."""
    text = f"{error.what[0].upper()}{error.what[1:]}"
    fix = error.fix
    plain = fix is not None and "--" not in fix and "dkgzsl" not in fix and "pip " not in fix
    return Refusal(f"{text}. {str(fix)[0].upper()}{str(fix)[1:]}." if plain else f"{text}.")


def numbers_of(value: object) -> list[int]:
    """Numbers of photos from JSON.

    Raises:
        Refusal: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(one, int) for one in value):
        raise Refusal("This is no request that the page makes. Please load the page again.", status=400)
    return value


def checked_values(value: object) -> dict[str, float] | None:
    """Values of attributes from JSON.

    Raises:
        Refusal: they are something else.
    """
    if value is None:
        return None
    numbers = isinstance(value, dict) and all(
        isinstance(one, int | float) and np.isfinite(one) for one in value.values()
    )
    if not numbers:
        raise Refusal("This is no request that the page makes. Please load the page again.", status=400)
    assert isinstance(value, dict), "just checked"
    return {str(name): float(one) for name, one in value.items()}
