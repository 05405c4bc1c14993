"""Versions of a run: what classes it recognises after some were added or taken away. Old versions stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dkgzsl.inference.recognizer import Recognizer
from dkgzsl.runs.folder import VERSIONS, versions_of

HISTORY: Final = "history.json"


def save_version(run: Path, recognizer: Recognizer, *, parent: int, change: Mapping[str, Any]) -> int:
    """Save a recognizer as the run's next version: all of it, or nothing.

    Args:
        run: the run folder.
        recognizer: what the version is.
        parent: the version that it was made from.
        change: what was changed, JSON values.

    Returns:
        The version's number.

    Raises:
        RunError: it cannot be written.
    """
    number = max(versions_of(run), default=0) + 1
    history = {
        "version": number,
        "parent": parent,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        **change,
    }
    text = json.dumps(history, indent=2, ensure_ascii=False) + "\n"
    recognizer.save(run / VERSIONS / str(number), further={HISTORY: text})
    return number
