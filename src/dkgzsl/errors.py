"""The one kind of error that users meet."""

from collections.abc import Iterable
from difflib import get_close_matches


class DkgzslError(Exception):
    """Something the user can mend: bad input, a missing file, an option that does not fit.

    The message has up to three parts, each a sentence: what is wrong, where, and what to do next. The command
    line prints them without a traceback and exits with code 2.
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
    """Data that cannot be used: missing, unreadable, inconsistent."""


class InputError(DataError, ValueError):
    """An argument of a Python call that cannot be used: a ValueError, too, as scikit-learn's tools expect."""


class ConfigError(DkgzslError):
    """A setting that is unknown, out of range, or at odds with another."""


class RunError(DkgzslError):
    """A run folder that cannot be written, read or continued."""


def nearest(name: str, known: Iterable[str], *, of: str = "known") -> str:
    """A sentence that names the known names nearest to `name`, or all of them where none is near."""
    names = sorted(known)
    close = get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    if close:
        match = next(n for n in names if n.lower() == close[0])
        return f"did you mean {match!r}? ({of}: {', '.join(names)})"
    return f"{of}: {', '.join(names) or 'none'}"
