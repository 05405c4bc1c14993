"""Names of classes and attributes: as tables have them, and as one would say them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable


def clean_name(name: str) -> str:
    """A class name without outer blanks, in composed Unicode: file systems and editors differ in both."""
    return unicodedata.normalize("NFC", name).strip()


def spoken_name(name: str) -> str:
    """A class name as one would say it: `012.Black_footed_Albatross` -> `Black footed Albatross`."""
    return re.sub(r"[_\s]+", " ", re.sub(r"^\d+\.", "", name)).strip()


def spoken_attribute(name: str) -> str:
    """An attribute's name as one would say it: `has_bill_shape::hooked_seabird` -> `bill shape hooked seabird`."""
    return spoken_name(name.removeprefix("has_").replace("::", " "))


def name_key(name: str) -> str:
    """A class name without case, `_`, hyphens and blanks: names that have the same key are one class.

    Names of digits alone stay as they are: `-1` is not `1`.
    """
    key = re.sub(r"[-_\s\u2010-\u2015]+", "", unicodedata.normalize("NFKC", name).casefold())
    return clean_name(name) if key.isdigit() else key


def by_known_name(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Each name as the known names write it, by `name_key`; a name that none of them has stays as it is."""
    exact = set(known)
    keys = {name_key(name): name for name in sorted(exact)}
    return {name: name if name in exact else keys.get(name_key(name), name) for name in names}
