"""The processes of a cluster that this process has started: they end with it, however it ends.

Ray ends its workers with their raylet, but two of its agents outlive a process that was killed. So a follower, a
process of its own, waits for the end of this one and then kills what is left. Linux only: elsewhere Ray's own
ways count.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLLOWER = """
import os, sys
if os.fork():
    os._exit(0)
os.setsid()
sys.stdin.buffer.read()
sys.path.insert(0, sys.argv[1])
from processes import end
end({int(one.partition(":")[0]): one.partition(":")[2] for one in sys.argv[2:]})
"""
"""It forks, so that nobody who ends the children of this process ends it, and reads until this process is gone."""


@dataclass(frozen=True)
class LocalProcesses:
    """Processes that were started, by id.

    Attributes:
        born: when each was born, in the system's own words: ids are given again.
        follower: it waits for the end of this process; None where there is no /proc.
    """

    born: dict[int, str]
    follower: subprocess.Popen[bytes] | None

    @classmethod
    def since(cls, before: set[int]) -> LocalProcesses:
        """All children of this process and theirs, as they are now, without those that were there before."""
        new = descendants([os.getpid()]) - before
        born = {child: when for child in new if (when := born_at(child))}
        if not born:
            return cls({}, None)
        words = [f"{child}:{when}" for child, when in born.items()]
        follower = subprocess.Popen(
            [sys.executable, "-S", "-c", _FOLLOWER, str(Path(__file__).parent), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        follower.wait()  # it has forked
        return cls(born, follower)

    def end(self) -> None:
        """Kill them, and what they have started since."""
        end(self.born)
        if self.follower is not None and self.follower.stdin is not None:
            self.follower.stdin.close()


def end(born: dict[int, str]) -> None:
    """Kill processes and all below them.

    Args:
        born: when each was born, by id; another process that has got the id stays.
    """
    there = [one for one, when in born.items() if born_at(one) == when]
    for one in {*there, *descendants(there)}:
        with suppress(OSError):
            os.kill(one, signal.SIGKILL)


def descendants(roots: list[int]) -> set[int]:
    """Children of processes, and theirs; empty where there is no /proc."""
    parents = {int(file.name): _stat(file) for file in Path("/proc").glob("[0-9]*")}
    found: set[int] = set()
    below = set(roots)
    while below:
        below = {one for one, stat in parents.items() if stat and int(stat[1]) in below} - found
        found |= below
    return found


def born_at(process: int) -> str:
    """When a process was born, in ticks since the machine was started; "" where there is none."""
    stat = _stat(Path("/proc") / str(process))
    return stat[19] if stat else ""


def _stat(folder: Path) -> Any:
    """Fields of a process from the third on (state, parent, ...): the second, its name, may hold spaces."""
    with suppress(OSError):
        return (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return None
