"""Errors that users see."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from importlib.util import find_spec


class DkgzslError(Exception):
    """An error that the user can fix: bad input, a missing file, an option that does not fit.

    The message has up to three lines: what is wrong, where, and what to do next. The command line prints them
    without a traceback and exits with code 2.

    Args:
        what: what is wrong.
        where: the file, option or line that it concerns.
        fix: what to do next.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        lines = [what]
        if where:
            lines.append(f"  where: {where}")
        if fix:
            lines.append(f"  next:  {fix}")
        super().__init__("\n".join(lines))


class DataError(DkgzslError):
    """Data cannot be used: they are missing, unreadable or inconsistent."""


class MissingError(DataError):
    """A known data set is not on this machine, or not all of it."""


class InputError(DataError, ValueError):
    """An argument of a Python call cannot be used. It is a ValueError, too, as scikit-learn's tools expect."""


class ConfigError(DkgzslError):
    """A setting is unknown, out of range, or contradicts another."""


class RunError(DkgzslError):
    """A run folder cannot be written, read or resumed."""


_EXTRA_OF = {
    "PIL": "images", "cv2": "images", "timm": "images", "huggingface_hub": "hub",
    "onnx": "export", "onnxruntime": "export", "open_clip": "clip", "openpyxl": "tables", "pyarrow": "tables",
    "optuna": "tune", "ray": "cluster", "sentence_transformers": "text",
}  # fmt: skip
"""The extra that brings a package, by the name that is imported."""


def refuse_without(*packages: str, extra: str | None = None) -> None:
    """That packages are installed. A verb asks this before it reads anything: nobody waits for such an error.

    Args:
        packages: names, as they are imported.
        extra: what brings them (default: the extra that each is known by).

    Raises:
        ConfigError: one is missing.
    """
    for name in packages:
        try:
            found = find_spec(name)
        except ImportError:
            found = None
        if found is None:
            raise _not_installed(name, extra)


def missing_package(error: ModuleNotFoundError) -> ConfigError | None:
    """The same of an import that failed; None where no extra brings the package."""
    name = (error.name or "").partition(".")[0]
    return _not_installed(name) if name in _EXTRA_OF else None


def _not_installed(name: str, extra: str | None = None) -> ConfigError:
    needed = extra or _EXTRA_OF[name]
    return ConfigError(f"the package {name} is not installed", fix=f"pip install 'dkgzsl[{needed}]'")


_MOST_NAMES = 40
"""Names that a message lists: a screen holds no more."""


def nearest(name: str, known: Iterable[str], *, of: str = "known") -> str:
    """A hint for a name that is not known: the nearest known name, if there is one, and the known names.

    Args:
        name: the name that was given.
        known: the names that exist.
        of: what they are names of, in the plural, for the message.
    """
    names = sorted(known)
    shown = ", ".join(names if len(names) <= _MOST_NAMES else [*names[:_MOST_NAMES], f"... ({len(names)} in all)"])
    close = get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    if close:
        match = next(n for n in names if n.lower() == close[0])
        return f"did you mean {match!r}? ({of}: {shown})"
    return f"{of}: {shown or 'none'}"


def nearest_few(name: str, known: Iterable[str], *, of: str, at_most: int = 5) -> str:
    """A hint as `nearest` gives it, where the known names are too many to list: the few most like the name.

    A name of several words, such as `left_loop_whole`, is as near as the nearest of its words.

    Args:
        name: the name that was given.
        known: the names that exist.
        of: what they are names of, in the plural, for the message.
        at_most: so many names are listed whole.
    """
    names = sorted(known)
    if len(names) <= at_most:
        return nearest(name, names, of=of)
    near = sorted(names, key=lambda one: -_likeness(name.lower(), one.lower()))[:at_most]
    close = get_close_matches(name.lower(), [one.lower() for one in near], n=1, cutoff=0.5)
    match = next((one for one in near if one.lower() in close), None)
    listed = f"the nearest of {len(names)} {of}: {', '.join(near)}"
    return listed if match is None else f"did you mean {match!r}? ({listed})"


def _likeness(name: str, other: str) -> float:
    words = [other, *re.split(r"[\W_]+", other)]
    return max(SequenceMatcher(None, name, word).ratio() for word in words)
