"""A download begun, and what the server said of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class State:
    """What the server said of the file that was begun."""

    url: str
    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range takes: a strong ETag, or else the date; without either nobody knows whether parts fit."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class Partial:
    """A file begun: `NAME.part`, and beside it in `NAME.part.json` what tells whether the rest still fits."""

    def __init__(self, path: Path) -> None:
        self.file = path.with_name(path.name + ".part")
        self._notes = path.with_name(path.name + ".part.json")

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self.file.stat().st_size if self.file.exists() else 0

    def state(self, url: str) -> State | None:
        """What is known of the part, None where the rest of `url` cannot be put to it."""
        try:
            state = State(**json.loads(self._notes.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        fits = state.url == url and state.validator is not None and 0 < self.size <= (state.total or self.size)
        return state if fits else None

    def resumable(self, url: str) -> int:
        """Bytes that need not be fetched again from `url`."""
        return self.size if self.state(url) else 0

    def begin(self, state: State) -> None:
        """Start over."""
        self.discard()
        self._notes.write_text(json.dumps(asdict(state)), encoding="utf-8")

    def discard(self) -> None:
        """Remove what is here."""
        self.file.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        """Give it its final name."""
        self.file.replace(path)
        self._notes.unlink(missing_ok=True)
