"""Run folders compared."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from dkgzsl.cluster.processes import descendants

OF_ONE_CALL = ("environment.json", "result.json", "metrics.jsonl", "card.md", "report.html", "checksums.json")
"""Files that name the folder, the time or the machine."""


def files_of(folder: Path) -> dict[str, bytes]:
    """All but those that name the folder, the time or the machine."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in OF_ONE_CALL)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def result_of(folder: Path) -> dict[str, Any]:
    """What `result.json` says, but for its folder and seconds."""
    return json.loads((folder / "result.json").read_text()) | {"run": "", "seconds": 0}


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` without their seconds, but for the last, which has the folder."""
    *lines, last = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert last["event"] == "result"
    return [{**line, "seconds": 0} for line in lines]


def kill_a_worker() -> int:
    """The id of a worker that was at work, or had just been."""
    for process in sorted(descendants([os.getpid()])):
        with suppress(OSError):
            name = Path(f"/proc/{process}/cmdline").read_text()
            if name.startswith(("ray::_do", "ray::IDLE")):
                os.kill(process, signal.SIGKILL)
                return process
    raise AssertionError("there is no worker")
