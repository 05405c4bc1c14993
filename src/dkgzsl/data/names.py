"""Names of classes and attributes: as tables have them, and as one would say them."""

from __future__ import annotations

import re
import unicodedata


def clean_name(name: str) -> str:
    """A class name without outer blanks, in composed Unicode: file systems and editors differ in both."""
    return unicodedata.normalize("NFC", name).strip()


def spoken_name(name: str) -> str:
    """A class name as one would say it: `012.Black_footed_Albatross` -> `Black footed Albatross`."""
    return re.sub(r"[_\s]+", " ", re.sub(r"^\d+\.", "", name)).strip()


def spoken_attribute(name: str) -> str:
    """An attribute's name as one would say it: `has_bill_shape::hooked_seabird` -> `bill shape hooked seabird`."""
    return spoken_name(name.removeprefix("has_").replace("::", " "))
