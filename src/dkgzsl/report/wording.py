"""How the report writes figures, names and settings."""

from __future__ import annotations

import re
from typing import Final

from dkgzsl.data.names import spoken_name
from dkgzsl.display import DASH, FIGURE_NAMES, counted, mean_percent, percent, signed

__all__ = [
    "DASH", "FIGURES", "classes", "counted", "mean_percent", "name", "percent", "printable", "short", "signed",
    "value_text",
]  # fmt: skip

FIGURES: Final = {
    "t1": (FIGURE_NAMES["t1"], "accuracy on unseen classes when only they can be predicted"),
    "u": (FIGURE_NAMES["u"], "accuracy on unseen classes when all classes can be predicted"),
    "s": (FIGURE_NAMES["s"], "accuracy on seen classes when all classes can be predicted"),
    "h": (FIGURE_NAMES["h"], "harmonic mean of U and S, without calibration"),
    "h_calibrated": (FIGURE_NAMES["h_calibrated"], "H with the calibration constant from validation"),
    "ausuc": (FIGURE_NAMES["ausuc"], "area under the curve of S over U"),
}
"""Name and meaning of each figure, in the order of the result object."""


def name(text: str) -> str:
    """A class name in plain words; characters that a page or chart cannot hold are replaced."""
    return printable(spoken_name(text)) or printable(text) or "(no name)"


def printable(text: str) -> str:
    """Text without control characters, lone surrogates (XML forbids them) and marks that change its direction."""
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]", "\ufffd", text
    )


def short(text: str, length: int = 22) -> str:
    """A name, cut so that it fits into a chart."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def classes(number: int, kind: str = "") -> str:
    """`1 unseen class`, `20 unseen classes`."""
    return counted(number, f"{kind}class", f"{kind}classes")


def value_text(value: object) -> str:
    """The value of a setting in plain words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value))
    return printable(str(value))
