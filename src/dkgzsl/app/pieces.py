"""Parts of the page as HTML: each picture has a text, all names are escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

from dkgzsl.app.session import Session, TriedImage
from dkgzsl.inference.prediction import ExplainedPrediction, evidence_picture, in_words
from dkgzsl.inference.reasons import Attribute, place_in_words
from dkgzsl.inference.recognizer import Ranked

if TYPE_CHECKING:
    from PIL.Image import Image

STYLE = """
.dkgzsl table {border-collapse: collapse; width: 100%}
.dkgzsl th, .dkgzsl td {padding: .25em .6em; text-align: left; border-bottom: 1px solid #8886}
.dkgzsl td.number, .dkgzsl th.number {text-align: right; font-variant-numeric: tabular-nums}
.dkgzsl img {max-width: 100%; min-height: 8em; object-fit: contain}
.dkgzsl img.strip {max-width: none; width: 100%; min-width: 44em; min-height: 0}
.dkgzsl img.small {image-rendering: pixelated; width: 100%; max-width: 30em}
.dkgzsl ol.bars {list-style: none; margin: 1em 0; padding: 0}
.dkgzsl ol.bars li {display: grid; grid-template-columns: 1fr auto; gap: .1em 1em; margin: .5em 0}
.dkgzsl .bar {grid-column: 1 / -1; height: .6em; border-radius: .3em; background: #8884}
.dkgzsl .bar span {display: block; height: 100%; border-radius: .3em; background: #2563eb}
.dkgzsl .scroll {overflow-x: auto}
@media (max-width: 30em) {
  .dkgzsl th, .dkgzsl td {padding: .25em .3em; overflow-wrap: anywhere}
  .dkgzsl td.number, .dkgzsl th.number {overflow-wrap: normal; font-size: 90%}
}
"""
_SMALL = 64  # lower pictures are enlarged without smoothing
PROBABLE = 0.5
"""From this probability on the page says "probably": the class is at least as probable as all others together."""


def prediction_html(tried: TriedImage) -> str:
    """The image, the prediction in words, the most probable classes as bars, and the evidence."""
    ranked = tried.biased.prediction.ranked
    title = "None of these" if tried.biased.prediction.name is None else escape(ranked[0].name)
    return _framed(
        _picture(tried)
        + f"<h3>{title}</h3><p>{_verdict(tried.biased)}</p>"
        + _bars(ranked, "Most probable classes")
        + _evidence_table(tried.biased)
    )


def _verdict(explained: ExplainedPrediction) -> str:
    """How sure the model is, in words, and the nearest rival."""
    best, *others = explained.prediction.ranked
    name = escape(best.name)
    if explained.prediction.name is None:
        return f"None of these: the image is unlike all classes. The most similar class is {name}."
    sure = f"Probably {name}" if best.probability >= PROBABLE else f"Unsure: perhaps {name}"
    rival = f" The nearest rival is {escape(others[0].name)} ({_percent(others[0])})." if others else ""
    return f"{sure}. Probability {_percent(best)}; {_kind(best)} class.{rival}"


def bias_html(tried: TriedImage, bias: float) -> str:
    """The classes of an image with the bias, and without it."""
    before, after = tried.unbiased.prediction, tried.biased.prediction
    change = "does not change" if before.name == after.name else "changes"
    names = [_name(tried.unbiased), _name(tried.biased)]
    return _framed(
        f"<p>The prediction {change}: {names[0]} without the bias, {names[1]} with a bias of {bias:+g}.</p>"
        + _bars(before.ranked, "Without the bias")
        + _bars(after.ranked, f"With a bias of {bias:+g}")
    )


def classes_html(session: Session) -> str:
    """How many classes the model recognises, and how many of them had training images."""
    recognizer = session.recognizer
    known = [(recognizer.class_names[k], bool(recognizer.is_seen[k])) for k in recognizer.is_known.nonzero()[0]]
    seen = sum(one for _, one in known)
    unsaved = f" Not saved yet: {escape(', '.join(session.added))}." if session.added else ""
    return _framed(
        f"<p>{len(known)} classes: {seen} seen in training, {len(known) - seen} unseen. "
        f"Version {session.parent} of the run.{unsaved}</p>"
    )


def class_html(session: Session, name: str) -> str:
    """A class and its attributes in a table."""
    kind = session.recognizer.kind_of(name)
    kind = "seen in training" if kind == "seen" else kind
    rows = "".join(
        f"<tr><td>{escape(attribute)}</td><td class=number>{value:.3g}</td>"
        f"<td class=number>{typical:+.1f}</td></tr>"
        for attribute, value, typical in session.attributes_of(name)
    )
    if not rows:
        return _framed(f"<h3>{escape(name)}</h3><p>{kind}; its description has no named attributes.</p>")
    return _framed(
        f"<h3>{escape(name)}</h3><p>{kind}</p><div class=scroll><table><caption>Attributes of {escape(name)}"
        "</caption><thead><tr><th scope=col>attribute</th><th scope=col class=number>value</th>"
        "<th scope=col class=number>standard deviations above the mean of all classes</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def data_address(picture: Image) -> str:
    """A picture as a `data:` address, which needs no request."""
    file = BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _picture(tried: TriedImage) -> str:
    from PIL import Image

    words = escape(" ".join(line.strip() for line in in_words(tried.biased)), quote=True)
    has_maps = any(one.attention is not None for one in tried.biased.evidence)
    if has_maps:
        drawn, text = (
            evidence_picture(tried.biased, tried.pixels, tried.grid),
            "The image, and an attention map of each attribute",
        )
    else:
        drawn, text = Image.fromarray(tried.pixels), "The image as the model sees it"
    css_classes = " ".join(
        word for word, holds in (("strip", has_maps), ("small", tried.pixels.shape[0] < _SMALL)) if holds
    )
    picture = f'<img class="{css_classes}" src="{data_address(drawn)}" alt="{text}: {words}">'
    return f"<p>{text}</p><div class=scroll>{picture}</div>"


def _evidence_table(explained: ExplainedPrediction) -> str:
    """What the photo shows for the class, against it and for its rival; a class's own attributes in older runs."""
    name, reasons = escape(explained.prediction.ranked[0].name), explained.reasons
    tables = _attributes_table(f"What speaks for {name}", explained.evidence)
    if reasons is not None:
        if not explained.evidence:
            tables += f"<p>The photo shows no attribute that is typical of {name}.</p>"
        tables += _attributes_table(f"What speaks against {name}", reasons.disagrees)
        if reasons.rival is not None:
            tables += _attributes_table(f"What speaks for {escape(reasons.rival)} instead", reasons.for_rival)
    parts = dict.fromkeys(place_in_words(one.where) for one in explained.regions)
    return tables + (f"<p>decided most by these parts: {', '.join(parts)}</p>" if parts else "")


def _attributes_table(caption: str, attributes: Sequence[Attribute]) -> str:
    if not attributes:
        return ""
    columns = ["in the description"]
    rows = [[one.name, f"{one.typical:+.1f}"] for one in attributes]
    if attributes[0].shown is not None:
        columns.append("in this image")
        rows = [[*row, f"{one.shown or 0.0:+.1f}"] for row, one in zip(rows, attributes, strict=True)]
    if attributes[0].accuracy is not None:
        columns.append("read correctly, %")
        rows = [[*row, f"{100 * (one.accuracy or 0.0):.0f}"] for row, one in zip(rows, attributes, strict=True)]
    head = "".join(f"<th scope=col class=number>{column}</th>" for column in columns)
    body = "".join(
        f"<tr><td>{escape(first)}</td>" + "".join(f"<td class=number>{cell}</td>" for cell in others) + "</tr>"
        for first, *others in rows
    )
    return (
        f"<div class=scroll><table><caption>{caption}, in standard deviations above the mean</caption>"
        f"<thead><tr><th scope=col>attribute</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _bars(ranked: tuple[Ranked, ...], caption: str) -> str:
    """A bar for each class; a screen reader reads the name, the kind and the probability."""
    rows = "".join(
        f"<li><span>{escape(one.name)} ({_kind(one)})</span><span>{_percent(one)}</span>"
        f'<span class=bar aria-hidden=true><span style="width: {100 * one.probability:.1f}%"></span></span></li>'
        for one in ranked
    )
    return f"<p>{caption}</p><ol class=bars>{rows}</ol>"


def _name(explained: ExplainedPrediction) -> str:
    return escape(explained.prediction.name) if explained.prediction.name is not None else "none of these"


def _percent(one: Ranked) -> str:
    return f"{100 * one.probability:.1f} %"


def _kind(one: Ranked) -> str:
    return one.kind


def _framed(inside: str) -> str:
    return f'<div class="dkgzsl">{inside}</div>'
