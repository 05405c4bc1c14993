"""`metrics.jsonl`: what happens in a run, a JSON object a line, which loggers get as well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from dkgzsl.errors import RunError
from dkgzsl.files import write_whole
from dkgzsl.reading import parse_json
from dkgzsl.runs.loggers import Logger

LOG: Final = "metrics.jsonl"


class EventLog:
    """Appends to `metrics.jsonl` of a folder.

    Attributes:
        loggers: get each event as soon as it is written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG
        self.loggers: Sequence[Logger] = ()
        self._start = perf_counter()

    def add(self, event: str, **values: Any) -> None:
        """Append one event, with the seconds since the command began.

        Raises:
            OSError: the file cannot be written.
        """
        since = {} if "seconds" in values else {"seconds": round(perf_counter() - self._start, 3)}
        self.add_lines(json.dumps({"event": event, **values, **since}, ensure_ascii=False) + "\n")

    def add_lines(self, lines: str) -> None:
        """Append whole lines.

        Raises:
            OSError: the file cannot be written.
            RunError: a line is no JSON, and there are loggers that get it.
        """
        with self.path.open("a", encoding="utf-8") as file:
            file.write(lines)
        for line in lines.removesuffix("\n").split("\n") if self.loggers else ():
            values = parse_json(line, f"{LOG} is damaged", self.path, error=RunError)
            event = values.pop("event")
            for logger in self.loggers:
                logger.log(event, values)

    def mend(self) -> None:
        """Take a last line away that was broken off, so that the next one is not glued to it.

        Raises:
            OSError: the file cannot be read or written.
        """
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            write_whole(self.path, content[: content.rfind(b"\n") + 1])

    def close(self) -> None:
        """Close the loggers."""
        loggers, self.loggers = self.loggers, ()
        for logger in loggers:
            logger.close()
