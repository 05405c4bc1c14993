"""How figures and names are written on the page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from dkgzsl.data.names import spoken_name

DASH: Final = "–"
FIGURES: Final = {
    "t1": ("T1", "unseen images, told among the unseen classes"),
    "u": ("U", "unseen images, told among all classes"),
    "s": ("S", "seen images, told among all classes"),
    "h": ("H", "balance of U and S (harmonic mean), raw"),
    "h_calibrated": ("H calibrated", "the same, with a constant chosen on validation classes"),
    "ausuc": ("AUSUC", "area under the curve of seen over unseen accuracy"),
}
"""Name and meaning of each figure, in the order of the result object."""


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in percent, without the sign; a dash where it is undefined."""
    return DASH if value is None or value != value else f"{100 * value:.{digits}f}"


def signed(value: float) -> str:
    """A difference in points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "\u2212")


def mean_percent(value: Mapping[str, float] | None, *, several: bool) -> str:
    """A mean in percent, with its deviation where there are several seeds."""
    if value is None:
        return DASH
    return percent(value["mean"]) + (f" ± {percent(value['std'])}" if several else "")


def name(text: str) -> str:
    """A class name as one would say it; what no page or chart can hold is replaced."""
    return printable(spoken_name(text)) or printable(text) or "(no name)"


def printable(text: str) -> str:
    """Text without control characters and lone surrogates, which XML forbids, or marks that turn its direction."""
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]", "\ufffd", text
    )


def short(text: str, length: int = 22) -> str:
    """A name that fits into a chart."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 class`, `1,200 classes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def classes(number: int, kind: str = "") -> str:
    """`1 unseen class`, `20 unseen classes`."""
    return counted(number, f"{kind}class", f"{kind}classes")


def value_text(value: object) -> str:
    """A setting's value as a person writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value))
    return printable(str(value))
