"""What the page shows of a prediction and of a class, as JSON values: words, bars, tables, pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from dkgzsl.app.run_pictures import png
from dkgzsl.app.session import Session, TriedImage
from dkgzsl.data.names import spoken_attribute
from dkgzsl.inference.prediction import ExplainedPrediction
from dkgzsl.inference.reasons import Attribute, place_in_words
from dkgzsl.inference.recognizer import Ranked, Recognizer
from dkgzsl.report.pages.pictures import spread_regions
from dkgzsl.representation.overlay import overlay

PROBABLE: Final = 0.5
"""From this probability on the page says "probably": the class is at least as probable as all others together."""
SHORT: Final = 3
"""Attributes that a sentence names."""
_READABLE: Final = 320  # narrower pictures are enlarged pixel by pixel before a map is drawn on them


def prediction_result(tried: TriedImage, recognizer: Recognizer, bias: float) -> dict[str, Any]:
    """A prediction for the page.

    Args:
        tried: the prediction.
        recognizer: that made it.
        bias: to unseen classes; 0 is none.
    """
    explained = tried.biased
    ranked = explained.prediction.ranked
    return {
        **_verdict(explained),
        "bars": [bar(one) for one in ranked],
        "sentence": sentence(explained),
        "rival": _rival(explained),
        "reasons": _reasons(explained),
        "picture": data_address(tried.pixels),
        "maps": _maps(tried, recognizer.record.images.get("preprocessing")),
        "bias": _with_bias(tried, bias) if bias else None,
        "prediction": explained.to_json(),
    }


def _verdict(explained: ExplainedPrediction) -> dict[str, Any]:
    """The class, and how sure the model is, in words."""
    best = explained.prediction.ranked[0]
    kind = kind_in_words(best.seen, best.photos)
    if explained.prediction.name is None:
        text = f"The photo is unlike all classes. The most similar class is {best.name}."
        return {"sure": "none", "word": "None of these", "name": None, "kind": None, "known_by": text}
    known = {
        "seen": f"The model was trained with photos of {best.name}.",
        "unseen": f"The model has never seen a photo of {best.name}. It knows only its description.",
    }
    few = f"The model knows {best.name} from its description and {_photos(best.photos)}."
    text = few if best.photos and not best.seen else known["seen" if best.seen else "unseen"]
    sure = best.probability >= PROBABLE
    return {
        "sure": "probably" if sure else "unsure",
        "word": "Probably" if sure else "Unsure, perhaps",
        "name": best.name,
        "kind": kind,
        "known_by": text,
    }


def bar(one: Ranked) -> dict[str, Any]:
    """A class and its probability."""
    return {
        "name": one.name,
        "share": round(one.probability, 4),
        "percent": percent(one.probability),
        "kind": kind_in_words(one.seen, one.photos),
    }


def percent(share: float) -> str:
    """A probability as people read it: whole percents; one that rounds to none or all says so."""
    if share >= 0.995:
        return "over 99 %"
    return "under 1 %" if share < 0.005 else f"{100 * share:.0f} %"


def kind_in_words(seen: bool, photos: int = 0) -> str:
    """`seen`, `unseen`, or `described + 3 photos`."""
    if seen or not photos:
        return "seen" if seen else "unseen"
    return f"described + {_photos(photos)}"


def _photos(number: int) -> str:
    return f"{number} photo{'' if number == 1 else 's'}"


def sentence(explained: ExplainedPrediction) -> str | None:
    """Why the model decided so, in one sentence; None where it names no reason."""
    name = explained.prediction.ranked[0].name
    names = [_placed(one) for one in explained.evidence[:SHORT]]
    parts = list(dict.fromkeys(place_in_words(one.where) for one in explained.regions))
    if names and explained.evidence[0].shown is not None:
        return f"Typical of {name}, and in the photo: {', '.join(names)}."
    if names:
        return f"Typical of {name}, by its description: {', '.join(names)}."
    if explained.reasons is not None:
        return f"The photo shows no attribute that is typical of {name}."
    return f"The {_joined(parts)} of the photo decided most." if parts else None


def _placed(one: Attribute) -> str:
    name = spoken_attribute(one.name)
    return name if one.where is None else f"{name} ({place_in_words(one.where)})"


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _rival(explained: ExplainedPrediction) -> str | None:
    """The second class, and what speaks for it."""
    ranked = explained.prediction.ranked
    if len(ranked) < 2:
        return None
    text = f"Nearest rival: {ranked[1].name} ({percent(ranked[1].probability)})."
    reasons = explained.reasons
    if reasons is None or not reasons.for_rival:
        return text
    names = [spoken_attribute(one.name) for one in reasons.for_rival[:SHORT]]
    return f"{text} More typical of {ranked[1].name}, and in the photo: {', '.join(names)}."


def _reasons(explained: ExplainedPrediction) -> list[dict[str, Any]]:
    """Tables of what speaks for the class, against it, and for its rival."""
    name, reasons = explained.prediction.ranked[0].name, explained.reasons
    found = [(f"For {name}", explained.evidence)]
    if reasons is not None:
        found.append((f"Against {name}", reasons.disagrees))
        if reasons.rival is not None:
            found.append((f"For {reasons.rival} instead", reasons.for_rival))
    return [{"title": title, "rows": [_row(one) for one in rows]} for title, rows in found if rows]


def _row(one: Attribute) -> dict[str, Any]:
    return {
        "name": spoken_attribute(one.name),
        "where": None if one.where is None else place_in_words(one.where),
        "described": f"{one.typical:+.1f}",
        "shown": None if one.shown is None else f"{one.shown:+.1f}",
        "accuracy": None if one.accuracy is None else f"{100 * one.accuracy:.0f} %",
    }


def _maps(tried: TriedImage, preprocessing: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """The photo under maps of what decided, and of each attribute that was read from regions."""
    explained, factor = tried.biased, -(-_READABLE // tried.pixels.shape[1])
    pixels = tried.pixels.repeat(factor, 0).repeat(factor, 1)
    maps = [] if explained.losses is None else [("What decided", np.clip(explained.losses, 0, None))]
    maps += [
        (spoken_attribute(one.name), one.attention) for one in explained.evidence if one.attention is not None
    ]
    drawn = []
    for label, weights in maps:
        grid = tried.grid
        if preprocessing is not None and "region_size" in preprocessing:
            weights, grid = spread_regions(weights, grid, preprocessing)
        drawn.append({"label": label, "picture": data_address(overlay(pixels, weights, grid))})
    return drawn


def data_address(pixels: np.ndarray) -> str:
    """A picture as a `data:` address, which needs no request."""
    from PIL import Image

    return "data:image/png;base64," + base64.b64encode(png(Image.fromarray(pixels))).decode()


def _with_bias(tried: TriedImage, bias: float) -> str:
    before, after = tried.unbiased.prediction, tried.biased.prediction
    to = "unseen" if bias > 0 else "seen"
    names = [one.name if one.name is not None else "none of these" for one in (before, after)]
    if names[0] == names[1]:
        return f"With more weight for {to} classes the class stays {names[0]}."
    return f"With more weight for {to} classes the class changes from {names[0]} to {names[1]}."


def class_cards(session: Session) -> list[dict[str, Any]]:
    """All classes for the gallery: name, what it is known by, and its outstanding attributes."""
    recognizer = session.recognizer
    known, seen = recognizer.evidence, recognizer.is_seen
    typical = None if known is None else known.typical()
    cards = []
    for number in np.flatnonzero(recognizer.is_known).tolist():
        name = recognizer.class_names[number]
        kind = kind_in_words(bool(seen[number]), recognizer.photos_of(number))
        added = name in session.added
        traits: list[str] = []
        if known is not None and typical is not None and not np.isnan(typical[number]).any():
            best = np.argsort(-typical[number], kind="stable")[:SHORT].tolist()
            traits = [spoken_attribute(known.names[k]) for k in best if typical[number, k] > 0]
        cards.append({"name": name, "kind": kind, "added": added, "traits": traits})
    return cards


def class_page(session: Session, name: str, known_by_text: str | None = None) -> dict[str, Any]:
    """One class: what it is known by, and its description.

    Args:
        session: the visitor's.
        name: of the class.
        known_by_text: the text that the visitor described it by.

    Raises:
        DataError: there is no such class.
    """
    recognizer = session.recognizer
    number = recognizer.number_of(name)
    seen, photos = bool(recognizer.is_seen[number]), recognizer.photos_of(number)
    rows = session.attributes_of(name)
    more = [spoken_attribute(one) for one, _, typical in rows[:SHORT] if typical > 0]
    less = [spoken_attribute(one) for one, _, typical in reversed(rows[-SHORT:]) if typical < 0]
    text = f"More than other classes: {', '.join(more)}." if more else ""
    text += f" Less: {', '.join(less)}." if less else ""
    return {
        "name": name,
        "kind": kind_in_words(seen, photos),
        "text": text.strip() or known_by_text or "Its description is a list of numbers without names.",
        "rows": [
            {"name": spoken_attribute(one), "value": f"{value:.3g}", "typical": round(typical, 2)}
            for one, value, typical in rows
        ],
    }
